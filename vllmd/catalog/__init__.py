"""Every reason that an error of vllmd can have: what it means, what to do, and what it carries.

Knows nothing of gRPC and raises nothing: whoever raises an error names a reason that is here, as the class that stands
here. `docs/errors.md` is made of it. A new reason takes an entry here and, if calls bring it, a scenario in
`tests/api/scenarios`, without which the tests fail.
"""

from vllmd.catalog import engines, host, local, prompts, requests
from vllmd.catalog.entry import Entry
from vllmd.catalog.keys import KEYS

__all__ = ["ALL", "KEYS", "SENT", "Entry", "find"]

SENT = (*requests.ENTRIES, *prompts.ENTRIES, *engines.ENTRIES, *host.ENTRIES)
"""What calls bring."""

ALL = (*SENT, *local.AT_START, *local.WITHOUT_DAEMON)

_BY_REASON = {entry.reason: entry for entry in ALL}


def find(reason: str) -> Entry | None:
    """Find what is said of a reason; `None` if there is none of that name."""
    return _BY_REASON.get(reason)
