from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.safetensors import write
from vllmd.models import checkpoint
from vllmd.models.checkpoint import Listing
from vllmd.models.facts import ModelFacts
from vllmd.models.layers import Kind
from vllmd.models.parameters import Parameters

MODEL = ModelFacts(kinds=(Kind.FULL,) * 2, dtype="bfloat16", parameters=Parameters(linear=50))


def put_index(directory: Path, tensors: dict[str, str], total: int | None = None) -> None:
    """Write an index."""
    content = {"metadata": {} if total is None else {"total_size": total}, "weight_map": tensors}
    (directory / "model.safetensors.index.json").write_text(json.dumps(content))


def test_safetensors_come_before_pytorch(tmp_path: Path) -> None:
    """Many models are published as both."""
    write(tmp_path / "model.safetensors", {"a": ("BF16", 80), "b": ("F32", 40)})
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(999))
    found = checkpoint.read(tmp_path, MODEL)

    assert (found.weight_bytes, found.bytes_by_dtype, found.note) == (100, (("BF16", 80), ("F32", 40)), "")
    assert [name for name, _ in found.files] == ["model.safetensors"]


@pytest.mark.parametrize(("dtype", "loaded"), [("bfloat16", 100), ("float32", 50)])
def test_pytorch_files_are_as_large_as_they_are(tmp_path: Path, dtype: str, loaded: int) -> None:
    """Their headers are not read, so what dtype they have is what the configuration says."""
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(100))
    (tmp_path / "training_args.bin").write_bytes(bytes(7))
    found = checkpoint.read(tmp_path, dataclasses.replace(MODEL, dtype=dtype))

    assert (found.weight_bytes, found.files, found.note) == (loaded, (("pytorch_model.bin", 100),), "")


def test_the_index_says_which_files_count(tmp_path: Path) -> None:
    """Others may be left from an earlier version."""
    write(tmp_path / "model-1-of-1.safetensors", {"a": ("BF16", 10)})
    write(tmp_path / "old.safetensors", {"a": ("BF16", 10)})
    put_index(tmp_path, {"a": "model-1-of-1.safetensors"})

    assert checkpoint.read(tmp_path, MODEL).weight_bytes == 10


def test_the_same_weights_in_another_form_count_once(tmp_path: Path) -> None:
    """Mistral publishes both; where there is only its own form, that counts."""
    write(tmp_path / "consolidated.safetensors", {"a": ("BF16", 10)})
    alone = checkpoint.read(tmp_path, MODEL).weight_bytes
    write(tmp_path / "model.safetensors", {"a": ("BF16", 10)})

    assert (alone, checkpoint.read(tmp_path, MODEL).weight_bytes) == (10, 10)


@pytest.mark.parametrize(
    ("total", "tensors", "loaded"),
    [
        (100, {"model.layers.0.w": "1.safetensors", "model.layers.1.w": "2.safetensors"}, 100),
        (10_000, {"a": "1.safetensors", "b": "2.safetensors"}, None),
        (None, {"a": "1.safetensors", "b": "2.safetensors"}, None),
        (100, {"a": "1.safetensors", "model.layers.2.mtp": "2.safetensors"}, None),
    ],
    ids=["believed", "out of proportion", "not stated", "with layers that are not loaded"],
)
def test_files_that_are_missing_are_told_and_the_index_may_say_their_size(
    tmp_path: Path, total: int | None, tensors: dict[str, str], loaded: int | None
) -> None:
    """Where that suits the number of parameters, and all of it is loaded."""
    write(tmp_path / "1.safetensors", {"a": ("BF16", 50)})
    put_index(tmp_path, tensors, total)
    found = checkpoint.read(tmp_path, MODEL)

    assert found.weight_bytes == loaded
    assert found.note == "1 of 2 weight files are not here"


