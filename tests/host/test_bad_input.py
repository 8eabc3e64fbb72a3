"""What people and programs get wrong, one row each: what the daemon says, and that it is then what it was before.

Grammars and what else takes real vLLM are in `tests/real/test_sampling.py`; what befalls a daemon rather than a
request, a full disk say, is in `test_bad_surroundings.py`; a gated model in `tests/models/test_hub.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.fakes.served import reason_of, status_of
from tests.host.running import DEADLINE_SECONDS, RunningDaemon, home, load_request, until
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import host_service_pb2
from vllmd.v1.engine_pb2 import Engine
from vllmd.v1.generation_pb2 import ChatPrompt, SamplingParams, StructuredOutputs, TokenPrompt

LLAMA = pathlib.Path(__file__).parents[1] / "data" / "models" / "llama-3.2-1b"
FILES_AT_MOST = 3
"""More than before: what gRPC keeps for the next call."""


def open_files(pid: int) -> int:
    """Count a daemon's files, but for what it holds processes by: vLLM's, whoever on this host has started them."""
    count = 0
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(fd) != "anon_inode:[pidfd]"
    return count


class Tried:
    """A daemon on which mistakes are made.

    Args:
        daemon: it.
        folder: where models are made that are none.
        engine: whether it has an engine that is well.
    """

    def __init__(self, daemon: RunningDaemon, folder: pathlib.Path, *, engine: bool) -> None:
        self.daemon = daemon
        self.folder = folder
        self.loaded = daemon.load("a/model", fake_tokens_per_second=0) if engine else None
        self.files = open_files(daemon.process.pid)

    def load(self, model: object, **engine_args: Any) -> Any:
        """Load a model."""
        return self.daemon.engines.LoadModel(load_request(str(model), **engine_args), timeout=DEADLINE_SECONDS)

    def config(self, name: str, text: str | None = None, **changed: Any) -> Any:
        """Load a folder with this in its config.json, or with a Llama's in which something else stands."""
        path = self.folder / name
        path.mkdir()
        plain = json.loads((LLAMA / "config.json").read_text())
        (path / "config.json").write_text(text if text is not None else json.dumps(plain | changed))
        return self.load(path)

    def ask(self, prompt: Any = "one two three", **params: Any) -> Any:
        """Generate from a text, token ids or a conversation."""
        assert self.loaded is not None
        request = pb.GenerateRequest(lease=self.loaded.lease.name, sampling_params=SamplingParams(**params))
        if isinstance(prompt, str):
            request.text = prompt
        else:
            getattr(request, {TokenPrompt: "tokens", ChatPrompt: "chat"}[type(prompt)]).CopyFrom(prompt)
        return self.daemon.engines.Generate(request, timeout=DEADLINE_SECONDS)

    def structured(self, **wish: Any) -> Any:
        """Generate text of a structure."""
        return self.ask(structured_outputs=StructuredOutputs(**wish))

    def release(self, lease: str) -> Any:
        """Release a lease."""
        return self.daemon.engines.Release(pb.ReleaseRequest(lease=lease))

    def expired(self) -> Any:
        """Use a lease that has expired."""
        request = load_request("a/model", fake_tokens_per_second=0)
        request.lease_ttl.FromMilliseconds(1)
        *_, last = self.daemon.engines.LoadModel(request)
        name = last.loaded.lease.name
        until(lambda: self.daemon.engine(last.loaded.engine.name).lease_count == 1, "the lease to expire")
        return self.daemon.engines.RenewLease(pb.RenewLeaseRequest(lease=name))

    def twice(self) -> Any:
        """Release a lease, and once more."""
        lease = self.daemon.load("a/model", fake_tokens_per_second=0).lease.name
        self.release(lease)
        return self.release(lease)

    def of_the_dead(self) -> Any:
        """Generate with an engine that has failed."""
        with pytest.raises(grpc.RpcError):
            list(self.load("a/failing", fake_fail_phase="profiling"))
        failed = next(one.name for one in self.daemon.status().engines if one.state == Engine.STATE_FAILED)
        return self.daemon.engines.Generate(pb.GenerateRequest(engine=failed, text="x"))

    def of_the_stopped(self) -> Any:
        """Generate with an engine that was stopped."""
        engine = self.daemon.load("a/brief", fake_tokens_per_second=0).engine.name
        self.daemon.host.StopEngine(host_service_pb2.StopEngineRequest(name=engine), timeout=DEADLINE_SECONDS)
        return self.daemon.engines.Generate(pb.GenerateRequest(engine=engine, text="x"))

    def check(self) -> None:
        """Check that the daemon and its engine are as they were."""
        engines = {one.name: one.state for one in self.daemon.status().engines}
        if self.loaded is not None:
            assert engines.pop(self.loaded.engine.name) == Engine.STATE_READY
            assert self.daemon.engine(self.loaded.engine.name).lease_count == 1
            *_, last = self.ask(max_tokens=3, ignore_eos=True)
            assert last.usage.completion_tokens == 3
        assert set(engines.values()) <= {Engine.STATE_FAILED, Engine.STATE_STOPPED}
        until(
            lambda: open_files(self.daemon.process.pid) <= self.files + FILES_AT_MOST, "the daemon to close its files"
        )
        assert "a call failed unexpectedly" not in self.daemon.log.read_text()


