"""What the daemon does, in one line for `systemctl status`."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from vllmd.engines.state import State
from vllmd.gpu.inventory import Gpu

LONGEST = 240
"""Characters; `systemctl status` shows it in a line of its own."""
_GIB = 1 << 30


def status_line(states: Sequence[State], gpus: Sequence[Gpu], last: str) -> str:
    """Write the line.

    Args:
        states: of the engines that have not ended.
        gpus: those that were seen last.
        last: the last event.
    """
    parts = [_engines(states)]
    if gpus:
        used, total = sum(gpu.used_bytes for gpu in gpus), sum(gpu.total_bytes for gpu in gpus)
        parts.append(f"{used / _GIB:.1f} of {total / _GIB:.1f} GiB on {_count(len(gpus), 'GPU')}")
    parts += [f"last: {last}"] if last else []
    line = "; ".join(parts)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _engines(states: Sequence[State]) -> str:
    if not states:
        return "no engines"
    counted = collections.Counter(states)
    if len(counted) == 1:
        return f"{_count(len(states), 'engine')} {states[0]}"
    each = ", ".join(f"{counted[state]} {state}" for state in State if counted[state])
    return f"{_count(len(states), 'engine')}: {each}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