def test_the_hub_says_what_is_yet_to_be_fetched(tmp_path: Path) -> None:
    """By dtype where it has looked into the files, and by their sizes otherwise."""
    sizes = {"model.safetensors": 108, "README.md": 7}
    looked = checkpoint.read(tmp_path, MODEL, Listing(sizes=sizes, bytes_by_dtype={"BF16": 60, "F32": 80}))
    listed = checkpoint.read(tmp_path, MODEL, Listing(sizes=sizes))

    assert (looked.weight_bytes, looked.bytes_by_dtype) == (100, (("F32", 80), ("BF16", 60)))
    assert (listed.weight_bytes, listed.bytes_by_dtype) == (108, ())
    assert looked.files == listed.files == (("model.safetensors", 108),)
    assert looked.note == "1 of 1 weight files are yet to be fetched"


def test_files_are_the_same_before_and_after_they_are_fetched(tmp_path: Path) -> None:
    """By their names and sizes, which tell a model from another."""
    file = tmp_path / "model.safetensors"
    write(file, {"a": ("BF16", 100)})
    size = file.stat().st_size
    after = checkpoint.read(tmp_path, MODEL).files
    file.unlink()

    assert checkpoint.read(tmp_path, MODEL, Listing(sizes={file.name: size})).files == after


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "there are no weight files"),
        (["README.md", "adapter_model.safetensors"], "there are no weight files"),
        (["model-q4.gguf"], "the weights are in GGUF, which is not read"),
    ],
)
def test_a_directory_without_weights(tmp_path: Path, names: list[str], why: str) -> None:
    """What is known is that there are none: an engine that makes its own up needs none."""
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    found = checkpoint.read(tmp_path, MODEL)

    assert (found.weight_bytes, found.files, found.note) == (None, (), why)


def test_a_file_that_is_cut_short_is_told(tmp_path: Path) -> None:
    """As a copy that was broken off leaves it."""
    write(tmp_path / "model.safetensors", {"a": ("BF16", 100)})
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(90)
    found = checkpoint.read(tmp_path, MODEL)

    assert found.weight_bytes is None
    assert found.note == "the size of the weights is not known: model.safetensors is cut short"


def test_a_link_to_nowhere_is_no_file(tmp_path: Path) -> None:
    """As a snapshot of the hub's has where a file was not fetched."""
    (tmp_path / "pytorch_model.bin").symlink_to(tmp_path / "missing")

    assert checkpoint.read(tmp_path, MODEL).note == "there are no weight files"


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    """It may be unmounted at any time."""
    assert checkpoint.read(tmp_path / "gone", MODEL).note == (
        "the weights can't be looked for: No such file or directory"
    )


@pytest.mark.parametrize(
    ("names", "what"),
    [(["adapter_config.json", "adapter_model.safetensors"], "LoRA adapter"), (["m.gguf"], "GGUF"), (["a"], None)],
)
def test_what_is_there_in_place_of_a_model_is_named(names: list[str], what: str | None) -> None:
    """With what to load instead."""
    found = checkpoint.why_no_model(names)

    assert (found is None) if what is None else (found is not None and what in found and "load the model" in found)


sizes = st.dictionaries(st.text(max_size=8), st.integers(0, 1 << 60), max_size=4)


@given(sizes, st.dictionaries(st.sampled_from(["BF16", "F32", "I32"]), st.integers(0, 1 << 60)))
def test_whatever_the_hub_says_is_taken(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, int], by_dtype: dict[str, int]
) -> None:
    """A size that is known is one that suits the parameters."""
    directory = tmp_path_factory.getbasetemp()
    found = checkpoint.read(directory, MODEL, Listing(sizes=files, bytes_by_dtype=by_dtype))

    assert found.weight_bytes is None or 15 <= found.weight_bytes <= 225


def test_the_files_that_vllm_would_load_are_named_without_being_read(tmp_path: Path) -> None:
    """Those of the index, if it can be read, with itself; else by their names."""
    for name in ("model-1.safetensors", "model-2.safetensors", "pytorch_model.bin", "training_args.bin"):
        (tmp_path / name).touch()
    without = checkpoint.weights(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    within = checkpoint.weights(tmp_path)
    index.write_text("{")
    broken = checkpoint.weights(tmp_path)

    assert [path.name for path in within] == [index.name, "model-1.safetensors"]
    assert [path.name for path in without] == [index.name, "model-1.safetensors", "model-2.safetensors"]
    assert broken == without
    assert checkpoint.weights(tmp_path / "none") == []
