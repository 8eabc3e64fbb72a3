from __future__ import annotations

import pytest

from vllmd.api import convert_host
from vllmd.events import Events, Kind
from vllmd.v1 import event_pb2, gpu_pb2
from vllmd.watchdog.scene import Judged, Share
from vllmd.watchdog.verdicts import Judgement, Verdict
from vllmd.watchdog.watchdog import Listed
from vllmd.worker.processes import Identity, Stat


def judged(verdict: Verdict, stat: Stat | None = None, engine: str = "", uid: int | None = None) -> Judged:
    return Judged(
        pid=5,
        stat=stat,
        uid=uid,
        start_time=None if stat is None else 1_700_000_000.0,
        shares=(Share("GPU-0", 7), Share("GPU-1", None)),
        judgement=Judgement(verdict, ("why",), engine),
        top=5,
    )


def test_a_process() -> None:
    """What is known of it; what the driver does not say stays unset."""
    stat = Stat(Identity(5, 1), "VLLM::EngineCor", "S", 1, 1, 1)
    found = convert_host.process(Listed(judged(Verdict.ORPHAN, stat, "e-1", 1000), ("why", "and when"), True))

    assert (found.pid, found.process_name, found.uid) == (5, "VLLM::EngineCor", 1000)
    assert found.start_time.seconds == 1_700_000_000
    assert [(share.gpu, share.HasField("used_bytes")) for share in found.shares] == [
        ("gpus/GPU-0", True),
        ("gpus/GPU-1", False),
    ]
    assert (list(found.reasons), found.engine, found.doomed) == (["why", "and when"], "engines/e-1", True)


def test_a_process_that_only_nvml_knows() -> None:
    """There is nothing to be said about it."""
    found = convert_host.process(Listed(judged(Verdict.DEAD), (), False))

    assert (found.process_name, found.HasField("uid"), found.HasField("start_time")) == ("", False, False)
    assert found.engine == ""


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_its_counterpart(verdict: Verdict) -> None:
    """The proto names each of them alike."""
    found = convert_host.process(Listed(judged(verdict), (), False)).verdict

    assert gpu_pb2.ProcessVerdict.Verdict.Name(found) == f"VERDICT_{verdict}"


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_event_has_its_counterpart(kind: Kind) -> None:
    """The proto names each of them alike."""
    event = Events(lambda: 1_700_000_000.0).record(
        kind, "It happened.", reasons=["why"], engine="e-1", gpus=["GPU-0"], pids=[5], number=3
    )
    found = convert_host.event(event)

    assert event_pb2.Event.Kind.Name(found.kind) == f"KIND_{kind}"
    assert (found.sequence, found.time.seconds, found.message) == (1, 1_700_000_000, "It happened.")
    assert (list(found.reasons), found.engine, list(found.gpus), list(found.pids)) == (
        ["why"],
        "engines/e-1",
        ["gpus/GPU-0"],
        [5],
    )
    assert dict(found.metadata) == {"number": "3"}
