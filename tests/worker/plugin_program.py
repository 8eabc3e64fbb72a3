"""A worker in small: it starts one child by `spawn`, as vLLM does, and both tell what the plugin made of them.

Arguments: the child's name, and when the child calls the plugin: `now`, or `late`, after its parent has died.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import pathlib
import sys
import time
from multiprocessing import shared_memory

from vllmd.worker import plugin

_PR_GET_PDEATHSIG = 2


def tell() -> None:
    """Print this process's PDEATHSIG and the files that its segments and locks are in /dev/shm."""
    pdeathsig = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(_PR_GET_PDEATHSIG, ctypes.byref(pdeathsig), 0, 0, 0)
    segment = shared_memory.SharedMemory(create=True, size=16)
    lock = multiprocessing.get_context("spawn").Lock()
    files = [segment.name, "sem." + lock._semlock.name.removeprefix("/")]  # type: ignore[attr-defined]
    files = [name for name in files if pathlib.Path("/dev/shm", name).exists()]
    segment.close()
    segment.unlink()
    print(json.dumps({"pid": os.getpid(), "pdeathsig": pdeathsig.value, "files": files}), flush=True)


def child(late: bool) -> None:
    """Be EngineCore, or not, by name."""
    if late:
        parent = multiprocessing.parent_process()
        assert parent is not None
        print(json.dumps({"pid": os.getpid()}), flush=True)
        while os.getppid() == parent.pid:
            time.sleep(0.01)
    plugin.arm()
    tell()
    time.sleep(60)


if __name__ == "__main__":
    plugin.arm()
    tell()
    process = multiprocessing.get_context("spawn").Process(
        target=child, args=(sys.argv[2] == "late",), name=sys.argv[1]
    )
    process.start()
    process.join()
