"""How what stands in a file or in the environment becomes the value of a setting, or is refused. Pure."""

from __future__ import annotations

import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import pydantic

from vllmd.config import Settings
from vllmd.configuration.problems import nearest
from vllmd.configuration.shapes import PROGRAMS, Shape, allowed, choices, shape
from vllmd.gpu import products

_NEEDED: Mapping[str, Any] = {
    **dict.fromkeys(("socket", "runtime_dir", "state_dir", "cache_dir"), pathlib.Path("/")),
    "backend": "fake",
}
"""What settings can't be made without, so that one of them can be checked alone."""


class Wrong(ValueError):
    """A value that the setting can't have; the message says what it may be."""


def check(name: str, value: Any) -> Any:
    """Check a value of the right type; returns it as `Settings` has it.

    Raises:
        Wrong: it is out of range.
    """
    try:
        settings = Settings.model_validate({**_NEEDED, name: value})
        if name == "simulate" and value is not None:
            products.parse(value)
    except pydantic.ValidationError:
        raise Wrong(f"must be {allowed(name)}, and is {shown(name, value)}") from None
    except ValueError as error:
        raise Wrong(str(error).rstrip(".")) from None
    return getattr(settings, name)


def of_toml(name: str, value: object) -> Any:
    """Take a value that stands in a file; those of `engine_args` are for `argument`.

    Raises:
        Wrong: it is of another type, or out of range.
    """
    read = _FROM_TOML[shape(name)](name, value)
    if read is None:
        raise Wrong(f"must be {allowed(name)}, and is {_toml(value)}{_meant(name, value)}")
    return check(name, read)


def of_text(name: str, text: str) -> Any:
    """Take a value that stands in the environment; raises as `of_toml` does."""
    value: object = text
    match shape(name):
        case Shape.SECONDS | Shape.COUNT | Shape.BYTES:
            value = _number(text)
        case Shape.NAMES | Shape.VARIABLES:
            value = text.replace(",", " ").split()
        case Shape.PATHS:
            value = [part for part in text.split(os.pathsep) if part]
        case Shape.PATH if text:
            return check(name, pathlib.Path(text))
        case _:
            pass
    return of_toml(name, value)


def argument(value: object) -> Any:
    """Take the value of an engine argument; it must be one that clients can be told, which is JSON.

    Raises:
        Wrong: it is no such value.
    """
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise Wrong(f"must be a text, a number, a list or a table, and is {_toml(value)}") from None
    return value


def text_argument(text: str) -> Any:
    """Read the value of an engine argument from a text: as JSON if it is that, else as it is."""
    try:
        return argument(json.loads(text))
    except (ValueError, RecursionError):
        return text


def shown(name: str, value: object) -> str:
    """Write a value for people, as the setting is written."""
    return f'"{value:o}"' if shape(name) is Shape.MODE and isinstance(value, int) else _toml(value)


def _number(text: str) -> object:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            pass  # then it is the other kind, or none
    return text


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _mode(value: object) -> int | None:
    return int(value, 8) if isinstance(value, str) and re.fullmatch(r"[0-7]{1,6}", value) else None


def _path(name: str, value: object) -> pathlib.Path | None:
    if not isinstance(value, str) or "\0" in value:
        return None
    path = pathlib.Path(value)
    return path if path.is_absolute() or (name in PROGRAMS and value and "/" not in value) else None


def _bytes(value: object) -> object:
    return value if isinstance(value, str) else _whole(value)


def _names(value: object) -> tuple[str, ...] | None:
    if isinstance(value, list) and all(isinstance(one, str) and one.isidentifier() for one in value):
        return tuple(value)
    return None


def _paths(value: object) -> tuple[pathlib.Path, ...] | None:
    found = [_path("", one) for one in value] if isinstance(value, list) else [None]
    return None if None in found else tuple(path for path in found if path is not None)


def _meant(name: str, value: object) -> str:
    if shape(name) is Shape.CHOICE and isinstance(value, str) and (near := nearest(value, choices(name))):
        return f"; the nearest is {near}"
    return ""


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case tuple() | list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case dict():
            return "a table"
        case _:
            return str(value)


_FROM_TOML: Mapping[Shape, Callable[[str, object], object]] = {
    Shape.SECONDS: lambda name, value: value if _is_number(value) else None,
    Shape.COUNT: lambda name, value: _whole(value),
    Shape.BYTES: lambda name, value: _bytes(value),
    Shape.MODE: lambda name, value: _mode(value),
    Shape.PATH: _path,
    Shape.CHOICE: lambda name, value: value if isinstance(value, str) and value in choices(name) else None,
    Shape.TEXT: lambda name, value: value if isinstance(value, str) and value else None,
    Shape.NAMES: lambda name, value: _names(value),
    Shape.VARIABLES: lambda name, value: tuple(value) if isinstance(value, list) else None,
    Shape.PATHS: lambda name, value: _paths(value),
}
