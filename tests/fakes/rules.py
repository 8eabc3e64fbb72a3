"""Rules and a ground of engines as tests name them: flat, and in short times that no operator may set."""

from __future__ import annotations

import dataclasses
from typing import Any

from vllmd.config import Live, Rules
from vllmd.engines.ground import Ground
from vllmd.engines.restarts import Policy


def live(**rules: Any) -> Live:
    """Rules that are in force, whatever their values."""
    return Live(Rules().model_copy(update=rules))


def change(of: Live, **rules: Any) -> Rules:
    """Put other rules in force, as a reload does; returns those that held before."""
    before = of.rules
    of.rules = before.model_copy(update=rules)
    return before


def ground(restarts: Policy | None = None, **given: Any) -> Ground:
    """A ground of engines; names of rules become its rules."""
    if restarts is not None:
        given["restart_limit"], given["restart_window"] = restarts.limit, restarts.window_seconds
        given["first_restart_delay"] = restarts.first_delay_seconds
    rules = {name: given.pop(name) for name in list(given) if name in Rules.model_fields}
    return Ground(live=live(**rules), **given)


def altered(of: Ground, **given: Any) -> Ground:
    """The same ground with something else; names of rules change its rules."""
    rules = {name: given.pop(name) for name in list(given) if name in Rules.model_fields}
    return dataclasses.replace(of, live=Live(of.rules.model_copy(update=rules)), **given)
