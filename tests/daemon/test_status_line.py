from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from vllmd.daemon.status_line import LONGEST, status_line
from vllmd.engines.state import State


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ((), "no engines"),
        ((State.READY,), "1 engine READY"),
        ((State.READY, State.READY), "2 engines READY"),
        ((State.READY, State.STARTING, State.READY), "3 engines: 1 STARTING, 2 READY"),
    ],
)
def test_engines_are_counted_by_state(states: Sequence[State], told: str) -> None:
    """In the order of their lives."""
    assert status_line(states, (), "") == told


def test_memory_is_that_of_all_gpus() -> None:
    """In use by anybody, of all there is; the last event comes last."""
    gpus = [
        dataclasses.replace(gpu(0), used_bytes=GIB, total_bytes=24 * GIB),
        dataclasses.replace(gpu(1), used_bytes=GIB // 2, total_bytes=24 * GIB),
    ]

    assert status_line((), gpus, "ENGINE: a -> b") == "no engines; 1.5 of 48.0 GiB on 2 GPUs; last: ENGINE: a -> b"


def test_it_stays_short() -> None:
    """An event may quote a whole error."""
    line = status_line((), (), "x" * 1000)

    assert len(line) == LONGEST
    assert line.endswith("…")
