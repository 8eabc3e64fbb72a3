"""What runs inside vLLM's own processes: names for shared memory, and death together with the worker.

vLLM calls every `vllm.general_plugins` entry point it finds in EngineCore, in each Worker and in the worker
host itself. The daemon writes `DIST_INFO` next to the copied package, so ours is found there. Two jobs:

* POSIX shared memory and semaphores get the engine's id into their names. After a SIGKILL of the whole tree
  nobody unlinks them, and by default their names tell nothing.
* EngineCore asks the kernel for SIGKILL when the worker dies (PDEATHSIG). vLLM has nothing of that kind: a
  core whose host was killed lives on and keeps its memory. The signal ends a stopped or busy core too.

Workers of a tensor-parallel group get no PDEATHSIG: newer vLLM starts them from a short-lived thread, and the
signal is sent when that *thread* ends. They leave by themselves when EngineCore is gone.

A *forked* EngineCore inherits vLLM's note that plugins are loaded and never calls this; it inherits the names
as well, and the worker's main sees to its PDEATHSIG.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import signal
import sys
import traceback
from multiprocessing import process, shared_memory

from .spec import ENGINE_ID_VARIABLE

ENTRY_POINT = "vllmd"
"""Our name among vLLM's plugins; a `VLLM_PLUGINS` list that lacks it switches us off."""

DIST_INFO: dict[str, str] = {
    "METADATA": "Metadata-Version: 2.1\nName: vllmd-worker\nVersion: 0\n",
    "entry_points.txt": f"[vllm.general_plugins]\n{ENTRY_POINT} = vllmd_worker.plugin:arm\n",
}
"""File name to content, of the folder `vllmd_worker-0.dist-info` beside the copied package."""

_ENGINE_ID = re.compile(r"[a-z0-9-]{1,24}")
_RANDOM_CHARACTERS = 16
_PR_SET_PDEATHSIG = 1


def name_shared_memory(engine_id: str) -> None:
    """Put *engine_id* into the names of what this process makes in /dev/shm from now on.

    The names are those that `leftovers` looks for. Children inherit this for locks; for segments only forked
    ones do.

    Raises:
        ValueError: *engine_id* can't be part of such a name.
    """
    if not _ENGINE_ID.fullmatch(engine_id):
        raise ValueError(f"engine id {engine_id!r} is not of the form {_ENGINE_ID.pattern}")
    # There is no public way to choose either. The length is that of the whole name, random end included; its
    # default, 14, is there for other systems: Linux takes 255.
    segment = f"/psm_vllmd-{engine_id}_"
    shared_memory._SHM_NAME_PREFIX = segment  # type: ignore[attr-defined]
    shared_memory._SHM_SAFE_NAME_LENGTH = len(segment) + _RANDOM_CHARACTERS  # type: ignore[attr-defined]
    # multiprocessing appends "-" and random characters, and sem_open() puts "sem." in front of the file's name. The
    # underscore, which no id has, ends the id: `x-1` must not be taken for the beginning of `x-1-2`.
    process.current_process()._config["semprefix"] = f"/mp-vllmd-{engine_id}_"  # type: ignore[attr-defined]


def arm() -> None:
    """Prepare the process that this runs in; called by vLLM.

    An engine without names and PDEATHSIG still works, so nothing is raised; failures go to stderr, which is
    the engine's log.
    """
    engine_id = os.environ.get(ENGINE_ID_VARIABLE)
    if engine_id:
        try:
            name_shared_memory(engine_id)
        except Exception:  # noqa: BLE001 - see above
            _report("shared memory keeps its default names")
    if _is_engine_core():
        try:
            _die_with_parent()
        except Exception:  # noqa: BLE001 - see above
            _report("this EngineCore will outlive a killed worker")


def _is_engine_core() -> bool:
    """Tell EngineCore (`EngineCore`, or `EngineCore_DP0` and so on) from the host and from `VllmWorker-0`."""
    child = multiprocessing.parent_process() is not None
    return child and multiprocessing.current_process().name.startswith("EngineCore")


def _die_with_parent() -> None:
    """Have the kernel send SIGKILL to this process when the thread that started it ends.

    Raises:
        OSError: the kernel refuses.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # Importing vllm takes many seconds: a parent that died in them sends no signal any more.
    if os.getppid() != parent.pid:
        os.kill(os.getpid(), signal.SIGKILL)


def _report(consequence: str) -> None:
    sys.stderr.write(f"vllmd: pid {os.getpid()}: {consequence}\n{traceback.format_exc()}")
    sys.stderr.flush()
