"""What tensors a model's files hold, from the headers of its safetensors files: no weight is read.

A file begins with the length of its header in 8 bytes, little-endian, and the header, a JSON object of each tensor's
dtype, shape and offsets (https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Iterator

from vllmd.models import plain

_MAX_HEADER_BYTES = 100 << 20
"""The format's own limit."""
_MAX_INDEX_BYTES = 100 << 20
_MAX_FILES = 2000

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_NOT_TEXT = ("vision", "visual", "audio", "encoder")
_INDEX = "model.safetensors.index.json"
_WHOLE = "consolidated"
"""Mistral's own form of the same weights, which lies beside the usual one."""


def loaded_bytes(directory: pathlib.Path, layers: int | None) -> int | None:
    """Sum up what the weights in a directory take once they are loaded; `None` if it holds none that can be read.

    32-bit floats count half, as vLLM loads them with 16 bits where it is to choose. Tensors of layers beyond the
    model's are those of multi-token prediction, which vLLM leaves out.

    Args:
        directory: the model's.
        layers: how many layers the model has; `None` if that is not known.
    """
    try:
        sizes = [
            (size // 2 if dtype == "F32" else size)
            for path in _files(directory)
            for name, dtype, size in _tensors(path)
            if layers is None or _layer_of(name) < layers
        ]
    except (OSError, ValueError, ArithmeticError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return sum(sizes) if sizes else None


def _files(directory: pathlib.Path) -> list[pathlib.Path]:
    """List the files that make up the model, each once."""
    index = directory / _INDEX
    if index.is_file():
        names = set(json.loads(plain.read(index, _MAX_INDEX_BYTES))["weight_map"].values())
        if any("/" in name for name in names):
            raise ValueError("the index leads out of its directory")
    else:
        names = {path.name for path in directory.glob("*.safetensors")}
        usual = {name for name in names if not name.startswith(_WHOLE)}
        names = usual or names
    return [directory / name for name in sorted(names)][:_MAX_FILES]


def _tensors(path: pathlib.Path) -> Iterator[tuple[str, str, int]]:
    """Read names, dtypes and sizes in bytes from a file's header."""
    with plain.opened(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(file.read(length))
        size = os.fstat(file.fileno()).st_size
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = map(int, tensor["data_offsets"])
            if not 0 <= begin <= end <= size:
                raise ValueError(f"tensor {name} is not within the file")
            yield name, str(tensor["dtype"]), end - begin


def _layer_of(name: str) -> int:
    """Tell which layer of the language model a tensor is of; -1 if it is of none."""
    found = None if any(part in name for part in _NOT_TEXT) else _LAYER.search(name)
    return int(found[1]) if found else -1
