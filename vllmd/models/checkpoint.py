"""Which weight files a model has, and what they come to once they are loaded.

Files count as vLLM takes them (`model_loader/weight_utils.py` of its 0.25.1): safetensors before PyTorch's, those that
an index names before all others, and none that only training needs.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping

from vllmd.models import safetensors
from vllmd.models.facts import ModelFacts
from vllmd.models.safetensors import Index, Unreadable

_MOST_FILES = 2000
_MOST_DTYPES = 20
_OF_TRAINING = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")
_MISTRAL_OWN = "consolidated"
"""Mistral's own form of the same weights, which lies beside the usual one."""
_PLAUSIBLE_BYTES = (0.3, 4.5)
"""What a parameter may take on disk on average: beyond, a size that is only stated is not believed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What the hub says that a model's files are, which may not be here yet."""

    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Of each file, in bytes."""
    bytes_by_dtype: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What all tensors take, by dtype; nothing if the hub has not looked into the files."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is known of a model's weight files."""

    weight_bytes: int | None = None
    """Once loaded; `None` if that is not known."""
    bytes_by_dtype: tuple[tuple[str, int], ...] = ()
    files: tuple[tuple[str, int], ...] = ()
    """Their names and sizes."""
    note: str = ""
    """What is wrong or missing, in a phrase; empty if nothing is."""


def read(directory: pathlib.Path, model: ModelFacts, listing: Listing | None = None) -> Checkpoint:
    """Find the weight files of a model in its directory, and what they take.

    Args:
        directory: the model's.
        model: what its configuration says.
        listing: what the hub says of files that are not here.
    """
    try:
        here = _files_in(directory)
    except OSError as error:
        return Checkpoint(note=f"the weights can't be looked for: {error.strerror}")
    sizes = {**(listing.sizes if listing else {}), **here}
    try:
        index = safetensors.read_index(directory)
        names = sorted(index.names) if index else select(sizes)
        files = tuple((name, sizes[name]) for name in names if name in sizes)[:_MOST_FILES]
        if not names:
            return Checkpoint(note=_why_none(sizes))
        missing = [name for name in names if name not in here]
        if missing:
            return _of_files_elsewhere(model, files, index, listing, f"{len(missing)} of {len(names)} weight files")
        if not names[0].endswith(".safetensors"):
            total = sum(size for _, size in files)
            return Checkpoint(weight_bytes=_as_loaded(total, model), files=files)
        found = safetensors.bytes_by_dtype([directory / name for name in names[:_MOST_FILES]], model.layers)
    except Unreadable as error:
        return Checkpoint(files=_sized(sizes, select(sizes)), note=f"the size of the weights is not known: {error}")
    loaded = safetensors.loaded_bytes(found) or None
    return Checkpoint(weight_bytes=loaded, bytes_by_dtype=_sorted(found), files=files)


def weights(directory: pathlib.Path) -> list[pathlib.Path]:
    """List the weight files of a directory that vLLM would load, and their index, by their names alone."""
    try:
        here = _files_in(directory)
    except OSError:
        return []
    try:
        index = safetensors.read_index(directory)
    except Unreadable:
        index = None
    names = sorted(index.names) if index else select(here)
    return [directory / name for name in (safetensors.INDEX, *names[:_MOST_FILES])]


def select(names: Collection[str]) -> list[str]:
    """Choose the files that vLLM loads where no index says."""
    safe = sorted(name for name in names if name.endswith(".safetensors") and not name.startswith("adapter_"))
    usual = [name for name in safe if not name.startswith(_MISTRAL_OWN)]
    for found in (usual, safe, *(_pytorch(names, ending) for ending in (".bin", ".pt"))):
        if found:
            return found
    return []


def why_no_model(names: Collection[str]) -> str | None:
    """Say what a directory without a configuration holds in place of a model; `None` if nothing that is known."""
    if "adapter_config.json" in names:
        return "a LoRA adapter, which is no model by itself: load the model that its adapter_config.json names"
    if any(name.endswith(".gguf") for name in names):
        return "a model in GGUF, which is not supported: load the model that it was made from, in safetensors"
    return None


def _pytorch(names: Collection[str], ending: str) -> list[str]:
    return sorted(name for name in names if name.endswith(ending) and not name.endswith(_OF_TRAINING))


def _files_in(directory: pathlib.Path) -> dict[str, int]:
    """List a directory's files with their sizes; links to nowhere, as to files that were not fetched, are none."""
    found = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                if entry.is_file():
                    found[entry.name] = entry.stat().st_size
            except OSError:
                continue  # removed meanwhile, or out of bounds: as good as not there
    return found


def _of_files_elsewhere(
    model: ModelFacts,
    files: tuple[tuple[str, int], ...],
    index: Index | None,
    listing: Listing | None,
    missing: str,
) -> Checkpoint:
    """Work out what files take that are not all here, by what is said of them: the hub, or their index."""
    note = f"{missing} are yet to be fetched" if listing else f"{missing} are not here"
    more = _has_more_layers(model, index)
    if listing and listing.bytes_by_dtype and not more:
        loaded = _plausible(safetensors.loaded_bytes(listing.bytes_by_dtype), model)
        return Checkpoint(weight_bytes=loaded, bytes_by_dtype=_sorted(listing.bytes_by_dtype), files=files, note=note)
    total = index.total_bytes if index else sum(size for _, size in files) if listing else None
    loaded = None if total is None or more else _plausible(_as_loaded(total, model), model)
    return Checkpoint(weight_bytes=loaded, files=files, note=note)


def _has_more_layers(model: ModelFacts, index: Index | None) -> bool:
    """Tell whether there are layers that vLLM leaves out, as those of multi-token prediction."""
    if index is None or model.layers is None:
        return False
    return any(safetensors.layer_of(name) >= model.layers for name in index.tensors)


def _plausible(size: int, model: ModelFacts) -> int | None:
    """Believe a size that is only stated where it suits the number of parameters."""
    if model.parameters is None:
        return size
    least, most = (model.parameters.total * each for each in _PLAUSIBLE_BYTES)
    return size if least <= size <= most else None


def _as_loaded(size: int, model: ModelFacts) -> int:
    """Tell what files of a model take once they are loaded: 32-bit floats half."""
    return size // 2 if model.dtype in ("float32", "float") else size


def _why_none(names: Collection[str]) -> str:
    gguf = any(name.endswith(".gguf") for name in names)
    return "the weights are in GGUF, which is not read" if gguf else "there are no weight files"


def _sized(sizes: Mapping[str, int], names: Collection[str]) -> tuple[tuple[str, int], ...]:
    return tuple((name, sizes[name]) for name in names)[:_MOST_FILES]


def _sorted(by_dtype: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(by_dtype.items(), key=lambda one: -one[1]))[:_MOST_DTYPES]
