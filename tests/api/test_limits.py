from __future__ import annotations

import pytest

from vllmd.api import limits
from vllmd.errors import InvalidRequest


@pytest.mark.parametrize("count", [1, limits.MAX_PROMPTS])
def test_what_one_call_takes_passes(count: int) -> None:
    """The largest included."""
    limits.check_count(count, "prompts")


@pytest.mark.parametrize(("count", "reason"), [(0, "INVALID_FIELD"), (limits.MAX_PROMPTS + 1, "TOO_MANY_PROMPTS")])
def test_what_it_does_not_take_is_refused_by_name(count: int, reason: str) -> None:
    """The numbers of the message are in the metadata."""
    with pytest.raises(InvalidRequest, match=r"^inputs ") as refused:
        limits.check_count(count, "inputs")

    assert refused.value.reason == reason
    assert count == 0 or refused.value.metadata == {
        "field": "inputs",
        "count": "10001",
        "limit": "10000",
        "limit_mib": "16",
    }
