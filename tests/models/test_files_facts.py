"""Facts of what a directory holds; `test_files.py` has how it is found."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.safetensors import write
from vllmd.errors import InvalidRequest
from vllmd.models import files
from vllmd.models.checkpoint import Listing


def test_facts_come_from_the_config_and_the_weights(tmp_path: Path) -> None:
    """The size of the weights is that of the safetensors files, or of the PyTorch ones without these."""
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 32}))
    nothing = files.read_facts(tmp_path)
    (tmp_path / "model.bin").write_bytes(bytes(100))
    binary = files.read_facts(tmp_path)
    write(tmp_path / "model-1-of-2.safetensors", {"a": ("BF16", 30)})
    write(tmp_path / "model-2-of-2.safetensors", {"b": ("BF16", 20)})
    both = files.read_facts(tmp_path)

    assert nothing.attention_heads == 32
    assert [facts.weight_bytes for facts in (nothing, binary, both)] == [None, 100, 50]


def test_a_link_to_nowhere_is_of_unknown_size(tmp_path: Path) -> None:
    """As a snapshot of the hub's has where a file was not fetched."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").symlink_to(tmp_path / "missing")

    assert files.read_facts(tmp_path).weight_bytes is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 200_000, b"7"])
def test_a_config_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever is in the file, the client is told that it is no configuration."""
    (tmp_path / "config.json").write_bytes(content)

    with pytest.raises(InvalidRequest) as refused:
        files.read_facts(tmp_path)
    assert refused.value.reason == "INVALID_MODEL"


def test_a_huge_config_is_not_read(tmp_path: Path) -> None:
    """A file that can't be a configuration does not fill the daemon's memory."""
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 30)

    with pytest.raises(InvalidRequest, match="larger than"):
        files.read_facts(tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path), os.mkdir])
def test_what_is_no_plain_file_is_not_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe, a device or a directory in its place holds nobody up."""
    make(tmp_path / "config.json")

    with pytest.raises(InvalidRequest, match="can't be read"):
        files.read_facts(tmp_path)


def test_a_file_that_lies_about_its_size_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those below /proc say that they are empty."""
    monkeypatch.setattr(files, "_MAX_CONFIG_BYTES", 16)
    (tmp_path / "config.json").symlink_to("/proc/self/maps")

    with pytest.raises(InvalidRequest, match="larger than 16 bytes"):
        files.read_facts(tmp_path)


def test_what_lies_beside_a_configuration_counts(tmp_path: Path) -> None:
    """The tokenizer's limit, and what a model is put together from; a file that is none is left out."""
    config = {
        "max_position_embeddings": 514,
        "position_embedding_type": "absolute",
        "architectures": ["LlamaForCausalLM"],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Pooling"}]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512}))
    (tmp_path / "sentence_bert_config.json").write_text("{")
    found = files.read_facts(tmp_path)

    assert (found.runner, found.max_model_len) == ("pooling", 512)


def test_mistrals_own_form_is_read(tmp_path: Path) -> None:
    """Where there is no other."""
    (tmp_path / "params.json").write_text(json.dumps({"dim": 4096, "n_heads": 32, "n_layers": 2}))
    write(tmp_path / "consolidated.safetensors", {"a": ("BF16", 50)})
    found = files.read_facts(tmp_path)

    assert (found.attention_heads, found.layers, found.weight_bytes) == (32, 2, 50)


def test_a_configuration_alone_will_do(tmp_path: Path) -> None:
    """For weights that are made up: their size follows from the architecture."""
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 1000}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    found = files.read_facts(tmp_path)

    assert (found.weight_bytes, found.weights_note) == (None, "there are no weight files")
    assert found.parameters is not None


def test_a_fingerprint_is_that_of_the_files(tmp_path: Path) -> None:
    """The same wherever they are, and whether the weights are here yet; another for other weights."""
    prints = []
    for name, size in (("a", 50), ("b", 50), ("c", 51)):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "config.json").write_text("{}")
        write(directory / "model.safetensors", {"w": ("BF16", size)})
        prints.append(files.read_facts(directory).fingerprint)
    file = tmp_path / "a" / "model.safetensors"
    listing = Listing(sizes={file.name: file.stat().st_size})
    file.unlink()

    assert len(prints[0]) == 16
    assert prints[0] == prints[1] != prints[2]
    assert files.read_facts(tmp_path / "a", listing).fingerprint == prints[0]


def test_what_the_files_hold_is_told_by_dtype(tmp_path: Path) -> None:
    """A model of which a part is packed has several."""
    (tmp_path / "config.json").write_text("{}")
    write(tmp_path / "model.safetensors", {"a": ("F8_E4M3", 1000), "b": ("BF16", 20)})

    assert files.read_facts(tmp_path).bytes_by_dtype == (("F8_E4M3", 1000), ("BF16", 20))


@given(
    st.binary(max_size=200)
    | st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text()).map(
        lambda content: json.dumps(content).encode()
    ),
    st.binary(max_size=50),
)
def test_no_file_makes_it_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, config: bytes, weights: bytes
) -> None:
    """Whatever they hold, there are facts or the client is told."""
    directory = tmp_path_factory.mktemp("model")
    for name, content in (("config.json", config), ("modules.json", config), ("model.safetensors", weights)):
        (directory / name).write_bytes(content)

    with contextlib.suppress(InvalidRequest):
        files.read_facts(directory)
