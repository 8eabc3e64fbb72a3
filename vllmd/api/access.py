"""Who may call what: each RPC belongs to one role. Pure.

A method without a rule is an operator's: a new one is closed until somebody decides, and a test asks for that.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from vllmd.errors import Denied


class Role(enum.IntEnum):
    """What a caller is to this daemon; each may do all that those before it may."""

    USER = 1
    """Loads models and generates."""
    OPERATOR = 2
    """Answers for the host."""

    @classmethod
    def named(cls, name: str) -> Role:
        """Find a role by the word that people write; raises `KeyError` if there is none."""
        return cls[name.upper()]

    def __str__(self) -> str:
        return self.name.lower()


_ENGINES = "/vllmd.v1.EngineService/"
_HOST = "/vllmd.v1.HostService/"
_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/"

RULES: Mapping[str, Role] = {
    # What clients are for. Leases are secrets, so that none ends or uses another's by chance.
    **dict.fromkeys(
        (
            _ENGINES + name
            for name in (
                *("LoadModel", "PlanModel", "Release", "RenewLease"),
                *("Generate", "GenerateBatch", "Embed", "Tokenize", "Detokenize"),
                *("ListEngines", "GetEngine", "WatchEngines"),
            )
        ),
        Role.USER,
    ),
    # Whether and how to talk to the daemon.
    **dict.fromkeys((_HEALTH + name for name in ("Check", "List", "Watch")), Role.USER),
    _REFLECTION + "ServerReflectionInfo": Role.USER,
    # What there is, what is free and who holds the rest: one can't ask for what fits without it. It is no more than
    # nvidia-smi tells every user of the host: no command lines, no environments.
    **dict.fromkeys(
        (_HOST + name for name in ("GetStatus", "ListGpus", "ListGpuProcesses", "ListProfiles")), Role.USER
    ),
    # Logs of engines may quote prompts.
    _HOST + "TailLogs": Role.OPERATOR,
    # Events tell of everybody's engines, with the ends of their logs, and of what operators do.
    _HOST + "WatchEvents": Role.OPERATOR,
    # These take from others what they use, or what was learned for them. Reclaim's dry run stays with the rest of it.
    **dict.fromkeys((_HOST + name for name in ("StopEngine", "Reclaim", "ForgetProfiles")), Role.OPERATOR),
}
"""The least role that may call each method."""


def needed(method: str) -> Role:
    """Tell which role a method takes."""
    return RULES.get(method, Role.OPERATOR)


def check(method: str, role: Role, way: str, remedy: str) -> None:
    """Check that a role may call a method.

    Args:
        method: such as `/vllmd.v1.HostService/StopEngine`.
        role: what the caller is.
        way: by what the caller is that, such as `vllmd.sock`.
        remedy: what to do about it, as a sentence.

    Raises:
        Denied: it may not.
    """
    if role < (least := needed(method)):
        name = method.rpartition("/")[2]
        message = f"{name} is for operators, and who comes by {way} is a {role}. {remedy}"
        raise Denied("OPERATOR_NEEDED", message, method=name, role=role, needed=least, way=way)
