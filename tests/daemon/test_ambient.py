from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.fakes.capabilities import AS_NOBODY_WITH, KILL, PTRACE, SHOW, SHOW_IN_A_CHILD, shown

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives capabilities away, which root may")

WITHHELD = f"""
from vllmd.daemon import ambient
held = ambient.withhold()
print(sorted(held), flush=True)
{SHOW}
{SHOW_IN_A_CHILD}
ambient.pass_on(held)
{SHOW_IN_A_CHILD}
"""


def test_no_child_has_what_the_daemon_was_given() -> None:
    """It keeps its powers; programs that it executes get none, until the one that takes its place."""
    program = AS_NOBODY_WITH.format(program=WITHHELD)
    told = subprocess.check_output([sys.executable, "-c", program], text=True)
    both = 1 << KILL | 1 << PTRACE

    assert told.startswith(f"[{KILL}, {PTRACE}]\n")
    assert shown(told) == [(both, both, 0), (0, 0, 0), (both, both, both)]


def test_who_was_given_nothing_has_nothing_to_withhold() -> None:
    """As in a terminal."""
    program = "from vllmd.daemon import ambient; held = ambient.withhold(); ambient.pass_on(held); print(sorted(held))"

    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"
