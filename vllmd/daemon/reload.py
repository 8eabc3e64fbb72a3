"""Puts a configuration that was read again in force while the daemon runs: engines, connections and streams stay."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from vllmd.config import Rules, Settings
from vllmd.configuration import show
from vllmd.configuration.catalog import BY_RESTART, BY_UPGRADE
from vllmd.configuration.problems import ConfigurationError
from vllmd.configuration.reading import Reading, Sources
from vllmd.daemon.build import Parts
from vllmd.events import Kind
from vllmd.planner.secrecy import visible
from vllmd.tasks import in_thread
from vllmd.worker.causes import named

_READ_SECONDS = 10.0
"""What files may take to answer."""

_log = logging.getLogger("vllmd")


def changes(before: Rules, after: Rules) -> list[str]:
    """List what becomes different, as `idle_timeout 0 -> 600`; engine arguments one by one."""
    return list(_changes(before, after))


def differing(start: Settings, wanted: Settings, among: frozenset[str]) -> list[str]:
    """Name the settings *among* some that are not what they were at the start."""
    return sorted(name for name in among if getattr(start, name) != getattr(wanted, name))


class Reloading:
    """Reads the configuration again, whenever it is asked to.

    Args:
        start: what the daemon was started with.
        sources: where that was read from.
        parts: what changes with it.
    """

    def __init__(self, start: Settings, sources: Sources, parts: Parts) -> None:
        self._start = start
        self._sources = sources
        self._parts = parts

    async def reload(self) -> None:
        """Put what was read in force; if anything is wrong with it, what was in force stays so, and it is told."""
        record = self._parts.events.record
        try:
            wanted = (await self._read()).settings
        except ConfigurationError as error:
            for problem in error.problems:
                _log.error("%s", problem)
            count = len(error.problems)
            message = f"The configuration stays as it was: it has {count} error{'s' * (count > 1)}."
            record(Kind.DAEMON, message, reasons=[str(problem) for problem in error.problems])
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, engines do not depend on it
            _log.error("the configuration can't be read", exc_info=error)
            record(Kind.DAEMON, "The configuration stays as it was: it can't be read.", reasons=[named(error)])
            return
        changed = self._put_in_force(wanted)
        told = ", ".join(changed) if changed else "nothing changes"
        record(Kind.DAEMON, f"The configuration was read again: {told}.")
        self._tell_what_stays(wanted)

    async def forbids_upgrade(self) -> bool:
        """Tell, also as an event, whether new code would not find this daemon's engines any more.

        Whether the configuration is right, the new code itself is asked: it may know settings that this does not.
        """
        try:
            wanted = (await self._read()).settings
        except Exception as error:  # noqa: BLE001 - whatever it is, the new code will say so, too
            _log.info("the configuration is left to the new code: %s", named(error))
            return False
        if others := differing(self._start, wanted, BY_RESTART):
            reason = f"{', '.join(others)} changed, which takes a restart"
            self._parts.events.record(Kind.DAEMON, "Not upgraded: engines would be lost.", reasons=[reason])
        return bool(others)

    async def _read(self) -> Reading:
        return await in_thread("reading the configuration", self._sources.read, _READ_SECONDS)

    def _put_in_force(self, wanted: Settings) -> list[str]:
        live = self._parts.ground.live
        before, live.rules = live.rules, wanted
        logging.getLogger().setLevel(wanted.log_level.upper())
        self._parts.scheduler.rules_changed(before)
        self._parts.watchdog.poke()  # it may be in the middle of a wait that is too long now
        return changes(before, wanted)

    def _tell_what_stays(self, wanted: Settings) -> None:
        for names, what in ((BY_UPGRADE, "an upgrade (SIGUSR2)"), (BY_RESTART, "a restart")):
            if stay := differing(self._start, wanted, names):
                needs = "needs" if len(stay) == 1 else "need"
                message = f"{', '.join(stay)} {needs} {what}, and {'stay' + 's' * (len(stay) == 1)} as at the start."
                self._parts.events.record(Kind.DAEMON, message, settings=",".join(stay))


def _changes(before: Rules, after: Rules) -> Iterator[str]:
    for name in Rules.model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if name == "engine_args":
            for argument in dict.fromkeys([*old, *new]):
                if old.get(argument, show) != new.get(argument, show):  # anything that is no value
                    yield f"{name}.{argument} {_argument(argument, old)} -> {_argument(argument, new)}"
        elif old != new:
            yield f"{name} {_value(name, old)} -> {_value(name, new)}"


def _value(name: str, value: Any) -> str:
    return "not set" if value is None else show.setting(name, value)


def _argument(name: str, arguments: dict[str, Any]) -> str:
    return show.toml(visible(arguments)[name]) if name in arguments else "not set"
