"""The daemon's life: it takes over what its predecessor left, serves, and leaves nothing, or everything to the next."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import gc
import logging
import subprocess
import sys

from vllmd import __version__
from vllmd.api import server as api
from vllmd.api.engine_service import EngineService
from vllmd.api.host_service import HostService
from vllmd.config import Settings
from vllmd.configuration.reading import Sources
from vllmd.daemon import afterwards, build, entrance
from vllmd.daemon.claim import claimed
from vllmd.daemon.notify import Notifier
from vllmd.daemon.reload import Reloading
from vllmd.daemon.signals import Signals, Wish
from vllmd.daemon.status_line import status_line
from vllmd.engines.containment import become_subreaper, enter_leaf
from vllmd.engines.predecessor import reclaim_all
from vllmd.events import Kind
from vllmd.scheduler import adoption, journal
from vllmd.scheduler.scheduler import TICK_SECONDS
from vllmd.tasks import repeat, spawn
from vllmd.watchdog import halted
from vllmd.worker.processes import boot_id

_SETTLE_SECONDS = 5.0
"""What the end of an orphan gets that has begun: its kill takes no longer, and the proof can be made anew."""
_LINK_SECONDS = 2.0
"""What engines that are taken over get to serve again before this daemon does; later they are STARTING meanwhile."""
_RECLAIM_SECONDS = 5.0
"""What the memory of engines that are ended at the start gets to be back before this daemon serves; after that their
GPUs are in quarantine until it is."""
_CHECK_SECONDS = 20.0
CHECKED = "vllmd can start"
"""What `--check` writes."""

_log = logging.getLogger("vllmd")


class End(enum.IntEnum):
    """How a daemon's life ended: its exit status, but for the last."""

    CLEAN = 0
    UNPROVEN = 1
    """An engine is not proven to be gone."""
    UPGRADE = -1
    """This process is to execute its program anew; the engines stay."""


async def run(settings: Settings, sources: Sources) -> End:
    """Serve until told to stop.

    Args:
        settings: what holds from the start on.
        sources: where they were read from, and are again.

    Raises:
        VllmdError: it can't start.
        OSError: a directory or socket can't be made.
    """
    build.make_directories(settings)
    async with contextlib.AsyncExitStack() as cleanup:
        cleanup.enter_context(claimed(settings.runtime_dir / "vllmd"))
        cleanup.enter_context(claimed(settings.socket))
        notifier = Notifier()
        signals = Signals()
        cleanup.callback(signals.close)
        become_subreaper()
        enter_leaf()
        afterwards.forget(settings.runtime_dir)
        parts = build.build(settings, cleanup)
        async with notifier.extending():
            await parts.ground.profiles.open()
            await succeed(settings, parts)
        host_service = HostService(
            parts.scheduler,
            parts.monitor,
            parts.watchdog,
            parts.events,
            parts.quarantines,
            parts.ground.losses,
            parts.ground.profiles,
            version=__version__,
            containment=parts.containment.kind,
            engine_python=str(settings.engine_python),
        )
        server = api.Server(EngineService(parts.scheduler), host_service)
        await server.start(entrance.doors(settings), entrance.port(settings))
        works = {
            "tick": repeat("a tick", TICK_SECONDS, parts.scheduler.tick, lambda: notifier.pulse(standing(parts))),
            "journal": parts.scheduler.journal.keep(),
            "watchdog": parts.watchdog.run(),
        }
        for name, work in works.items():
            cleanup.callback(spawn(name, work).cancel)
        parts.events.record(Kind.DAEMON, f"vllmd {__version__} is ready on {settings.socket}.")
        reloading = Reloading(settings, sources, parts)
        notifier.ready()
        notifier.pulse(standing(parts))
        gc.collect()
        gc.freeze()  # what is there by now stays: garbage is looked for among what comes later
        while True:
            match await signals.next_wish():
                case Wish.RELOAD:
                    with notifier.reloading():
                        await reloading.reload()
                case Wish.STOP:
                    notifier.stopping()
                    async with notifier.extending():
                        return await stop(settings, parts, server, signals)
                case Wish.UPGRADE:
                    if not await reloading.forbids_upgrade() and await upgrade(parts, server, signals):
                        notifier.executing()
                        return End.UPGRADE


