from __future__ import annotations

from vllmd.catalog import requests
from vllmd.errors import Denied, Unauthenticated, Unavailable


def test_nothing_that_is_wrong_with_a_request_passes_by_itself() -> None:
    """But for one that only has to wait for the caller's own."""
    assert [entry.reason for entry in requests.ENTRIES if entry.may_pass] == ["TOO_MANY_REQUESTS"]
    assert Unavailable not in {entry.error for entry in requests.ENTRIES}


def test_who_may_not_is_told_by_class() -> None:
    """Clients tell a missing token from one that is not enough."""
    unknown = {entry.reason for entry in requests.ENTRIES if entry.error is Unauthenticated}
    denied = {entry.reason for entry in requests.ENTRIES if entry.error is Denied}

    assert unknown == {"TOKEN_MISSING", "TOKEN_UNKNOWN"}
    assert denied == {"MODEL_NOT_ALLOWED", "MODEL_PATH_NOT_ALLOWED", "OPERATOR_NEEDED"}
