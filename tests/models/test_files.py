from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.safetensors import write
from vllmd.errors import InvalidRequest, NotFound
from vllmd.models import files

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A hub cache that has one model, in one snapshot."""
    repository = tmp_path / "hub" / "models--Qwen--Qwen3-8B"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(f"{COMMIT}\n")
    (repository / "config.json").write_text("{}")
    (tmp_path / "hub" / "config.json").write_text("{}")
    return tmp_path / "hub"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
    ],
)
def test_the_hub_cache_is_where_huggingface_hub_has_it(environment: dict[str, str], expected: str) -> None:
    """Its variables are heeded in its own order."""
    assert files.hub_cache(environment) == Path(expected)


def test_without_variables_the_hub_cache_is_the_users() -> None:
    """The default is below the home directory."""
    assert files.hub_cache({}) == Path.home() / ".cache/huggingface/hub"


@pytest.mark.parametrize("revision", ["", "main", COMMIT])
def test_a_snapshot_is_found_by_branch_and_by_commit(cache: Path, revision: str) -> None:
    """A hub id leads to the snapshot that its revision names; `main` is the default."""
    found = files.locate("Qwen/Qwen3-8B", revision, cache)

    assert found == cache / "models--Qwen--Qwen3-8B" / "snapshots" / COMMIT


@pytest.mark.parametrize(
    ("model", "revision"),
    [("Qwen/Qwen3-8B", "v2"), ("Qwen/Qwen3-8B", "refs/pr/7"), ("gpt2", ""), ("x" * 300, ""), ("a/b", "r" * 300)],
)
def test_what_is_not_in_the_cache_has_yet_to_be_fetched(cache: Path, model: str, revision: str) -> None:
    """An id that may well exist is no error, even one too long to be a file's name."""
    assert files.locate(model, revision, cache) is None


@pytest.mark.parametrize(
    "model",
    [
        "../../etc",
        "..",
        ".",
        "a/..",
        "../a",
        "a/../b",
        "a//b",
        "a/",
        "a/b/c",
        "~/m",
        "./m",
        "a b",
        "a\\b",
        "a\0b",
        "a%2fb",
    ],
)
def test_a_name_that_is_no_hub_id_is_refused(cache: Path, model: str) -> None:
    """Nothing that could lead out of the cache, or that the hub could not have, is looked for."""
    with pytest.raises(InvalidRequest) as refused:
        files.locate(model, "", cache)

    assert refused.value.reason == "INVALID_MODEL"


@pytest.mark.parametrize("revision", ["..", ".", "../..", "a/../b", "/etc", "a//b", "a/"])
def test_a_revision_that_is_a_path_is_refused(cache: Path, revision: str) -> None:
    """A revision becomes part of a path in the cache, here and in huggingface_hub."""
    with pytest.raises(InvalidRequest) as refused:
        files.locate("Qwen/Qwen3-8B", revision, cache)

    assert refused.value.reason == "INVALID_REVISION"


def test_a_reference_can_not_lead_out_of_the_snapshots(cache: Path) -> None:
    """What a file in the cache says is checked like what a client says."""
    (cache / "models--Qwen--Qwen3-8B" / "refs" / "main").write_text("../../..")

    assert files.locate("Qwen/Qwen3-8B", "", cache) is None


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    """An absolute path leads to the model that is there."""
    (tmp_path / "config.json").write_text("{}")

    assert files.locate(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["missing", "x" * 5000, "a\0b"])
def test_a_directory_without_a_model_is_not_found(tmp_path: Path, name: str) -> None:
    """A path is the client's claim that a model is there, so its absence is an error."""
    with pytest.raises(NotFound) as refused:
        files.locate(f"{tmp_path}/{name}")

    assert refused.value.reason == "MODEL_NOT_FOUND"


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


async def test_facts_are_found_beside_the_loop(tmp_path: Path) -> None:
    """Both steps, finding and reading, may take long."""
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 8}))
    found = await files.facts_of(str(tmp_path))
    await files.check(str(tmp_path))

    assert found is not None
    assert found.attention_heads == 8
    assert await files.facts_of("no/such-model") is None
    with pytest.raises(NotFound):
        await files.check("/no/such/directory")