def standing(parts: build.Parts) -> str:
    """Say in a line what there is, for `systemctl status`."""
    last = parts.events.newest
    states = [entry.supervisor.state for entry in parts.scheduler.engines.alive()]
    return status_line(states, parts.monitor.last.gpus, last.line() if last is not None else "")


async def succeed(settings: Settings, parts: build.Parts) -> None:
    """Take over the engines of an earlier daemon, and end what is left of those that are not gone on with."""
    earlier = journal.read(parts.journal, boot_id())
    patience = min(_RECLAIM_SECONDS, settings.reclaim_timeout)
    await asyncio.to_thread(halted.settle, parts.ground.root, parts.events)
    with parts.scheduler.engines.waiting():
        adopted = parts.scheduler.adopt(earlier) if earlier is not None else frozenset[str]()
        for ended in await reclaim_all(
            parts.ground.root, parts.containment, parts.monitor, patience, parts.events, adopted
        ):
            if not ended.report.verified:
                parts.scheduler.engines.unproven.keep_off(ended.remains, ended.report)
        await adoption.reclaimed(parts.scheduler.engines, adopted, patience)
    await adoption.linked_up(parts.scheduler.engines, adopted, _LINK_SECONDS)


async def stop(settings: Settings, parts: build.Parts, server: api.Server, signals: Signals) -> End:
    """Take no new work, let generations finish, and end every engine."""
    drain_timeout = parts.ground.rules.drain_timeout
    grace = f"running generations get {drain_timeout:g} s; a second signal kills at once"
    parts.events.record(Kind.DAEMON, f"Stopping: {grace}.")
    with afterwards.noted(settings.runtime_dir):
        await server.set_serving(False)
        clean = await parts.scheduler.drain(drain_timeout, signals.second.is_set)
        await parts.watchdog.settled(_SETTLE_SECONDS)
        await server.stop(0.5)
        await parts.scheduler.journal.remove()
    _log.info("stopped; %s", "every engine is gone" if clean else "an engine is NOT proven to be gone")
    return End.CLEAN if clean else End.UNPROVEN


async def upgrade(parts: build.Parts, server: api.Server, signals: Signals) -> bool:
    """Leave everything to the new program if it starts; tells whether it is to be executed now."""
    if not await can_execute():
        parts.events.record(Kind.DAEMON, "Not upgraded: the new program does not start. The log says why.")
        return False
    if signals.first.is_set() or not await hand_over(parts, server):
        return False
    signals.hold()
    return True


async def hand_over(parts: build.Parts, server: api.Server) -> bool:
    """Leave the engines as they are to the code that this process executes next; tells whether that can be."""
    await server.set_serving(False)
    if not await parts.scheduler.hand_over():
        await server.set_serving(True)
        parts.events.record(Kind.DAEMON, "Not upgraded: the journal can't be written, and engines would be lost.")
        return False
    parts.events.record(Kind.DAEMON, "Executing the new code; engines stay.")
    await parts.watchdog.settled(_SETTLE_SECONDS)
    await server.stop(0.5)
    return True


async def can_execute() -> bool:
    """Try the program as it is on the disk now, with the same options: once it is executed there is no way back."""
    # Not by asyncio's own means: uvloop forks, which gRPC takes ill.
    run_it = functools.partial(
        subprocess.run, [*command(), "--check"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_CHECK_SECONDS
    )
    try:
        done = await asyncio.to_thread(run_it, check=True, text=True)
    except subprocess.CalledProcessError as error:
        _log.error("not upgraded: the new program does not start: %s", error.stderr.strip())
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.error("not upgraded: the new program does not start: %s", error)
    else:
        # The status alone is no proof: who waits for any child may have collected this one's, and then it reads 0.
        if done.stdout.strip() == CHECKED:
            return True
        _log.error("not upgraded: the new program does not say that it can start: %s", done.stderr.strip())
    return False


def command() -> list[str]:
    """Say how this program was started, so that it can be again."""
    return [sys.executable, *sys.orig_argv[1:]]
