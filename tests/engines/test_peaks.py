from __future__ import annotations

import dataclasses

from tests.fakes.fake_gpus import GIB, gpu
from vllmd.engines.peaks import Peaks
from vllmd.gpu.inventory import GpuProcess

BEFORE = dataclasses.replace(gpu(0), used_bytes=GIB, processes=())
OTHER = dataclasses.replace(gpu(1), used_bytes=0, processes=())


def test_the_most_of_any_look_at_any_gpu_counts() -> None:
    """By what the driver says of the engine's own processes."""
    peaks = Peaks()
    peaks.begin("a", [BEFORE, OTHER])
    for held in ({"GPU-0": 2 * GIB}, {"GPU-0": 5 * GIB, "GPU-1": 7 * GIB}, {"GPU-0": 3 * GIB, "GPU-1": GIB}):
        peaks.observe([BEFORE, OTHER], {"a": held, "b": {"GPU-0": 99 * GIB}})

    assert peaks.end("a") == 7 * GIB


def test_where_the_driver_does_not_say_what_a_gpu_has_more_counts() -> None:
    """As inside containers, where processes are listed without their shares, or not at all."""
    for processes in ((), (GpuProcess(7, None),)):
        peaks = Peaks()
        peaks.begin("a", [BEFORE])
        peaks.observe([dataclasses.replace(BEFORE, used_bytes=4 * GIB, processes=processes)], {})

        assert peaks.end("a") == 3 * GIB


def test_where_the_driver_says_that_it_is_others_nothing_counts() -> None:
    """A neighbour grows while the engine imports: that is not its own."""
    peaks = Peaks()
    peaks.begin("a", [BEFORE])
    peaks.observe([dataclasses.replace(BEFORE, used_bytes=4 * GIB, processes=(GpuProcess(7, 3 * GIB),))], {})

    assert peaks.end("a") is None


def test_only_what_is_being_loaded_is_watched() -> None:
    """Not what has ended, nor GPUs that are not its own; a new start begins anew."""
    peaks = Peaks()
    peaks.observe([BEFORE], {"a": {"GPU-0": GIB}})
    peaks.begin("a", [BEFORE])
    peaks.observe([OTHER], {"a": {"GPU-1": 9 * GIB}})
    peaks.observe([BEFORE], {"a": {"GPU-0": 5 * GIB}})
    peaks.begin("a", [BEFORE])
    peaks.observe([BEFORE], {"a": {"GPU-0": GIB}})

    assert peaks.end("a") == GIB
    assert peaks.end("a") is None
