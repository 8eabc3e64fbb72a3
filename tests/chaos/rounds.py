"""Rounds of chaos, each with a quiet point at its end where everything is looked at."""

from __future__ import annotations

import collections
import dataclasses
import time

from tests.chaos.checks import wrong
from tests.chaos.monkey import Monkey
from tests.host.running import Home, until

_ACTIONS = 60
_PAUSE_SECONDS = 0.05
_SETTLE_SECONDS = 40.0
BAD_ENDS = ("UNKNOWN", "generate: DEADLINE_EXCEEDED", "release: DEADLINE_EXCEEDED", "stop: DEADLINE_EXCEEDED")
"""How no call may end: an exception that nobody thought of, a call that hung. (A load may take too long.)"""


@dataclasses.dataclass
class Findings:
    """What a run did and found."""

    rounds: int
    did: collections.Counter[str]
    ends: collections.Counter[str]
    wrong: list[str]

    def __str__(self) -> str:
        did = ", ".join(f"{name} {count}" for name, count in self.did.most_common())
        ends = ", ".join(f"{name} {count}" for name, count in sorted(self.ends.items()))
        verdict = "\n".join(self.wrong) or "nothing was wrong at any quiet point"
        return f"{self.rounds} rounds\ndid: {did}\ncalls ended: {ends}\n{verdict}"


def run(place: Home, seed: int, seconds: float, verbose: bool = False) -> Findings:
    """Let the monkey act for a while, in rounds."""
    monkey = Monkey(place, seed)
    findings = Findings(0, monkey.did, monkey.ends, [])
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and not findings.wrong:
            acts = 0
            while acts < _ACTIONS:
                acts += monkey.act()
                time.sleep(_PAUSE_SECONDS)  # the pace of the chaos, not a wait for anything
            monkey.quiet()
            findings.rounds += 1
            findings.wrong = _settled(place, monkey)
            if verbose:
                print(
                    f"round {findings.rounds}: {len(findings.wrong)} wrong, {sum(monkey.did.values())} actions",
                    flush=True,
                )
        monkey.close()
        findings.wrong += [
            f"{count} calls ended with {end}" for end, count in monkey.ends.items() if end.endswith(BAD_ENDS)
        ]
    finally:
        monkey.lift()
    if monkey.daemon.stop() != 0:
        findings.wrong.append("the daemon did not end well")
    return findings


def _settled(place: Home, monkey: Monkey) -> list[str]:
    """Give what is still on its way some time, then tell what is wrong."""
    try:
        until(lambda: not wrong(place, monkey.daemon), "everything to be gone", _SETTLE_SECONDS)
    except AssertionError:
        return wrong(place, monkey.daemon)
    return []
