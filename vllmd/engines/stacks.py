"""What the processes of an engine that hangs are doing, written into its log before they are killed."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import shutil
import signal
import subprocess

from vllmd.worker.processes import Stat, signal_to
from vllmd.worker.tree import Tree

_PATIENCE_SECONDS = 5.0
_WRITING_SECONDS = 0.2
_TRACED_PYTHONS = 8

_log = logging.getLogger(__name__)


async def dump(tree: Tree, log: pathlib.Path) -> None:
    """Write the stacks of a tree's processes into *log*: by py-spy where it is installed, else the worker's alone.

    py-spy sees into a process that hangs in a system call or is stopped; SIGUSR1 makes the worker's own faulthandler
    write, which vLLM's other processes do not have.
    """
    spy = shutil.which("py-spy")
    members = await asyncio.to_thread(tree.members)
    if spy is None:
        if tree.leader is not None:
            signal_to(tree.leader, signal.SIGUSR1)
            await asyncio.sleep(_WRITING_SECONDS)
        return
    for stat in members[:_TRACED_PYTHONS]:
        await asyncio.to_thread(_spy, spy, stat, log)


def _spy(spy: str, stat: Stat, log: pathlib.Path) -> None:
    argv = [spy, "dump", "--nonblocking", "--pid", str(stat.identity.pid)]
    try:
        with log.open("ab") as file:
            file.write(f"vllmd: stacks of {stat.name} (pid {stat.identity.pid}):\n".encode())
            file.flush()
            subprocess.run(argv, stdout=file, stderr=file, timeout=_PATIENCE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        # The kill that comes next depends on no disk that is full, and on no tool.
        _log.warning("no stacks of %s (pid %d): %s", stat.name, stat.identity.pid, error)
