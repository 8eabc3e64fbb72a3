from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fakes.safetensors import write
from vllmd.models.safetensors import loaded_bytes


def header(offsets: bytes) -> bytes:
    """A file of one tensor without weights."""
    content = b'{"a": {"dtype": "BF16", "shape": [1], "data_offsets": ' + offsets + b"}}"
    return len(content).to_bytes(8, "little") + content


def test_headers_say_what_there_is(tmp_path: Path) -> None:
    """Over all files; scales that go with packed weights count as well."""
    write(tmp_path / "model-1-of-2.safetensors", {"a.weight": ("F8_E4M3", 1000), "a.weight_scale": ("BF16", 20)})
    write(tmp_path / "model-2-of-2.safetensors", {"b.qweight": ("I32", 400)})

    assert loaded_bytes(tmp_path, None) == 1420


def test_what_is_stored_in_32_bits_is_loaded_in_16(tmp_path: Path) -> None:
    """Where vLLM is to choose."""
    write(tmp_path / "model.safetensors", {"a": ("F32", 400), "b": ("F16", 100)})

    assert loaded_bytes(tmp_path, None) == 300


def test_the_index_says_which_files_count(tmp_path: Path) -> None:
    """Others may be left from an earlier version."""
    write(tmp_path / "model-1-of-1.safetensors", {"a": ("BF16", 10)})
    write(tmp_path / "old.safetensors", {"a": ("BF16", 10)})
    index = {"metadata": {"total_size": 10}, "weight_map": {"a": "model-1-of-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    assert loaded_bytes(tmp_path, None) == 10


def test_the_same_weights_in_another_form_count_once(tmp_path: Path) -> None:
    """Mistral publishes both; where there is only its own form, that counts."""
    write(tmp_path / "consolidated.safetensors", {"a": ("BF16", 10)})
    alone = loaded_bytes(tmp_path, None)
    write(tmp_path / "model.safetensors", {"a": ("BF16", 10)})

    assert (alone, loaded_bytes(tmp_path, None)) == (10, 10)


def test_layers_for_predicting_more_tokens_are_not_loaded(tmp_path: Path) -> None:
    """They stand after the model's own; what sees has layers of its own."""
    tensors = {
        "model.layers.0.w": ("BF16", 10),
        "model.layers.1.w": ("BF16", 10),
        "model.layers.2.mtp": ("BF16", 99),
        "vision_tower.encoder.layers.26.w": ("BF16", 5),
        "lm_head.weight": ("BF16", 1),
    }
    write(tmp_path / "model.safetensors", tensors)

    assert loaded_bytes(tmp_path, 2) == 26
    assert loaded_bytes(tmp_path, None) == 125


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1",
        (1 << 60).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (5).to_bytes(8, "little") + b'{"a"}',
        (8).to_bytes(8, "little") + b'{"a": 1}',
        pytest.param(header(b"[0, 1e400]"), id="a size without end"),
        pytest.param(header(b"[0, 1000]"), id="more than the file"),
        pytest.param(header(b"[9, 1]"), id="less than nothing"),
        pytest.param(header(b"[0, " + b"9" * 4200 + b"]"), id="a number of many digits"),
    ],
)
def test_files_that_are_none_are_of_unknown_size(tmp_path: Path, content: bytes) -> None:
    """A pointer to a file that was not fetched, say; whatever length it says, no more is read than there can be."""
    (tmp_path / "model.safetensors").write_bytes(content)

    assert loaded_bytes(tmp_path, None) is None


def test_an_index_does_not_lead_elsewhere(tmp_path: Path) -> None:
    """It comes with the model, and so from anywhere."""
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret.safetensors"}}')

    assert loaded_bytes(tmp_path, None) is None


def test_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    """Under the name of a file."""
    os.mkfifo(tmp_path / "model.safetensors")

    assert loaded_bytes(tmp_path, None) is None


def test_a_directory_without_weights(tmp_path: Path) -> None:
    """Nothing is known."""
    assert loaded_bytes(tmp_path, None) is None
