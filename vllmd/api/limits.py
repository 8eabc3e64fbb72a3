"""How much clients may send in one call, and get in one message."""

from __future__ import annotations

from vllmd.errors import InvalidRequest

MAX_REQUEST_BYTES = 16 << 20
"""Some millions of tokens: more than any model takes, and small enough to be held several times over."""

MAX_RESPONSE_BYTES = 64 << 20

MAX_PROMPTS = 10_000
"""Of one call."""

MAX_TEXT_BYTES = 4 << 20
"""Of a text to be tokenized that need not fit into a context: a million tokens or so, and a second's work."""

MAX_TOKENS = 1_000_000
"""To be made text of."""


def check_count(count: int, field: str) -> None:
    """Check how many prompts there are.

    Raises:
        InvalidRequest: there are none, or too many.
    """
    if not count:
        raise InvalidRequest("INVALID_FIELD", f"{field} is empty: give at least one.", field=field)
    if count > MAX_PROMPTS:
        mib = MAX_REQUEST_BYTES >> 20
        message = (
            f"{field} has {count} entries; one call takes at most {MAX_PROMPTS}, and {mib} MiB in all: "
            "send the rest in further calls."
        )
        numbers = {"count": count, "limit": MAX_PROMPTS, "limit_mib": mib}
        raise InvalidRequest("TOO_MANY_PROMPTS", message, field=field, **numbers)
