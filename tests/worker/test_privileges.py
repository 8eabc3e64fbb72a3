from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tests.fakes.capabilities import AS_NOBODY_WITH, SHOW, SHOW_IN_A_CHILD, shown
from vllmd.worker.privileges import OOM_SCORE, raise_oom_score

DROPPED = f"""
import subprocess
from vllmd.worker import privileges
privileges.drop()
{SHOW}
{SHOW_IN_A_CHILD}
print(open("/proc/self/oom_score_adj").read().strip())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="gives capabilities away, which root may")
def test_a_worker_keeps_nothing_that_its_daemon_had() -> None:
    """Neither for itself nor for what it starts; and where memory runs out it goes first."""
    program = AS_NOBODY_WITH.format(program=DROPPED)
    told = subprocess.check_output([sys.executable, "-c", program], text=True)

    assert shown(told) == [(0, 0, 0)] * 2
    assert told.endswith(f"\n{OOM_SCORE}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_root_stays_root() -> None:
    """Its powers are not from us."""
    (permitted, effective, ambient), _ = shown(subprocess.check_output([sys.executable, "-c", DROPPED], text=True))

    assert permitted == effective != 0
    assert ambient == 0


@pytest.mark.parametrize(("before", "after"), [("-800", str(OOM_SCORE)), ("0", str(OOM_SCORE)), ("900", "900")])
def test_the_score_is_never_lowered(tmp_path: pathlib.Path, before: str, after: str) -> None:
    """Somebody may want an engine to go even earlier; and to lower it takes powers."""
    file = tmp_path / "oom_score_adj"
    file.write_text(before)
    raise_oom_score(file)

    assert file.read_text() == after


def test_a_score_that_can_not_be_raised_stops_nobody(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine's log says so."""
    raise_oom_score(tmp_path / "nowhere" / "oom_score_adj")

    assert "No such file" in capsys.readouterr().err
