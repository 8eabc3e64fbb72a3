"""Who makes a call, as far as that is known: gRPC for Python shows no peer's uid, only the listener it came by."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager

from vllmd.api import access
from vllmd.api.access import Role
from vllmd.api.tokens import Token, Tokens


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever came by a listener."""

    role: Role
    way: str
    """The listener, such as `admin.sock` or `127.0.0.1:8765`."""
    token: Token | None = None
    """What was presented, where tokens count."""
    tokens: Tokens | None = None
    """Of which that is one."""

    def __str__(self) -> str:
        name = f" with the token {self.token.name}" if self.token is not None else ""
        return f"{self.role} by {self.way}{name}"


current: contextvars.ContextVar[Caller | None] = contextvars.ContextVar("caller", default=None)
"""Who makes the call that runs; gRPC has a task of its own for each call."""


def counted() -> AbstractContextManager[None]:
    """Count a request of whoever calls while it runs; raises `Exhausted` if that is one too many.

    It is for what makes engines work: a lease that is held costs them nothing. A batch is one: it has one stream, and a
    window of prompts in flight that a client can't widen. It is over before the client hears of
    the end, so that the next request may be made at once.
    """
    caller = current.get()
    if caller is None or caller.token is None or caller.tokens is None:
        return contextlib.nullcontext()
    return caller.tokens.running(caller.token)


def check_model(model: Callable[[], str]) -> None:
    """Check that whoever calls may use a model, which is asked for only where that is limited.

    Raises:
        Denied: it is none of the token's.
    """
    caller = current.get()
    if caller is not None and caller.token is not None and caller.token.models is not None:
        caller.token.check_model(model())


def may_read_logs() -> bool:
    """Tell whether whoever calls may read what engines have logged, as `TailLogs` shows it."""
    caller = current.get()
    return caller is None or caller.role >= access.needed("/vllmd.v1.HostService/TailLogs")
