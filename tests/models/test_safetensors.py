from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fakes.safetensors import write
from vllmd.models.safetensors import Index, Unreadable, bytes_by_dtype, layer_of, loaded_bytes, read_index


def header(offsets: bytes) -> bytes:
    """A file of one tensor without weights."""
    content = b'{"a": {"dtype": "BF16", "shape": [1], "data_offsets": ' + offsets + b"}}"
    return len(content).to_bytes(8, "little") + content


def test_headers_say_what_there_is(tmp_path: Path) -> None:
    """Over all files; scales that go with packed weights count as well."""
    first, second = tmp_path / "model-1-of-2.safetensors", tmp_path / "model-2-of-2.safetensors"
    write(first, {"a.weight": ("F8_E4M3", 1000), "a.weight_scale": ("BF16", 20)})
    write(second, {"b.qweight": ("I32", 400), "c.weight_scale": ("BF16", 10)})

    assert bytes_by_dtype([first, second], None) == {"F8_E4M3": 1000, "BF16": 30, "I32": 400}


def test_what_is_stored_in_32_bits_is_loaded_in_16() -> None:
    """Where vLLM is to choose."""
    assert loaded_bytes({"F32": 400, "F16": 100}) == 300


def test_the_index_says_which_files_there_are(tmp_path: Path) -> None:
    """And what all tensors take, which some write as a float."""
    index = {"metadata": {"total_size": 10.0}, "weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = read_index(tmp_path)

    assert found is not None
    assert found == Index(frozenset({"model-1.safetensors"}), 10, ("a", "b"))


def test_not_every_model_has_an_index(tmp_path: Path) -> None:
    """Nor does every index say a size that makes sense."""
    assert read_index(tmp_path) is None
    for metadata in ({}, {"total_size": "many"}, {"total_size": -1}, {"total_size": 1 << 80}):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": metadata, "weight_map": {}}))
        found = read_index(tmp_path)

        assert found is not None
        assert found.total_bytes is None


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

    assert bytes_by_dtype([tmp_path / "model.safetensors"], 2) == {"BF16": 26}
    assert bytes_by_dtype([tmp_path / "model.safetensors"], None) == {"BF16": 125}
    assert [layer_of(name) for name in tensors] == [0, 1, 2, -1, -1]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cut short"),
        (b"\0\1", "cut short"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "no safetensors file"),
        ((1 << 20).to_bytes(8, "little") + b"{}", "cut short"),
        ((2).to_bytes(8, "little") + b"[]", "no safetensors file"),
        ((5).to_bytes(8, "little") + b'{"a"}', "no safetensors file"),
        ((8).to_bytes(8, "little") + b'{"a": 1}', "no safetensors file"),
        pytest.param(header(b"[0, 1e400]"), "no safetensors file", id="a size without end"),
        pytest.param(header(b"[0, 1000]"), "cut short", id="more than the file"),
        pytest.param(header(b"[9, 1]"), "no safetensors file", id="less than nothing"),
        pytest.param(header(b"[0, " + b"9" * 4200 + b"]"), "cut short", id="a number of many digits"),
    ],
)
def test_files_that_are_none_are_told(tmp_path: Path, content: bytes, why: str) -> None:
    """A pointer to a file that was not fetched, say; whatever length it says, no more is read than there can be."""
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(Unreadable, match=why):
        bytes_by_dtype([tmp_path / "model.safetensors"], None)


@pytest.mark.parametrize(
    "content",
    [
        b'{"weight_map": {"a": "../secret.safetensors"}}',
        b'{"weight_map": [1]}',
        b'{"metadata": 7, "weight_map": {}}',
        b"[]",
        b"{",
        b"[" * 200_000,
    ],
)
def test_an_index_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    """It comes with the model, and so from anywhere; it does not lead elsewhere either."""
    (tmp_path / "model.safetensors.index.json").write_bytes(content)

    with pytest.raises(Unreadable, match="index"):
        read_index(tmp_path)


def test_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    """Under the name of a file."""
    os.mkfifo(tmp_path / "model.safetensors")

    with pytest.raises(Unreadable):
        bytes_by_dtype([tmp_path / "model.safetensors"], None)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    """By its name, cut to a length that one can read."""
    with pytest.raises(Unreadable, match=r"xxx\.\.\. can't be read: No such file"):
        bytes_by_dtype([tmp_path / f"{'x' * 100}.safetensors"], None)


def test_many_names_of_one_large_header_are_not_all_read(tmp_path: Path) -> None:
    """Two thousand links to one file would keep all else from running for an hour."""
    content = b'{"__metadata__": {"a": "' + b"a" * (15 << 20) + b'"}}'
    first = tmp_path / "model-0.safetensors"
    first.write_bytes(len(content).to_bytes(8, "little") + content)
    links = [tmp_path / f"model-{n}.safetensors" for n in range(1, 6)]
    for link in links:
        link.symlink_to(first)

    assert bytes_by_dtype([first, *links[:3]], None) == {}
    with pytest.raises(Unreadable, match="the headers of all files come to more than 64 MiB"):
        bytes_by_dtype([first, *links], None)


def test_a_name_of_any_bytes_can_be_shown(tmp_path: Path) -> None:
    """It is told in a message, which has to be valid UTF-8."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff.safetensors"))
    path.write_bytes(b"\xff" * 8)

    with pytest.raises(Unreadable, match=r"^m\?\.safetensors is no safetensors file$"):
        bytes_by_dtype([path], None)
