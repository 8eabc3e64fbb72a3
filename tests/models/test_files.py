from __future__ import annotations

import json
from pathlib import Path

import pytest

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


def test_a_branch_with_a_slash_is_found(cache: Path) -> None:
    """As those are named that the hub makes of pull requests."""
    reference = cache / "models--Qwen--Qwen3-8B" / "refs" / "refs" / "pr" / "7"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)

    assert files.locate("Qwen/Qwen3-8B", "refs/pr/7", cache) is not None


def test_mistrals_own_form_will_do(tmp_path: Path) -> None:
    """Which vLLM reads as well."""
    (tmp_path / "params.json").write_text("{}")

    assert files.locate(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("content", "model", "what"),
    [
        ("adapter_config.json", "", "LoRA adapter"),
        ("model-Q4_K_M.gguf", "", "GGUF"),
        ("model-Q4_K_M.gguf", "/model-Q4_K_M.gguf", "GGUF"),
    ],
)
def test_what_is_no_model_for_vllm_is_named(tmp_path: Path, content: str, model: str, what: str) -> None:
    """With what to load instead."""
    (tmp_path / content).write_text("{}")

    with pytest.raises(InvalidRequest, match=what) as refused:
        files.locate(f"{tmp_path}{model}")
    assert refused.value.reason == "MODEL_UNSUPPORTED"


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


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a" * 5000, b"../../elsewhere", b""])
def test_a_reference_that_names_no_commit_leads_nowhere(tmp_path: Path, content: bytes) -> None:
    """Nor is it an error of the daemon's."""
    reference = tmp_path / "models--org--model" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_bytes(content)

    assert files.locate("org/model", cache=tmp_path) is None
