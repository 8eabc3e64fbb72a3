"""One daemon and one real engine for all tests of this folder."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests import tiny_model
from tests.host.running import Home, RunningDaemon, home, load_request
from vllmd.v1 import engine_service_pb2

ENGINE_ARGS: dict[str, Any] = {
    "max_model_len": 512,
    "max_num_seqs": 32,
    "dtype": "float32",
    "enforce_eager": True,
    "seed": 0,
    "kv_cache_memory_bytes": 256 << 20,
}
LOAD_SECONDS = 400


@contextlib.contextmanager
def direct_run(
    engine_python: str, program: str, *arguments: str | pathlib.Path, directory: pathlib.Path
) -> Iterator[subprocess.Popen[str]]:
    """Run vLLM without us, in a process of its own, while the daemon's engines load; it ends with the block.

    Args:
        engine_python: the interpreter that has vLLM.
        program: a file of this folder.
        arguments: of the program.
        directory: for its temporary files.
    """
    process = subprocess.Popen(
        [engine_python, pathlib.Path(__file__).with_name(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(directory), "VLLM_NO_USAGE_STATS": "1"},
    )
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def engine_python() -> str:
    """The interpreter that has vLLM; the Makefile names it."""
    python = os.environ.get("VLLMD_TEST_ENGINE_PYTHON")
    if not python:
        pytest.fail("VLLMD_TEST_ENGINE_PYTHON names the interpreter that has vLLM; `make test` sets it")
    return python


@pytest.fixture(scope="session")
def model(engine_python: str, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A tiny random model with weights, the same at each run."""
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny_model.make_with(engine_python, path)
    return path


@pytest.fixture(scope="session")
def place(engine_python: str) -> Iterator[Home]:
    """A runtime directory whose daemon starts real engines."""
    with home("--engine-python", engine_python, "--restart-limit", "0") as result:
        yield result


@pytest.fixture(scope="session")
def daemon(place: Home) -> RunningDaemon:
    """The daemon."""
    return place.start()


@pytest.fixture(scope="session")
def loaded(daemon: RunningDaemon, model: pathlib.Path) -> engine_service_pb2.LoadedModel:
    """The engine that all tests share, with a lease on it."""
    request = load_request(str(model), **ENGINE_ARGS)
    *_, last = daemon.engines.LoadModel(request, timeout=LOAD_SECONDS)
    return last.loaded
