from __future__ import annotations

from vllmd.api.access import Role
from vllmd.api.callers import Caller


def test_a_caller_in_words() -> None:
    """As the audit says it: what is known, and no more."""
    assert str(Caller(role=Role.OPERATOR, way="admin.sock")) == "operator by admin.sock"
