"""What an engine's processes leave behind when they are killed, and its removal.

Shared memory and semaphores of a tree carry its engine id in their names (`plugin` sees to that), because
their usual names say nothing about their owner, and Python's resource tracker, which would remove them, is
killed with the rest. Sockets and temporary files are in the engine's directory.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import stat

_SHARED_MEMORY = pathlib.Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory


def patterns(engine_id: str) -> tuple[str, ...]:
    """Glob patterns of the names in `/dev/shm` that belong to an engine."""
    return (f"psm_vllmd-{engine_id}_*", f"sem.mp-vllmd-{engine_id}_-*")


def remove_shared_memory(engine_id: str, root: pathlib.Path = _SHARED_MEMORY) -> list[str]:
    """Unlink the engine's shared memory and semaphores; returns the paths removed.

    The directory is everybody's, and names prove nothing: what is another user's, or no plain file, is left.
    """
    removed = []
    for pattern in patterns(engine_id):
        for path in sorted(root.glob(pattern)):
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                    path.unlink()
                    removed.append(str(path))
    return removed


def remove_directory(directory: pathlib.Path) -> None:
    """Remove the engine's directory with all in it; nothing happens if it is gone.

    Raises:
        OSError: something in it can't be removed.
    """
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
