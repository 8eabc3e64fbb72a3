"""What tensors a model's files hold, from the headers of its safetensors files: no weight is read.

A file begins with the length of its header in 8 bytes, little-endian, and the header, a JSON object of each tensor's
dtype, shape and offsets (https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vllmd.models import plain

INDEX = "model.safetensors.index.json"

_MAX_HEADER_BYTES = 16 << 20
"""The format allows 100 MB, which some 100,000 tensors do not fill. Nothing else of Python runs while one is parsed."""
_MAX_HEADERS_BYTES = 64 << 20
"""Of all files of a model: thousands of names may lead to one file."""
_MAX_INDEX_BYTES = 32 << 20
"""That of Kimi K2, with 140,000 tensors, takes half of it."""
_POINTER = b"version https://git-lfs"

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_NOT_TEXT = ("vision", "visual", "audio", "encoder")

_MALFORMED = (ValueError, ArithmeticError, KeyError, TypeError, AttributeError, RecursionError)


class Unreadable(Exception):
    """A file is not what its name says; the message says in a phrase why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Index:
    """Which files a model's weights are divided among."""

    names: frozenset[str]
    total_bytes: int | None
    """What all tensors take, if it says so."""
    tensors: tuple[str, ...]


def read_index(directory: pathlib.Path) -> Index | None:
    """Read a directory's index; `None` if it has none.

    Raises:
        Unreadable: it is not one.
    """
    path = directory / INDEX
    try:
        if not path.is_file():
            return None
        content = json.loads(plain.read(path, _MAX_INDEX_BYTES))
        weights = content["weight_map"]
        names = frozenset(map(str, weights.values()))
        total = content.get("metadata", {}).get("total_size")
    except (OSError, *_MALFORMED) as error:
        raise Unreadable("their index can't be read") from error
    if any("/" in name for name in names):
        raise Unreadable("their index leads out of its directory")
    return Index(names, _whole(total), tuple(map(str, weights)))


def bytes_by_dtype(paths: Iterable[pathlib.Path], layers: int | None) -> dict[str, int]:
    """Sum up what the tensors in some files take, by their dtypes.

    Tensors of layers beyond the model's are those of multi-token prediction, which vLLM leaves out.

    Args:
        paths: the files.
        layers: how many layers the model has; `None` if that is not known.

    Raises:
        Unreadable: one of them is no such file, or is cut short.
    """
    sizes: Counter[str] = Counter()
    left = _MAX_HEADERS_BYTES
    for path in paths:
        try:
            length, tensors = _tensors(path, left)
            left -= length
            for name, dtype, size in tensors:
                if layers is None or layer_of(name) < layers:
                    sizes[dtype] += size
        except OSError as error:
            raise Unreadable(f"{_short(path.name)} can't be read: {error.strerror}") from error
        except _MALFORMED as error:
            raise Unreadable(f"{_short(path.name)} is no safetensors file") from error
    return dict(sizes)


def loaded_bytes(by_dtype: Mapping[str, int]) -> int:
    """Tell what tensors take once they are loaded: 32-bit floats half, where vLLM is to choose."""
    return sum(size // 2 if dtype == "F32" else size for dtype, size in by_dtype.items())


def layer_of(name: str) -> int:
    """Tell which layer of the language model a tensor is of; -1 if it is of none."""
    found = None if any(part in name for part in _NOT_TEXT) else _LAYER.search(name)
    return int(found[1]) if found and len(found[1]) < 10 else -1


def _tensors(path: pathlib.Path, most_bytes: int) -> tuple[int, Iterator[tuple[str, str, int]]]:
    """Read the length of a file's header, and the names, dtypes and sizes in bytes that it has."""
    with plain.opened(path) as file:
        start, size = file.read(len(_POINTER)), os.fstat(file.fileno()).st_size
        if start == _POINTER:
            raise Unreadable(f"{_short(path.name)} is a pointer of Git LFS: git lfs pull fetches the file")
        length = int.from_bytes(start[:8], "little")
        if len(start) < 8 or (length <= _MAX_HEADER_BYTES and size < 8 + length):
            raise Unreadable(f"{_short(path.name)} is cut short")
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        if length > most_bytes:
            raise Unreadable(f"the headers of all files come to more than {_MAX_HEADERS_BYTES >> 20} MiB")
        file.seek(8)
        header: Mapping[str, Any] = json.loads(file.read(length))
    return length, _sizes(path, header, size - 8 - length)


def _sizes(path: pathlib.Path, header: Mapping[str, Any], there: int) -> Iterator[tuple[str, str, int]]:
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = map(int, tensor["data_offsets"])
            if not 0 <= begin <= end:
                raise ValueError(f"tensor {name} ends before it begins")
            if end > there:
                raise Unreadable(f"{_short(path.name)} is cut short")
            yield name, str(tensor["dtype"]), end - begin


def _whole(value: object) -> int | None:
    """Take a size that an index states, which some write as a float."""
    return int(value) if isinstance(value, int | float) and 0 < value < 1 << 60 else None


def _short(name: str) -> str:
    """Put a file's name, which may be any bytes, so that it can be shown."""
    shown = name.encode(errors="replace").decode()
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
