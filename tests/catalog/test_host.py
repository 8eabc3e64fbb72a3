from __future__ import annotations

from vllmd.catalog import host


def test_what_is_wrong_with_the_host_passes_by_itself() -> None:
    """No client has to change anything, but where the daemon itself is wrong."""
    assert [entry.reason for entry in host.ENTRIES if not entry.may_pass] == ["INTERNAL"]
