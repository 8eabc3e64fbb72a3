"""docs/errors.md, made of the catalogue."""

from __future__ import annotations

from google.rpc import code_pb2

from vllmd.api import codes
from vllmd.catalog import KEYS, Entry, engines, host, local, prompts, requests

_INTRO = """\
# Errors

<!-- Made of vllmd/catalog: make docs -->

Every error that a call brings is a `google.rpc.Status` with exactly one `ErrorInfo` of the domain `vllmd`: its `reason`
is one of those below and stays what it is, its `metadata` has every number of the message, and the names that it is
about. The message is for people: what happened, then what to do; its wording may change. Where the same call may
succeed later without anybody doing anything there is a `RetryInfo`, and nowhere else. With some, operators get the last
lines of an engine's log, as a `DebugInfo`. `vllmd.client` raises each as an exception with `reason`, `message` and
`metadata`; `vllmd-cli` prints the message, the reason, and the next command to try.

A failure of an engine, or of one prompt or input of many, has the same reasons: it is a `Failure` with `reason`,
`message` and `metadata`.

What gRPC itself says has no `ErrorInfo`: a message over 16 MiB (`RESOURCE_EXHAUSTED`), a deadline that has passed
(`DEADLINE_EXCEEDED`), a call that its client cancelled (`CANCELLED`), an RPC that this daemon does not know
(`UNIMPLEMENTED`), and no daemon at all (`UNAVAILABLE`).
"""
_SECTIONS = {
    "Requests and callers": ("What would be refused on any host in any state, or for this caller.", requests.ENTRIES),
    "Prompts and parameters": ("What can't be generated from, or not so.", prompts.ENTRIES),
    "Engines and models": ("Why an engine does not start, does not fit, or does not serve.", engines.ENTRIES),
    "Host and daemon": ("What concerns the daemon, or its GPUs as a whole.", host.ENTRIES),
}
_LOCAL = {
    "At the daemon's start": (
        "No call brings these: `vllmd` and `vllmd config check` print them, with the line of the setting.",
        local.AT_START,
    ),
    "Without a daemon": ("Of `vllmd-cli plan` and `vllmd.planner`.", local.WITHOUT_DAEMON),
}


def page() -> str:
    """Write the page."""
    parts = [_INTRO]
    for title, (about, entries) in _SECTIONS.items():
        parts.append(f"## {title}\n\n{about}\n")
        parts += map(_section, entries)
    for title, (about, entries) in _LOCAL.items():
        rows = [f"| `{entry.reason}` | {entry.means} {entry.remedy} |" for entry in entries]
        parts.append(
            "\n".join(
                [f"## {title}\n", f"{about}\n", "| reason | what it means, and what to do |", "|---|---|", *rows, ""]
            )
        )
    keys = [f"| `{key}` | {meaning} |" for key, meaning in sorted(KEYS.items())]
    parts.append("\n".join(["## Metadata\n", "| key | what it is |", "|---|---|", *keys, ""]))
    return "\n".join(parts)


def _section(entry: Entry) -> str:
    code = code_pb2.Code.Name(codes.of_entry(entry))
    again = "; the same call may succeed later, after `RetryInfo`" if entry.may_pass else ""
    lines = [f"### {entry.reason}\n", f"`{code}`{again}.\n", f"{entry.means} {entry.remedy}\n"]
    if entry.metadata:
        lines.append(f"Metadata: {', '.join(f'`{key}`' for key in entry.metadata)}.\n")
    return "\n".join(lines)
