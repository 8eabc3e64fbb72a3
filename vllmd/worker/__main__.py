"""The program that the daemon spawns: `python -m vllmd_worker DIRECTORY`."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import os
import pathlib
import signal
import sys
import traceback

from . import privileges

if __name__ == "__main__":
    privileges.drop()  # before any code of the engine's environment runs

import msgspec

from . import measuring, plugin
from .backend import Backend
from .causes import causes
from .lifeline import Lifeline
from .processes import read_stat
from .server import Server
from .spec import LINK, LOG, Progress, Spec, append_progress, read_spec

_PR_SET_PDEATHSIG = 1


def main(directory: pathlib.Path) -> int:
    """Run the engine whose spec is in *directory*; returns the exit status."""
    # The daemon blocks the signals that it reads, and its children inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    spec = read_spec(directory)
    if spec.cgroup is not None:
        (pathlib.Path(spec.cgroup) / "cgroup.procs").write_text("0")
    own = read_stat(os.getpid())
    assert own is not None
    lifeline = Lifeline(spec, directory, own.identity)
    lifeline.start()
    faulthandler.register(signal.SIGUSR1)
    append_progress(directory, Progress("started", own.identity.pid, own.identity.start_ticks))
    plugin.name_shared_memory(spec.engine_id)
    die_with_this_process()
    try:
        append_progress(directory, Progress("importing", os.getpid()))
        return asyncio.run(run(spec, directory, make_backend(spec)))
    except Exception as error:  # noqa: BLE001 - told to the daemon, which decides what it means
        traceback.print_exc()  # first, since the daemon quotes the log once it has been told
        append_progress(directory, Progress("failed", os.getpid(), errors=causes(error)))
        return 1
    finally:
        lifeline.leave()


def make_backend(spec: Spec) -> Backend:
    """Import the backend that the spec names; importing vLLM takes 10 to 30 seconds."""
    if spec.backend == "fake":
        from .fake_backend import FakeBackend

        return FakeBackend()
    from .vllm_backend import VllmBackend, import_vllm

    import_vllm()
    return VllmBackend()


async def run(spec: Spec, directory: pathlib.Path, backend: Backend) -> int:
    """Load, serve, and end the engine."""
    append_progress(directory, Progress("initializing", os.getpid()))
    info = backend.load(spec)
    await backend.add_adapters()
    info = msgspec.structs.replace(info, measured=await measuring.of_load(backend, directory / LOG))
    server = Server(backend, info, spec.vllmd_version)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    # What was imported and loaded stays, a million objects: garbage is looked for among those that come later.
    gc.collect()
    gc.freeze()
    await server.listen(directory / LINK)
    append_progress(directory, Progress("listening", os.getpid()))
    death = await server.serve()
    if death is not None:
        print(f"vllmd: engine died: {death}", flush=True)
        return 1  # at once: the daemon kills what is left of the tree, and nothing in it is worth waiting for
    backend.shutdown()
    return 0


def die_with_this_process() -> None:
    """Have the kernel SIGKILL every process that this one's main thread forks when this one ends.

    vLLM forks EngineCore unless it must spawn it; for the latter `plugin` does the same. Processes that the
    engine's threads fork, or its children, are left alone: PDEATHSIG would come when that *thread* ends.
    """
    host = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def arm() -> None:
        if os.getppid() == host:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    os.register_at_fork(after_in_child=arm)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