@dataclasses.dataclass(frozen=True)
class Row:
    """One mistake."""

    what: str
    make: Callable[[Tried], Any]
    reason: str
    says: str
    """A part of the message: what is wrong, or what would be right."""
    code: str = "INVALID_ARGUMENT"


LOADS = [
    Row("a path that is not there", lambda it: it.load("/none/7b"), "MODEL_NOT_FOUND", "no /none/7b", "NOT_FOUND"),
    Row("a folder without a model", lambda it: it.load(it.folder), "MODEL_NOT_FOUND", "no config.json", "NOT_FOUND"),
    Row("broken JSON", lambda it: it.config("broken", "{"), "INVALID_MODEL", "line 1 column 2"),
    Row("a list in its place", lambda it: it.config("list", "[]"), "INVALID_MODEL", "config.json"),
    Row("no model at all", lambda it: it.load(""), "INVALID_FIELD", "model is required"),
    Row("a zero in a path", lambda it: it.load("/a\0b"), "INVALID_FIELD", "printable"),
    Row("a context that is too long", lambda it: it.load(LLAMA, max_model_len=1 << 20), "INVALID_ENGINE_ARG", "131072"),
    Row(
        "a vLLM that is not there",
        lambda it: it.load(LLAMA),
        "VLLM_NOT_INSTALLED",
        "engine_python",
        "FAILED_PRECONDITION",
    ),
]
"""On a daemon for real vLLM, whose interpreter has none."""

