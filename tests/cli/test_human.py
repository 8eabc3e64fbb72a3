from __future__ import annotations

import pytest

from vllmd.cli import human
from vllmd.v1.engine_pb2 import Engine, EngineArg, LoadProgress
from vllmd.v1.gpu_pb2 import Gpu, GpuLink


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.085, "85ms"),
        (0.9996, "1s"),
        (1.24, "1.2s"),
        (9.96, "10s"),
        (42, "42s"),
        (59.7, "1m"),
        (190, "3m10s"),
        (600, "10m"),
        (7500, "2h05m"),
        (7200, "2h"),
        (273_600, "3d04h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """Durations have two units at most, and no unit that is zero."""
    assert human.duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), (" 1.5H ", 5400), ("1d", 86400)]
)
def test_parse_duration(text: str, seconds: float) -> None:
    """Durations are read as people write them."""
    assert human.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "5x", "-5", "1h30", "10 m", "m", "1..5s"])
def test_parse_duration_refuses(text: str) -> None:
    """What is no duration, or could mean two, is refused with an example."""
    with pytest.raises(ValueError, match="write 90s, 10m or 1h30m"):
        human.parse_duration(text)


def test_sizes_counts_and_names() -> None:
    """Sizes are in GiB, plurals are right, names lose their collection."""
    assert human.gib(63 * 2**30) == "63.0 GiB"
    assert [human.count(number, "lease") for number in (0, 1, 2)] == ["0 leases", "1 lease", "2 leases"]
    assert human.count(3, "process") == "3 processes"
    assert human.short("engines/a-1") == human.short("a-1") == "a-1"


def test_slices_are_numbered_within_their_gpu() -> None:
    """Each GPU's begin anew, whatever is between them."""
    cut = [Gpu(index=index, mig_parent=f"gpus/GPU-{index}") for index in (0, 0, 2)]

    assert human.gpu_numbers([*cut[:2], Gpu(index=1), cut[2]]) == ["0:0", "0:1", "1", "2:0"]


def test_enums() -> None:
    """Enums lose their prefix; a newer daemon's value is its number."""
    assert human.state(Engine.STATE_READY) == "READY"
    assert human.phase(LoadProgress.PHASE_LOADING_WEIGHTS) == "loading weights"
    assert human.source(EngineArg.SOURCE_AUTO) == "auto"
    assert human.path(GpuLink.PATH_NODE) == "NODE"
    assert human.state(77) == "77"  # type: ignore[arg-type]
