"""Puts everything together, serves, and takes it apart again."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil

from vllmd import __version__
from vllmd.api import server as api
from vllmd.api.engine_service import EngineService
from vllmd.api.host_service import HostService
from vllmd.config import Settings
from vllmd.daemon.claim import check_socket, claimed, make_private
from vllmd.daemon.signals import Signals
from vllmd.engines.containment import become_subreaper, group_name, open_containment
from vllmd.engines.directory import longest_root
from vllmd.engines.ground import Ground
from vllmd.engines.predecessor import reclaim_all
from vllmd.errors import NotPossible
from vllmd.gpu.monitor import GpuMonitor
from vllmd.gpu.nvml import Nvml
from vllmd.scheduler.scheduler import Scheduler
from vllmd.tasks import spawn

_log = logging.getLogger("vllmd")


async def run(settings: Settings) -> int:
    """Serve until told to stop; returns the exit status.

    Raises:
        VllmdError: it can't start.
        OSError: a directory or socket can't be made.
    """
    root = settings.runtime_dir / "e"
    if problem := longest_root(root):
        raise NotPossible("PATH_TOO_LONG", f"{problem}. Choose a shorter --runtime-dir.")
    if settings.listen is not None:
        api.check_listen(settings.listen)
    if settings.backend == "vllm" and shutil.which(settings.engine_python) is None:
        message = f"--engine-python {settings.engine_python} is no program that can be run."
        raise NotPossible("NO_ENGINE_PYTHON", message, engine_python=settings.engine_python)
    for directory in (settings.runtime_dir, root, settings.cache_dir):
        make_private(directory)
    settings.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_socket(settings.socket)
    async with contextlib.AsyncExitStack() as cleanup:
        cleanup.enter_context(claimed(settings.runtime_dir / "vllmd"))
        cleanup.enter_context(claimed(settings.socket))
        signals = Signals()
        become_subreaper()
        containment = open_containment(group_name(settings.runtime_dir), settings.containment)
        cleanup.callback(containment.close)
        monitor = GpuMonitor(Nvml(os.environ.get("CUDA_VISIBLE_DEVICES")))
        cleanup.callback(monitor.close)
        await reclaim_all(root, monitor, settings.reclaim_timeout)
        ground = Ground(
            root=root,
            cache=settings.cache_dir,
            python=settings.engine_python,
            backend=settings.backend,
            containment=containment,
            monitor=monitor,
            version=__version__,
            load_timeout=settings.load_timeout,
            stop_grace=settings.stop_grace,
            reclaim_timeout=settings.reclaim_timeout,
            adoption_timeout=settings.adoption_timeout,
            log_limit_bytes=settings.log_limit_bytes,
        )
        scheduler = Scheduler(
            ground,
            lease_ttl=settings.lease_ttl,
            idle_timeout=settings.idle_timeout,
            allowed_args=settings.allowed_engine_args,
        )
        host_service = HostService(
            scheduler,
            monitor,
            version=__version__,
            containment=containment.kind,
            engine_python=str(settings.engine_python),
        )
        server = api.Server(EngineService(scheduler), host_service)
        await server.start(settings.socket, settings.socket_mode, settings.listen)
        ticking = spawn("tick", scheduler.tick())
        cleanup.callback(ticking.cancel)
        _log.info("vllmd %s is ready on %s", __version__, settings.socket)
        await signals.first.wait()
        _log.info("stopping: running generations get %g s; a second signal kills at once", settings.drain_timeout)
        await server.set_serving(False)
        clean = await scheduler.drain(settings.drain_timeout, signals.second.is_set)
        await server.stop(0.5)
        _log.info("stopped; %s", "every engine is gone" if clean else "an engine is NOT proven to be gone")
        return 0 if clean else 1
