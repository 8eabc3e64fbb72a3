"""What of `VllmBackend` shows neither in the daemon nor without vLLM. One load serves all; it takes a minute."""

from __future__ import annotations

import fnmatch
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

from vllmd.worker import leftovers, plugin, vllm_backend
from vllmd.worker.spec import ENGINE_ID_VARIABLE

PROGRAM = pathlib.Path(__file__).with_name("vllm_program.py")
TINY_MODEL = pathlib.Path(__file__).parents[1] / "tiny_model.py"
ENGINE_ID = f"test-{os.getpid()}"

real_vllm = [pytest.mark.vllm, pytest.mark.timeout(400), pytest.mark.xdist_group("vllm-backend")]


@pytest.fixture(scope="module")
def facts() -> Iterator[dict[str, Any]]:
    """What `vllm_program` tells, and how its EngineCore took its death."""
    python = os.environ.get("VLLMD_TEST_ENGINE_PYTHON")
    if python is None:
        pytest.skip("VLLMD_TEST_ENGINE_PYTHON names no interpreter that has vLLM")
    # Short, since the paths of vLLM's sockets are limited; pytest's own are not.
    directory = pathlib.Path(tempfile.mkdtemp(prefix="vllmd-"))
    try:
        subprocess.run([python, TINY_MODEL, directory / "model"], check=True)
        yield run(python, directory)
    finally:
        leftovers.remove_shared_memory(ENGINE_ID)
        shutil.rmtree(directory)


