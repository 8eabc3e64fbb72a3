"""The service with real vLLM on the CPU: what `checks_ends` does with a fake engine. Run by hand, as it takes minutes.

VLLMD_SYSTEMD_ENGINE_PYTHON=.venv-vllm/bin/python python -m tests.systemd
"""

from __future__ import annotations

import json
import pathlib
import signal
import time
from collections.abc import Iterator

import pytest

from tests.systemd.unit import IN, Unit, unit, until
from vllmd.v1 import engine_pb2, engine_service_pb2

ENGINE_ARGS = {
    "max_model_len": 512,
    "max_num_seqs": 8,
    "dtype": "float32",
    "enforce_eager": True,
    "seed": 0,
    "kv_cache_memory_bytes": 256 << 20,
}
LOAD_SECONDS = 300.0
TOKENS = 40


@pytest.fixture(scope="module")
def service() -> Iterator[Unit]:
    """The unit as it is installed, with the interpreter and the backend that it would have."""
    told = json.loads((IN / "real.json").read_text())
    options = f"--backend vllm --engine-python {told['engine_python']} --adoption-timeout 60"
    with unit(options, simulated=False) as started:
        yield started


@pytest.fixture(scope="module")
def loaded(service: Unit) -> engine_service_pb2.LoadedModel:
    """An engine, ready."""
    begun = time.monotonic()
    made = service.load(str(IN / "tiny"), seconds=LOAD_SECONDS, **ENGINE_ARGS)
    print(f"load took {time.monotonic() - begun:.1f} s")
    return made


def answer(service: Unit, loaded: engine_service_pb2.LoadedModel) -> list[int]:
    """Generate, the likeliest token each time."""
    *deltas, last = service.generate(loaded.lease.name, TOKENS, temperature=0, ignore_eos=True)
    assert last.usage.completion_tokens == TOKENS
    return [token for delta in (*deltas, last) for token in delta.token_ids]


@pytest.mark.timeout(600)
def test_a_load_under_the_unit(service: Unit, loaded: engine_service_pb2.LoadedModel) -> None:
    """With its sandbox, and as its user."""
    (group,) = service.cgroup.glob("vllmd-*/engine-*")
    names = {pathlib.Path(f"/proc/{pid}/comm").read_text() for pid in (group / "cgroup.procs").read_text().split()}

    assert answer(service, loaded)
    assert any(name.startswith("VLLM::") for name in names), names


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_stuck_or_crashed_daemon_comes_back(
    service: Unit, loaded: engine_service_pb2.LoadedModel, how: signal.Signals
) -> None:
    """To the same engine, which says the same."""
    before, begun = answer(service, loaded), time.monotonic()
    service.restarted(service.kill(how))
    engine = service.engine(loaded.engine.name)
    print(f"{how.name}: back after {time.monotonic() - begun:.1f} s")

    assert (engine.adopted, engine.pid, engine.state) == (True, loaded.engine.pid, engine_pb2.Engine.STATE_READY)
    assert answer(service, loaded) == before


@pytest.mark.timeout(120)
def test_an_upgrade(service: Unit, loaded: engine_service_pb2.LoadedModel) -> None:
    """Keeps it."""
    before, pid, begun = answer(service, loaded), service.pid, time.monotonic()
    service.upgrade()
    print(f"upgrade took {time.monotonic() - begun:.2f} s")
    engine = service.engine(loaded.engine.name)

    assert (engine.adopted, engine.pid, service.pid) == (True, loaded.engine.pid, pid)
    assert answer(service, loaded) == before


@pytest.mark.timeout(120)
def test_a_stop(service: Unit, loaded: engine_service_pb2.LoadedModel) -> None:
    """Leaves nothing."""
    during, begun = service.left(), time.monotonic()
    service.systemctl("stop")
    print(f"stop took {time.monotonic() - begun:.1f} s, with {loaded.engine.name}")

    assert [line for line in during if "VLLM::" in line]
    assert until(lambda: service.show("ActiveState") == "inactive", "the end")
    assert service.show("Result") == "success"
    assert service.left() == []
