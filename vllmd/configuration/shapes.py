"""How each setting is written, by its type and unit, and what it may be, in words. Pure."""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from typing import Any

import annotated_types

from vllmd.config import Settings, Unit

PROGRAMS = frozenset({"engine_python"})
"""Paths that may be the bare name of a program instead."""


class Shape(enum.Enum):
    """How a setting is written."""

    SECONDS = "a number of seconds"
    COUNT = "a whole number"
    BYTES = 'a number of bytes, or a text such as "64GiB",'
    MODE = 'an octal mode as text, such as "660"'
    PATH = "an absolute path"
    CHOICE = "one of"
    TEXT = "a text"
    VARIABLES = 'a list of names of variables, or patterns such as "AWS_*"'
    NAMES = "a list of names of engine arguments"
    PATHS = "a list of absolute paths"
    ARGUMENTS = "a table of engine arguments"


def shape(name: str) -> Shape:
    """Tell how a setting is written, by its type and unit."""
    field = Settings.model_fields[name]
    kind = _type(field.annotation)
    units = {mark.name for mark in _marks(name) if isinstance(mark, Unit)}
    if "seconds" in units:
        return Shape.SECONDS
    if "octal" in units:
        return Shape.MODE
    if "bytes" in units:
        return Shape.BYTES
    if "variables" in units:
        return Shape.VARIABLES
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return Shape.CHOICE
    if origin is tuple:
        return Shape.PATHS if pathlib.Path in typing.get_args(kind) else Shape.NAMES
    if origin is dict:
        return Shape.ARGUMENTS
    return {int: Shape.COUNT, pathlib.Path: Shape.PATH, str: Shape.TEXT}[kind]


def choices(name: str) -> tuple[str, ...]:
    """List what a setting of a few words may be."""
    return tuple(typing.get_args(_type(Settings.model_fields[name].annotation)))


def allowed(name: str) -> str:
    """Say what a setting may be, as in `must be …`."""
    written = shape(name)
    match written:
        case Shape.CHOICE:
            return "one of " + ", ".join(choices(name))
        case Shape.MODE:
            return f"{written.value}, from 000 to 777"
        case Shape.TEXT:
            return f'a text, such as "{(Settings.model_fields[name].examples or [""])[0]}"'
        case Shape.PATH if name in PROGRAMS:
            return "an absolute path, or the name of a program"
        case _:
            return " ".join([written.value, _range(name)]).strip(" ,")


def _range(name: str) -> str:
    words = []
    for mark in _marks(name):
        match mark:
            case annotated_types.Ge(ge=bound):
                words.append(f"of at least {bound:g}" if isinstance(bound, float) else f"of at least {bound}")
            case annotated_types.Gt(gt=bound):
                words.append(f"greater than {bound}")
            case annotated_types.Le(le=bound):
                words.append(f"at most {bound}")
            case _:
                pass
    return " and ".join(words)


def _marks(name: str) -> list[Any]:
    """List what is said about the type of a setting, also where it may be left out."""
    field = Settings.model_fields[name]
    inner = [mark for part in typing.get_args(field.annotation) for mark in getattr(part, "__metadata__", ())]
    return [*field.metadata, *inner]


def _type(annotation: Any) -> Any:
    """Strip `| None` and what is said about the type from an annotation."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    return getattr(annotation, "__origin__", annotation) if hasattr(annotation, "__metadata__") else annotation
