"""Random messages of any kind in the protos: mostly what a client could mean, some that none can, and broken bytes."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_DEPTH = 4
_MOST_ITEMS = 3
_INTEGERS = {
    **dict.fromkeys((FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32), (-(2**31), 2**31 - 1)),
    **dict.fromkeys((FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64), (-(2**63), 2**63 - 1)),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
_TEXTS = st.text(max_size=12) | st.sampled_from(
    (
        "",
        "\0",
        "\x1b[2J",
        "../../etc/passwd",
        "/",
        "/nonexistent",
        "a" * 5000,
        "engines/",
        "leases/x",
        "{",
        "(",
        "\u202e",
    )
)


def messages(descriptor: Descriptor, known: Mapping[str, tuple[str, ...]]) -> st.SearchStrategy[Message]:
    """Make messages of a kind.

    Args:
        descriptor: the kind.
        known: for names of fields the texts that mean something to the daemon, such as an engine that there is.
    """
    return _messages(descriptor, tuple(sorted(known.items())), _DEPTH)


def broken(whole: bytes) -> st.SearchStrategy[bytes]:
    """Break the bytes of a message: cut short, with a byte changed, or with something behind them."""
    places = st.integers(0, max(len(whole) - 1, 0))
    changed = st.tuples(places, st.binary(min_size=1, max_size=1)).map(
        lambda change: whole[: change[0]] + change[1] + whole[change[0] + 1 :]
    )
    return places.map(lambda end: whole[:end]) | changed | st.binary(max_size=40).map(lambda rest: whole + rest)


@functools.cache
def _messages(
    descriptor: Descriptor, known: tuple[tuple[str, tuple[str, ...]], ...], depth: int
) -> st.SearchStrategy[Message]:
    fields = {
        field.name: _values(field, known, depth)
        for field in descriptor.fields
        if depth > 0 or field.type != FieldDescriptor.TYPE_MESSAGE
    }

    def build(values: dict[str, Any]) -> Message:
        message = GetMessageClass(descriptor)()
        for name, value in values.items():
            _set(message, descriptor.fields_by_name[name], value)
        return message

    return st.fixed_dictionaries({}, optional=fields).map(build)


def _values(
    field: FieldDescriptor, known: tuple[tuple[str, tuple[str, ...]], ...], depth: int
) -> st.SearchStrategy[Any]:
    one: st.SearchStrategy[Any]
    if (kind := field.message_type) is not None:
        if kind.GetOptions().map_entry:
            key, value = (_values(kind.fields_by_name[name], known, depth - 1) for name in ("key", "value"))
            return st.dictionaries(key, value, max_size=_MOST_ITEMS)
        one = _messages(kind, known, depth - 1)
    elif field.type in _INTEGERS:
        least, most = _INTEGERS[field.type]
        one = st.sampled_from((least, -1, 0, 1, 2, 8, most)) | st.integers(least, most)
        one = one.filter(lambda value: least <= value <= most)
    elif field.type in _FLOATS:
        one = st.sampled_from((0.0, 0.5, 1.0, -1.0, math.nan, math.inf, 1e300)) | st.floats(width=32)
    elif field.type == FieldDescriptor.TYPE_BOOL:
        one = st.booleans()
    elif field.enum_type is not None:
        one = st.sampled_from([*(value.number for value in field.enum_type.values), 99, -1])
    elif field.type == FieldDescriptor.TYPE_BYTES:
        one = st.binary(max_size=20)
    else:
        meant = dict(known).get(field.name, ())
        one = st.sampled_from(meant) | _TEXTS if meant else _TEXTS
    return st.lists(one, max_size=_MOST_ITEMS) if field.is_repeated else one


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    if isinstance(value, dict):
        entries = getattr(message, field.name)
        for key, item in value.items():
            if isinstance(item, Message):
                entries[key].CopyFrom(item)
            else:
                entries[key] = item
    elif isinstance(value, list):
        getattr(message, field.name).extend(value)
    elif isinstance(value, Message):
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)
