"""What a judge says, by check: tests read as tables of facts and levels."""

from __future__ import annotations

from collections.abc import Iterable

from vllmd.doctor.finding import Finding, Level


def by_check(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Name each finding by its check; whoever says that something is wrong says what to do, too."""
    found = {finding.check: finding for finding in findings}
    assert not [one for one in found.values() if one.level in (Level.WARN, Level.FAIL) and not one.todo]
    return found


def levels(findings: Iterable[Finding]) -> dict[str, str]:
    """Tell how each check stands."""
    return {check: str(finding.level) for check, finding in by_check(findings).items()}
