"""Python values as the protos have them; what they can't have is an error that says which value it is. Pure."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

Seconds = float | timedelta
_Made = TypeVar("_Made", bound=Message)

_WORDS = {
    FieldDescriptor.CPPTYPE_INT32: "a whole number",
    FieldDescriptor.CPPTYPE_INT64: "a whole number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_BOOL: "True or False",
    FieldDescriptor.CPPTYPE_STRING: "text",
}


def made(kind: type[_Made], **fields: Any) -> _Made:
    """Make a message of its fields; one that is `None` is left out.

    Raises:
        TypeError: a field is of another type.
        ValueError: it is out of the range of its type.
    """
    for name, value in fields.items():
        # Protobuf would take it for a list of letters.
        if isinstance(value, str) and kind.DESCRIPTOR.fields_by_name[name].is_repeated:
            raise TypeError(_another_type(kind, name, value))
    try:
        return kind(**fields)
    except (TypeError, ValueError):
        for name, value in fields.items():
            _check(kind, name, value)
        raise


def duration(value: Seconds | None) -> Duration | None:
    """Seconds as the protos have them.

    Raises:
        TypeError: it is no time.
        ValueError: it is none that could be.
    """
    if value is None:
        return None
    result = Duration()
    try:
        result.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    except TypeError:
        raise TypeError(f"a time is seconds or a timedelta, not {reprlib.repr(value)}") from None
    except (ValueError, OverflowError):
        raise ValueError(f"a time can't be {value}") from None
    return result


def struct(values: Mapping[str, Any], of: str) -> Struct:
    """Values by name, as JSON has them; *of* is what they are called together, in an error."""
    result = Struct()
    for name, value in mapping(values, of).items():
        try:
            result[name] = value
        except RecursionError:
            raise ValueError(f"{of}: {name!r} is nested too deep") from None
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{of}: {name!r} can't be {reprlib.repr(value)}, which JSON can't say") from None
    return result


def mapping(values: Any, of: str) -> Mapping[str, Any]:
    """Return the same, if it is values by name; raises `TypeError` otherwise."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{of} takes values by name, not {reprlib.repr(values)}")
    if (wrong := next((name for name in values if not isinstance(name, str)), None)) is not None:
        raise TypeError(f"{of}: a name is text, not {reprlib.repr(wrong)}")
    named: Mapping[str, Any] = values
    return named


def _check(kind: type[Message], name: str, value: object) -> None:
    try:
        kind(**{name: value})
    except TypeError:
        raise TypeError(_another_type(kind, name, value)) from None
    except ValueError as error:
        raise ValueError(f"{name} can't be {reprlib.repr(value)}: {error}") from None


def _another_type(kind: type[Message], name: str, value: object) -> str:
    return f"{name} takes {_expected(cast('Descriptor', kind.DESCRIPTOR), name)}, not {reprlib.repr(value)}"


def _expected(message: Descriptor, name: str) -> str:
    field = message.fields_by_name[name]
    of = field.message_type
    if of is not None and of.GetOptions().map_entry:
        return f"a mapping of {_expected(of, 'key')} to {_expected(of, 'value')}"
    one = _WORDS.get(field.cpp_type, "a value") if of is None else of.name
    return f"a list, each {one}" if field.is_repeated else one
