"""What makes this the one daemon of its socket and its directory, and these nobody else's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import stat
from collections.abc import Iterator

from vllmd.errors import NotPossible


def claim(thing: pathlib.Path) -> int:
    """Become the one daemon of a socket or a directory, until the descriptor that is returned is closed.

    Raises:
        NotPossible: another daemon is.
    """
    path = pathlib.Path(f"{thing}.lock")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise NotPossible(
                "ALREADY_RUNNING", f"Another vllmd (pid {pid or 'unknown'}) has {thing}.", pid=pid, claimed=thing
            ) from None
        # The one before us removes the file at its end: a lock on a file that is no longer there is none.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        os.close(descriptor)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


@contextlib.contextmanager
def claimed(thing: pathlib.Path) -> Iterator[None]:
    """Be the one daemon of a socket or a directory; raises as `claim` does."""
    descriptor = claim(thing)
    try:
        yield
    finally:
        # In this order: who waits for the lock finds that its file is gone, and makes another.
        pathlib.Path(f"{thing}.lock").unlink(missing_ok=True)
        os.close(descriptor)


def check_socket(path: pathlib.Path) -> None:
    """Check that a socket can be put at *path* without destroying anything: it replaces what is there.

    Raises:
        NotPossible: there is something else.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise NotPossible("NOT_A_SOCKET", f"{path} is there already and is no socket.", path=path)


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
