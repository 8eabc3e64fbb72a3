"""`vllmd`: the daemon's command line, and the place where everything is put together."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import pathlib
import signal
import stat
import sys
from collections.abc import Sequence

import pydantic
import uvloop

from vllmd import __version__
from vllmd.config import Settings, default_cache_dir, default_runtime_dir
from vllmd.errors import NotPossible, VllmdError
from vllmd.tasks import spawn

_log = logging.getLogger("vllmd")

_DESCRIPTION = """\
Owns every vLLM engine on this host: starts them with a configuration it works out, serves them over gRPC,
and gives their GPU memory back, proven by NVML.

Runs in the foreground until SIGTERM or Ctrl-C; then it takes no new work, lets running generations finish,
stops every engine and checks that it is gone. A second signal kills at once. Talk to it with vllmd-cli.
"""
_EPILOG = """\
examples:
  vllmd
        serve on the default socket; vLLM is in the daemon's own environment
  vllmd --engine-python /opt/vllm/bin/python --listen 127.0.0.1:8765
        vLLM is in an environment of its own; also serve on loopback TCP
  vllmd --idle-timeout 600
        keep an engine that nobody has a lease on loaded for ten minutes

exit status:
  0  stopped, and every engine is proven to be gone
  1  could not start, or an engine is not proven to be gone
  2  wrong usage
"""


def parser() -> argparse.ArgumentParser:
    """Make the command line's parser."""
    result = argparse.ArgumentParser(
        "vllmd", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    fields = Settings.model_fields

    def default(name: str) -> str:
        return f"(default: {fields[name].default:g})"

    option = result.add_argument
    option(
        "--socket", type=pathlib.Path, metavar="PATH", help="Unix socket to serve on (default: RUNTIME_DIR/vllmd.sock)"
    )
    option("--socket-mode", type=octal, metavar="MODE", help="who may connect, in octal (default: 600)")
    option("--listen", metavar="HOST:PORT", help="also serve on this loopback TCP address; any local user can connect")
    option(
        "--runtime-dir",
        type=pathlib.Path,
        metavar="DIR",
        help="where sockets and engines' directories go "
        "(default: $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/vllmd, or /run/vllmd)",
    )
    option(
        "--cache-dir",
        type=pathlib.Path,
        metavar="DIR",
        help="where what vLLM compiles is kept (default: $CACHE_DIRECTORY or ~/.cache/vllmd)",
    )
    option(
        "--engine-python",
        type=pathlib.Path,
        metavar="PATH",
        help="interpreter of the environment that has vLLM (default: the daemon's own)",
    )
    option(
        "--allow-engine-arg",
        action="append",
        dest="allowed_engine_args",
        metavar="NAME",
        help="engine argument that clients may set although it could run code; may be repeated",
    )
    seconds = {
        "idle_timeout": "how long an engine without leases stays loaded; 0 stops it at once",
        "lease_ttl": "how long a lease lasts unused, unless its client says otherwise",
        "load_timeout": "how long the start of an engine may take",
        "stop_grace": "how long vLLM may take to end by itself",
        "reclaim_timeout": "how long killed processes, and then their memory, may take to be gone",
        "drain_timeout": "how long running generations may go on after SIGTERM",
        "adoption_timeout": "how long engines outlive a daemon that died",
    }
    for name, text in seconds.items():
        option(f"--{name.replace('_', '-')}", type=float, metavar="SECONDS", help=f"{text} {default(name)}")
    option(
        "--backend",
        choices=("vllm", "fake"),
        help="fake: engines are processes without a model, to try vllmd without vLLM (default: vllm)",
    )
    option(
        "--containment",
        choices=("auto", "cgroup", "session"),
        help="what holds an engine's processes together: auto takes a cgroup where one can be made (default: auto)",
    )
    option("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="(default: info)")
    option("--version", action="version", version=f"vllmd {__version__}")
    return result


def octal(text: str) -> int:
    """Read a file mode."""
    return int(text, 8)


def settings_of(namespace: argparse.Namespace) -> Settings:
    """Make settings of what the command line says.

    Raises:
        pydantic.ValidationError: a value is out of its range.
    """
    given = {name: value for name, value in vars(namespace).items() if value is not None and name != "log_level"}
    runtime = given.setdefault("runtime_dir", default_runtime_dir()).absolute()
    given["runtime_dir"] = runtime
    given.setdefault("socket", runtime / "vllmd.sock")
    given.setdefault("cache_dir", default_cache_dir())
    given["socket"], given["cache_dir"] = given["socket"].absolute(), given["cache_dir"].absolute()
    return Settings(**given)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; returns the exit status."""
    arguments = parser()
    namespace = arguments.parse_args(argv)
    logging.basicConfig(
        level=namespace.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        settings = settings_of(namespace)
    except pydantic.ValidationError as error:
        problems = "; ".join(f"--{str(item['loc'][0]).replace('_', '-')}: {item['msg']}" for item in error.errors())
        arguments.error(problems)
    try:
        return uvloop.run(run(settings))
    except VllmdError as error:
        _log.error("%s (%s)", error.message, error.reason)
    except OSError as error:
        _log.error("%s", error)
    return 1


async def run(settings: Settings) -> int:
    """Serve until told to stop; returns the exit status.

    Raises:
        VllmdError: it can't start.
        OSError: a directory or socket can't be made.
    """
    # Imported only now, so that --help and --version answer at once.
    from vllmd.api import server as api
    from vllmd.api.engine_service import EngineService
    from vllmd.api.host_service import HostService
    from vllmd.engines.containment import become_subreaper, group_name, open_containment
    from vllmd.engines.directory import longest_root
    from vllmd.engines.ground import Ground
    from vllmd.engines.predecessor import reclaim_all
    from vllmd.gpu.monitor import GpuMonitor
    from vllmd.scheduler.scheduler import Scheduler

    root = settings.runtime_dir / "e"
    if problem := longest_root(root):
        raise NotPossible("PATH_TOO_LONG", f"{problem}. Choose a shorter --runtime-dir.")
    if settings.listen is not None:
        api.check_listen(settings.listen)
    for directory in (settings.runtime_dir, root, settings.cache_dir):
        make_private(directory)
    settings.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as cleanup:
        lock = api.lock(settings.socket)
        cleanup.callback(os.close, lock)
        cleanup.callback(pathlib.Path(f"{settings.socket}.lock").unlink, missing_ok=True)
        signals = Signals()
        become_subreaper()
        containment = open_containment(group_name(settings.runtime_dir), settings.containment)
        cleanup.callback(containment.close)
        monitor = GpuMonitor()
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


class Signals:
    """SIGTERM and SIGINT: the first drains, the second hurries."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, self._received)

    def _received(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


def make_private(directory: pathlib.Path) -> None:
    """Make a directory for this user alone; one that exists must be this user's, and nobody else's to write to.

    Raises:
        NotPossible: somebody else could put anything there.
        OSError: it can't be made.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotPossible("NOT_OURS", f"{directory} is not a directory.", directory=directory)
    if status.st_uid != os.geteuid():
        raise NotPossible("NOT_OURS", f"{directory} belongs to uid {status.st_uid}, not to us.", directory=directory)
    if status.st_mode & 0o022:
        mode = stat.S_IMODE(status.st_mode)
        raise NotPossible("NOT_OURS", f"Others can write to {directory} (mode {mode:o}).", directory=directory)


if __name__ == "__main__":
    sys.exit(main())
