from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.doctor.judged import by_check, levels
from vllmd.doctor.places import Place, judge

GIB = 1 << 30
GOOD = Place(
    what="state_dir", path="/var/lib/vllmd", exists=True, writable=True, free_bytes=80 * GIB, total_bytes=100 * GIB,
    mode=0o700, ours=True, little_bytes=GIB,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "ok"),
        ({"exists": False, "mode": None, "ours": None}, "ok"),
        ({"writable": False}, "fail"),
        ({"read_only": True}, "fail"),
        ({"read_only": True, "setting": False, "private": False}, "warn"),
        ({"writable": False, "setting": False, "private": False}, "warn"),
        ({"free_bytes": GIB // 2}, "warn"),
        ({"free_bytes": 0}, "fail"),
        ({"writable": None, "free_bytes": None, "mode": None, "ours": None}, "unknown"),
        ({"mode": 0o775}, "fail"),
        ({"mode": 0o775, "private": False}, "ok"),
        ({"ours": False}, "warn"),
        ({"path": "/~/.local/state/vllmd"}, "fail"),
        ({"path": "/~/.cache/huggingface/hub", "setting": False}, "warn"),
        ({"problem": "/a/long/path is 20 bytes too long"}, "fail"),
    ],
)
def test_how_a_place_stands(changes: dict[str, Any], level: str) -> None:
    """It has to be writable, with room, and nobody else's; the hub's cache may be read-only and shared."""
    assert levels(judge([dataclasses.replace(GOOD, **changes)])) == {"state_dir": level}


def test_what_is_said_of_one_in_order() -> None:
    """Where it is, and how much fits."""
    assert by_check(judge([GOOD]))["state_dir"].found == "/var/lib/vllmd, 80.0 GiB of 100.0 GiB free"


def test_each_place_has_a_line() -> None:
    """In their order."""
    assert list(levels(judge([GOOD, dataclasses.replace(GOOD, what="cache_dir")]))) == ["state_dir", "cache_dir"]
