from __future__ import annotations

from vllmd.events import Events, Kind
from vllmd.gpu.quarantine import Quarantines


def test_a_gpu_stays_in_quarantine_until_it_is_let_out() -> None:
    """Both are told with their reasons, each once; the first reason is what an operator has to look at."""
    now = 100.0
    events = Events()
    quarantines = Quarantines(events, lambda: now)
    quarantines.put("GPU-a", "it holds 3 GiB of nobody", "e-1", holder="e-1")
    quarantines.put("GPU-a", "something else", holder="e-1")
    held = quarantines.get("GPU-a")
    now = 160.0
    quarantines.lift("GPU-a", "NVML shows its memory back", holder="e-1")
    quarantines.lift("GPU-a", "again", holder="e-1")

    assert held is not None
    assert (held.reason, held.since, held.engine) == ("it holds 3 GiB of nobody", 100.0, "e-1")
    assert "GPU-a" not in quarantines
    assert quarantines.get("GPU-a") is None
    assert [event.kind for event in events.after(0)[0]] == [Kind.QUARANTINE, Kind.QUARANTINE_END]
    assert "after 60 s" in events.after(0)[0][1].message
    assert events.after(0)[0][1].engine == "e-1"


def test_a_gpu_stays_in_on_every_account() -> None:
    """Two engines did not give back their memory: that one of them has does not clear the GPU."""
    events = Events()
    quarantines = Quarantines(events)
    quarantines.put("GPU-a", "engine e-1 left memory", "e-1", holder="e-1")
    quarantines.put("GPU-a", "engine e-2 left memory", "e-2", holder="e-2")
    quarantines.lift("GPU-a", "e-1 is gone", holder="e-1")
    between = "GPU-a" in quarantines
    quarantines.lift("GPU-a", "e-2 is gone", holder="e-2")

    assert between
    assert "GPU-a" not in quarantines
    assert len(events.after(0)[0]) == 2