REQUESTS = [
    Row(
        "heads that 3 GPUs can't share",
        lambda it: it.load(LLAMA, tensor_parallel_size=3),
        "INVALID_ENGINE_ARG",
        "1, 2, 4",
    ),
    Row(
        "an unknown argument", lambda it: it.load("m", max_model_length=1), "ENGINE_ARG_REFUSED", "mean max_model_len?"
    ),
    Row("a mistyped argument", lambda it: it.load("m", max_num_seqs="many"), "INVALID_ENGINE_ARG", "not 'many'"),
    Row("a refused argument", lambda it: it.load("m", worker_cls="a.B"), "ENGINE_ARG_REFUSED", "--allow-engine-arg"),
    Row("no prompt", lambda it: it.ask(ChatPrompt()), "INVALID_FIELD", "chat holds no messages"),
    Row("an empty prompt", lambda it: it.ask(""), "INVALID_FIELD", "text holds nothing"),
    Row("no tokens", lambda it: it.ask(TokenPrompt()), "INVALID_FIELD", "tokens holds none"),
    Row("too long a prompt", lambda it: it.ask("a " * 5000), "PROMPT_TOO_LONG", "5000 tokens"),
    Row(
        "a foreign token", lambda it: it.ask(TokenPrompt(token_ids=[1000])), "TOKEN_OUT_OF_VOCABULARY", "of 1000: 1000"
    ),
    Row("a negative token", lambda it: it.ask(TokenPrompt(token_ids=[-1])), "TOKEN_OUT_OF_VOCABULARY", "-1"),
    Row("NaN", lambda it: it.ask(temperature=math.nan), "INVALID_SAMPLING_PARAMS", "temperature: 0 to 2, not nan"),
    Row(
        "negative values",
        lambda it: it.ask(top_k=-7, top_p=-1),
        "INVALID_SAMPLING_PARAMS",
        "top_k: at least -1, not -7;",
    ),
    Row("absurd values", lambda it: it.ask(n=100_000), "INVALID_SAMPLING_PARAMS", "n: 1 to 64, not 100000"),
    Row(
        "more at least than at most",
        lambda it: it.ask(min_tokens=9, max_tokens=3),
        "INVALID_SAMPLING_PARAMS",
        "which is 3",
    ),
    Row("an empty stop", lambda it: it.ask(stop=[""]), "INVALID_SAMPLING_PARAMS", "an empty string"),
    Row("no JSON for a schema", lambda it: it.structured(json="{"), "INVALID_STRUCTURED_OUTPUTS", "line 1 column 2"),
    Row("no schema", lambda it: it.structured(json='{"type": "wizard"}'), "INVALID_STRUCTURED_OUTPUTS", "wizard"),
    Row("no regex", lambda it: it.structured(regex="("), "INVALID_STRUCTURED_OUTPUTS", "position 0"),
    Row("an unknown lease", lambda it: it.release("leases/none"), "LEASE_NOT_FOUND", "released", "NOT_FOUND"),
    Row("no lease's name", lambda it: it.release("none"), "INVALID_NAME", "leases/"),
    Row("an expired lease", lambda it: it.expired(), "LEASE_NOT_FOUND", "expired", "NOT_FOUND"),
    Row("a lease released twice", lambda it: it.twice(), "LEASE_NOT_FOUND", "released", "NOT_FOUND"),
    Row("a failed engine", lambda it: it.of_the_dead(), "ENGINE_START_FAILED", "told to fail", "INTERNAL"),
    Row("a stopped engine", lambda it: it.of_the_stopped(), "ENGINE_STOPPED", "stopped", "UNAVAILABLE"),
]
"""On a daemon with fake engines and simulated GPUs."""


@pytest.fixture(scope="module")
def without_vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    with home("--backend", "vllm", "--engine-python", sys.executable, "--restart-limit", "0") as place:
        yield Tried(place.start(), tmp_path_factory.mktemp("models"), engine=False)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    with home("--simulate", "4xRTX3090", "--restart-limit", "0") as place:
        yield Tried(place.start(), tmp_path_factory.mktemp("models"), engine=True)


def rows(table: list[Row]) -> list[Any]:
    """A parameter for each, named as the row is."""
    return [pytest.param(row, id=row.what) for row in table]


def try_it(tried: Tried, row: Row) -> None:
    """Make a mistake; look at the answer, and at the daemon."""
    with pytest.raises(grpc.RpcError) as caught:
        list(row.make(tried))
    error: Any = caught.value

    assert (error.code().name, reason_of(error)) == (row.code, row.reason)
    assert row.says in status_of(error).message
    tried.check()


@pytest.mark.parametrize("row", rows(LOADS))
def test_a_model_that_is_none(without_vllm: Tried, row: Row) -> None:
    """Refused before anything is started, or told by what was."""
    try_it(without_vllm, row)


@pytest.mark.parametrize("row", rows(REQUESTS))
def test_a_request_that_can_not_be_served(simulated: Tried, row: Row) -> None:
    """Refused, and the engine beside serves on."""
    try_it(simulated, row)
