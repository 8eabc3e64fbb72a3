"""Who makes a call, as far as that is known: gRPC for Python shows no peer's uid, only the listener it came by."""

from __future__ import annotations

import dataclasses

from vllmd.api.access import Role


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever came by a listener."""

    role: Role
    way: str
    """The listener, such as `admin.sock` or `127.0.0.1:8765`."""

    def __str__(self) -> str:
        return f"{self.role} by {self.way}"