def run(python: str, directory: pathlib.Path) -> dict[str, Any]:
    """Run the program, stop its EngineCore, kill it, and see what becomes of EngineCore."""
    shutil.copytree(pathlib.Path(vllm_backend.__file__).parent, directory / "site" / "vllmd_worker")
    info = directory / "site" / "vllmd_worker-0.dist-info"
    info.mkdir()
    for name, content in plugin.DIST_INFO.items():
        (info / name).write_text(content)
    (directory / "tmp").mkdir()
    environment = os.environ | {
        ENGINE_ID_VARIABLE: ENGINE_ID,
        "PYTHONPATH": str(directory / "site"),
        "TMPDIR": str(directory / "tmp"),
        "VLLM_RPC_BASE_PATH": str(directory / "tmp"),
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "SPT_NOENV": "1",
    }
    log = directory / "log"
    with log.open("w") as errors:
        program = subprocess.Popen(
            [python, PROGRAM, directory / "model"],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    assert program.stdout is not None
    try:
        told = next((line for line in program.stdout if line.startswith('{"max_model_len"')), None)
        assert told is not None, log.read_text()[-4000:]
        facts: dict[str, Any] = json.loads(told)
        os.kill(facts["core"], signal.SIGSTOP)
        program.kill()
        killed = time.monotonic()
        while is_there(facts["core"]) and time.monotonic() < killed + 20:
            time.sleep(0.02)
        facts["core_outlived_host"] = is_there(facts["core"])
        return facts
    finally:
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def is_there(pid: int) -> bool:
    """Tell whether the process runs or is stopped; a zombie is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestRealVllm:
    pytestmark = real_vllm

    def test_tells_what_it_loaded(self, facts: dict[str, Any]) -> None:
        assert facts["max_model_len"] == 512
        assert facts["dtype"] == "float32"
        assert facts["vocab_size"] == 512
        # 64 MiB over 2 layers, keys and values, 1 head of 32 numbers of 4 bytes.
        assert facts["kv_cache_tokens"] == (64 << 20) // (2 * 2 * 32 * 4)

    def test_tells_what_it_measured_as_far_as_a_cpu_goes(self, facts: dict[str, Any]) -> None:
        sizes = ["weights_bytes", "activation_bytes", "other_bytes", "kv_cache_bytes", "graphs_bytes"]
        measured = dict(zip([*sizes, "max_num_seqs", "max_num_batched_tokens"], facts["measured"], strict=True))

        # The KV cache out of vLLM's worker, which so has our method; no graphs; the batch as vLLM has it by default.
        assert measured["kv_cache_bytes"] == 64 << 20
        assert measured["graphs_bytes"] == 0
        assert measured["max_num_seqs"] > 0
        assert measured["max_num_batched_tokens"] >= 512

    def test_gives_the_tokens_that_the_bare_engine_gives(self, facts: dict[str, Any]) -> None:
        assert facts["ours"] == facts["bare"]
        assert len({tuple(tokens) for tokens in facts["ours"]}) > 16

    def test_a_chat_is_what_the_models_template_makes_of_it(self, facts: dict[str, Any]) -> None:
        assert facts["chat"] == facts["chat_by_hand"]

    def test_without_max_tokens_a_stream_takes_all_that_fits(self, facts: dict[str, Any]) -> None:
        assert facts["unlimited"] == 512 - 2

    def test_refuses_what_would_harm_the_engine_and_lives_on(self, facts: dict[str, Any]) -> None:
        said = {
            "wrong type": "stop_token_ids[0]: expected `int`, got `str`",
            "foreign stop token": "stop_token_ids: token ids outside the model's vocabulary of 512: 512",
            "foreign token": "prompt: token ids outside the model's vocabulary of 512: 512",
            "negative token": "prompt: token ids outside the model's vocabulary of 512: -1",
            "too long": "the prompt has 600 tokens, and the engine's max_model_len is 512",
            "too long a text": "the prompt has at least 46154 tokens",
            "empty": "the prompt is empty",
            "template's own": "no such role: wizard",
            "not a variable": "not a variable of a chat template: tokenize",
            "no template": "the model has no chat template: send text",
        }

        assert facts["refusals"].keys() == said.keys()
        for name, text in said.items():
            assert facts["refusals"][name].startswith("InvalidRequest: "), name
            assert text in facts["refusals"][name]
        assert facts["alive"] == 3

    def test_a_cancelled_stream_leaves_no_request_whenever_it_is_cancelled(self, facts: dict[str, Any]) -> None:
        assert facts["left_after_cancel"] == [0] * 5

    def test_its_shared_memory_carries_the_engines_name(self, facts: dict[str, Any]) -> None:
        segments, locks = (fnmatch.filter(facts["shared_memory"], p) for p in leftovers.patterns(ENGINE_ID))

        assert len(segments) == 2
        assert len(locks) == 1

    def test_engine_core_dies_with_its_host_even_while_stopped(self, facts: dict[str, Any]) -> None:
        assert facts["core_outlived_host"] is False


class VLLMClientError(Exception):
    """Of the name, if not the make, of vLLM's."""


class EngineGenerateError(Exception):
    """Likewise."""


class EngineDeadError(Exception):
    """Likewise."""


def wrapped(cause: Exception) -> Exception:
    """Make what `AsyncLLM.generate` raises for an exception that it did not expect."""
    error = EngineGenerateError()
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "started", "becomes", "text"),
    [
        (VLLMClientError("no"), False, "InvalidRequest", "no"),
        (ValueError("no"), False, "InvalidRequest", "no"),
        (wrapped(TypeError("no")), False, "InvalidRequest", "no"),
        (ValueError("no"), True, "RuntimeError", "ValueError: no"),
        (wrapped(KeyError("no")), False, "RuntimeError", "KeyError: 'no'"),
        (EngineGenerateError("no"), False, "RuntimeError", "EngineGenerateError: no"),
        (EngineDeadError("no"), False, "EngineDead", "no"),
    ],
)
def test_vllms_errors_are_the_clients_the_requests_or_the_engines_end(
    error: Exception, started: bool, becomes: str, text: str
) -> None:
    fault = vllm_backend.whose_fault(error, started)

    assert (type(fault).__name__, str(fault)) == (becomes, text)
