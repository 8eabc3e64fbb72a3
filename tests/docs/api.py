"""docs/api.md, made of the comments of the protos."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

from vllmd import catalog

PROTO = Path(__file__).parents[2] / "proto"
_PACKAGE = ".vllmd.v1."
_INTRO = """\
# API reference

<!-- Made of the protos' comments: make docs -->

The gRPC API `vllmd.v1`. The protos are in [`proto/vllmd/v1`](../proto/vllmd/v1), the generated Python in `vllmd.v1`;
reflection and `grpc.health.v1` are served too. Errors are in [errors.md](errors.md), who may call what in
[access.md](access.md), and what engines, leases and plans are in [concepts.md](concepts.md).

A field that is `optional` is told apart when it is not set; what is not set otherwise is zero or empty.
"""
# Field numbers of descriptor.proto, by which the places of comments are named.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_METHODS, _FIELDS, _NESTED, _NESTED_ENUMS, _VALUES, _ONEOFS = 2, 2, 3, 4, 2, 8
_REASON = re.compile(r"`([A-Z][A-Z0-9_]+)`")
_KINDS = {value: name.removeprefix("TYPE_").lower() for name, value in FieldDescriptorProto.Type.items()}


@functools.cache
def described() -> FileDescriptorSet:
    """Have buf compile the protos, with their comments."""
    buf = Path(sys.executable).with_name("buf")
    made = subprocess.run([buf, "build", PROTO, "-o", "-"], capture_output=True, check=True)
    return FileDescriptorSet.FromString(made.stdout)


def page() -> str:
    """Write the page: services first, then what they take and give, file by file."""
    files = sorted((file for file in described().file if file.package == "vllmd.v1"), key=lambda file: file.name)
    return "\n".join([_INTRO, *(part for file in files for part in _File(file).services()), *_messages(files)])


def _reason(name: str) -> str:
    known = catalog.find(name) in catalog.SENT
    return f"[`{name}`](errors.md#{name.lower()})" if known else f"`{name}`"


def _messages(files: list[FileDescriptorProto]) -> Iterator[str]:
    for file in files:
        yield from _File(file).messages()


class _File:
    """One proto."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}

    def _about(self, *path: int) -> str:
        """A comment in one line; reasons of errors lead to what is said of them."""
        text = " ".join(self._comments.get(path, "").split())
        return _REASON.sub(lambda match: _reason(match[1]), text)

    def services(self) -> Iterator[str]:
        for index, service in enumerate(self._file.service):
            yield f"## {service.name}\n\n{self._about(_SERVICES, index)}\n"
            for number, method in enumerate(service.method):
                yield self._method(service, method, self._about(_SERVICES, index, _METHODS, number))

    def _method(self, service: ServiceDescriptorProto, method: MethodDescriptorProto, about: str) -> str:
        stream = "stream of " if method.server_streaming else ""
        call = f"{_linked(method.input_type)} → {stream}{_linked(method.output_type)}"
        return f"### {service.name}.{method.name}\n\n{call}\n\n{about}\n"

    def messages(self) -> Iterator[str]:
        file = self._file
        if not file.message_type and not file.enum_type:
            return
        yield f"## {Path(file.name).name}\n\n{self._about(12)}\n"
        for index, enum in enumerate(file.enum_type):
            yield self._enum(enum.name, enum, (_ENUMS, index))
        for index, message in enumerate(file.message_type):
            yield from self._message(message.name, message, (_MESSAGES, index))

    def _message(self, name: str, message: DescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        rows = [
            f"| `{field.name}` | {_type(message, field)} | {self._field(message, field, (*path, _FIELDS, number))} |"
            for number, field in enumerate(message.field)
        ]
        choices = [
            f"One of {', '.join(f'`{field}`' for field in fields)}: {self._about(*path, _ONEOFS, number)}\n"
            for number, fields in _choices(message)
        ]
        table = "\n".join(["| field | type | |", "|---|---|---|", *rows]) + "\n" if rows else "No fields.\n"
        yield "\n".join([f"### {name}\n", f"{self._about(*path)}\n", table, *choices])
        for number, enum in enumerate(message.enum_type):
            yield self._enum(f"{name}.{enum.name}", enum, (*path, _NESTED_ENUMS, number))
        for number, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                yield from self._message(f"{name}.{nested.name}", nested, (*path, _NESTED, number))

    def _field(self, message: DescriptorProto, field: FieldDescriptorProto, path: tuple[int, ...]) -> str:
        return self._about(*path).replace("|", "\\|")

    def _enum(self, name: str, enum: EnumDescriptorProto, path: tuple[int, ...]) -> str:
        rows = [
            f"| `{value.name}` | {value.number} | {self._about(*path, _VALUES, number)} |"
            for number, value in enumerate(enum.value)
        ]
        table = "\n".join(["| value | | |", "|---|---|---|", *rows]) + "\n"
        return f"### {name}\n\n{self._about(*path)}\n\n{table}"


def _choices(message: DescriptorProto) -> Iterator[tuple[int, list[str]]]:
    """List the oneofs with their fields; those that only stand for `optional` are none."""
    for number, _ in enumerate(message.oneof_decl):
        inside = [one for one in message.field if one.HasField("oneof_index") and one.oneof_index == number]
        if not any(one.proto3_optional for one in inside):
            yield number, [one.name for one in inside]


def _type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    entries = [nested for nested in message.nested_type if nested.options.map_entry]
    entry = next((one for one in entries if repeated and field.type_name.endswith(f".{one.name}")), None)
    if entry is not None:
        key, value = entry.field
        return f"map of {_kind(key)} to {_kind(value)}"
    before = "repeated " if repeated else "optional " if field.proto3_optional else ""
    return f"{before}{_kind(field)}"


def _kind(field: Any) -> str:
    return _linked(field.type_name) if field.type_name else _KINDS[field.type]


def _linked(type_name: str) -> str:
    if not type_name.startswith(_PACKAGE):
        return f"`{type_name.removeprefix('.')}`"
    name = type_name.removeprefix(_PACKAGE)
    return f"[{name}](#{name.lower().replace('.', '')})"
