from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.fakes.fake_pynvml import FakePynvml, snapshot_named

Play = Callable[[str], FakePynvml]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Put the driver of a snapshot in the place of the real binding."""

    def play(name: str) -> FakePynvml:
        fake = FakePynvml(snapshot_named(name))
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return play
