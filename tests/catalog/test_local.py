from __future__ import annotations

from vllmd import catalog
from vllmd.catalog import local
from vllmd.errors import NotPossible


def test_no_call_brings_them() -> None:
    """They are printed by who raises them."""
    assert not set(catalog.SENT) & {*local.AT_START, *local.WITHOUT_DAEMON}


def test_a_daemon_that_does_not_start_says_what_is_not_possible() -> None:
    """Configuration is no client's request."""
    assert {entry.error for entry in local.AT_START} == {NotPossible}
