from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.hub import COMMIT, TOKEN, Hub, serving
from vllmd.errors import Denied, NotFound
from vllmd.interpreter import Interpreter
from vllmd.models import files, hub_fetch

CONFIG = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 1000}


def info(**sizes: int | None) -> types.SimpleNamespace:
    """What `HfApi.model_info` returns, as far as it counts; `__` stands for a dot."""
    siblings = [types.SimpleNamespace(rfilename=name.replace("__", "."), size=size) for name, size in sizes.items()]
    return types.SimpleNamespace(siblings=siblings, safetensors=None)


@dataclasses.dataclass
class Refused(Exception):
    """An error of huggingface_hub's, which carries a response."""

    response: Any = None


class RepositoryNotFoundError(Refused):
    """By its name."""


class GatedRepoError(RepositoryNotFoundError):
    """Likewise; a kind of the former, as there."""


@pytest.mark.parametrize(
    ("error", "failure", "why"),
    [
        (GatedRepoError(), "gated", "GatedRepoError"),
        (RepositoryNotFoundError(types.SimpleNamespace(status_code=404)), "missing", "status 404"),
        (Refused(types.SimpleNamespace(status_code=401)), "denied", "status 401"),
        (Refused(types.SimpleNamespace(status_code=500)), "other", "Refused, status 500"),
        (ConnectionError("https://user:secret@proxy"), "other", "ConnectionError"),
        (ModuleNotFoundError("No module named 'huggingface_hub'"), "other", "No module named 'huggingface_hub'"),
    ],
)
def test_errors_are_told_by_their_kind(error: Exception, failure: str, why: str) -> None:
    """But not by their text, which may quote what was sent."""
    found = hub_fetch.explain(error)

    assert found["failure"] == failure
    assert why in found["why"]
    assert "secret" not in found["why"]


def test_only_small_files_are_fetched() -> None:
    """No weights, whatever they are called, and no configuration that can't be one."""
    fetched: list[str] = []

    def download(repository: str, name: str, revision: str | None) -> None:
        fetched.append(f"{repository} {name} {revision}")

    found = info(config__json=100, tokenizer_config__json=1 << 40, modules__json=None, model__safetensors=7)
    answer = hub_fetch.fetch(lambda *_, **__: found, download, "org/model", "")

    assert fetched == ["org/model config.json None", "org/model modules.json None"]
    assert answer["files"]["model.safetensors"] == 7
    assert answer["parameters"] == {}


def test_without_huggingface_hub_it_says_so() -> None:
    """The daemon's own environment has none. What lies beside the program is not imported in place of other modules."""
    program = pathlib.Path(hub_fetch.__file__)
    done = subprocess.run([sys.executable, program, "20", "org/model"], capture_output=True, check=True, text=True)

    assert "huggingface_hub" in json.loads(done.stdout)["why"]


@pytest.fixture
def engine_python() -> pathlib.Path:
    """The interpreter that has vLLM, and so huggingface_hub."""
    python = os.environ.get("VLLMD_TEST_ENGINE_PYTHON")
    if not python:
        pytest.skip("VLLMD_TEST_ENGINE_PYTHON names no interpreter that has vLLM")
    return pathlib.Path(python)


@pytest.fixture
def served(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, which the environment names, and an empty cache."""
    index = {"metadata": {"total_size": 1}, "weight_map": {"a": "model-1.safetensors"}}
    content = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer_config.json": b'{"model_max_length": 512}',
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-1.safetensors": bytes(408),
        "onnx/model.onnx": b"x",
    }
    with serving(Hub({"org/model": content, "gated/model": content}, {"BF16": 180_000})) as hub:
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.mark.vllm
@pytest.mark.parametrize("revision", ["", "main", COMMIT])
async def test_a_model_on_the_hub_is_known_without_its_weights(
    engine_python: pathlib.Path, served: Hub, revision: str
) -> None:
    """In the ordinary cache, where vLLM finds the files as well."""
    found = await files.facts_of("org/model", revision, Interpreter(engine_python))

    assert found is not None
    assert (found.layers, found.weight_bytes) == (2, 360_000)
    assert files.locate("org/model", revision) is not None
    assert not [line for line in served.asked if line.startswith("GET") and line.endswith((".safetensors", ".onnx"))]
    assert served.tokens == {f"Bearer {TOKEN}"}


@pytest.mark.vllm
async def test_what_the_hub_refuses_is_told(engine_python: pathlib.Path, served: Hub) -> None:
    """A model that it has not, one that is gated, and a revision that there is not."""
    with pytest.raises(NotFound, match="The hub has no org/other"):
        await files.facts_of("org/other", "", Interpreter(engine_python))
    with pytest.raises(Denied, match="gated"):
        await files.facts_of("gated/model", "", Interpreter(engine_python))
    with pytest.raises(NotFound, match="no revision v9"):
        await files.facts_of("org/model", "v9", Interpreter(engine_python))
