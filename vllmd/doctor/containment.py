"""Judges whether engines can have cgroups of their own, from where the doctor runs. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from vllmd.doctor.finding import Finding, fail, ok, unknown, warn


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CgroupFacts:
    """What is seen of cgroup v2."""

    wanted: str
    """`auto`, `cgroup` or `session`, as the configuration has it."""
    own: str | None
    """The directory of our own cgroup; `None` without v2."""
    made: bool
    """Whether a cgroup that can be killed could be made below it."""
    controllers: frozenset[str] | None
    """Those of our own cgroup; `None` if they can't be read."""
    memory_max: int | None = None
    """Bytes that an engine may use, by the configuration."""
    unit: str | None = None
    """The systemd service that this runs in; `None` outside of one."""
    root: bool = False


def judge(facts: CgroupFacts) -> Iterator[Finding]:
    """Say how engines are held together, and whether their memory can be limited."""
    yield _containment(facts)
    yield _controllers(facts)


def _containment(facts: CgroupFacts) -> Finding:
    where = f"in {facts.unit}" if facts.unit else "in this process's cgroup"
    if facts.wanted == "session":
        return ok("cgroups", "not used: containment is session")
    if facts.made:
        whose = "as root" if facts.root and not facts.unit else "delegated"
        return ok("cgroups", f"can be made {where} ({whose}, {facts.own})")
    why = "there is no cgroup v2" if facts.own is None else f"none can be made {where}"
    todo = _way_out(facts)
    if facts.wanted == "cgroup":
        return fail("cgroups", f"{why}, and containment = cgroup wants them", todo)
    return warn("cgroups", f"{why}: engines are held together by their sessions", todo)


def _way_out(facts: CgroupFacts) -> str:
    if facts.own is None:
        return "Mount cgroup2, as systemd does by default; in a container, it is the host's choice."
    if facts.unit:
        return "The unit needs Delegate=yes, and no ProtectControlGroups=yes."
    return "Run it as the service, which has Delegate=yes, or try `systemd-run --user --scope -p Delegate=yes vllmd`."


def _controllers(facts: CgroupFacts) -> Finding:
    if facts.controllers is None:
        found = "which there are can't be read"
        if facts.memory_max is None:
            return unknown("controllers", found)
        return fail("controllers", f"{found}, and engine_memory_max needs memory", _NO_LIMIT)
    names = ", ".join(sorted(facts.controllers)) or "none"
    if facts.memory_max is not None and "memory" not in facts.controllers:
        return fail("controllers", f"{names}; engine_memory_max needs memory", _NO_LIMIT)
    return ok("controllers", names)


_NO_LIMIT = "Take engine_memory_max out, or run it where the memory controller is delegated (Delegate=yes)."
