"""What the catalogue says of one reason."""

from __future__ import annotations

import dataclasses

from vllmd.errors import Exhausted, Unavailable, VllmdError


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One reason, which stays what it is as long as the API's version does."""

    reason: str
    """UPPER_SNAKE, at most 63 characters."""
    error: type[VllmdError]
    """What it is raised as, and so the code that it travels with, unless `code` says otherwise."""
    means: str
    """What has happened, as a sentence."""
    remedy: str
    """What to do about it, as a sentence."""
    metadata: tuple[str, ...] = ()
    """The keys that it may carry: of `KEYS`, or names that end in one of `NUMBERS_END_IN`."""
    code: str = dataclasses.field(default="", kw_only=True)
    """The name of a gRPC code that says more than its class does."""
    retry_seconds: float | None = dataclasses.field(default=None, kw_only=True)
    """After how long another try may succeed where an engine has failed of it; `None` for what its class says."""
    final: bool = dataclasses.field(default=False, kw_only=True)
    """True if nothing comes back by itself, although its class says that it may."""
    quotes: bool = dataclasses.field(default=False, kw_only=True)
    """True if its message quotes vLLM, the kernel or the driver, whose numbers are nobody's metadata."""

    @property
    def may_pass(self) -> bool:
        """True if the same call may succeed later without anybody doing anything; `RetryInfo` says when to try."""
        return not self.final and issubclass(self.error, (Exhausted, Unavailable))
