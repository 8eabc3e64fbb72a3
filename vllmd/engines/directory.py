"""The directory of one engine, made before its worker is spawned; `worker.spec` says what is in it."""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import time

import msgspec

from vllmd.worker import plugin
from vllmd.worker.spec import LOG, OWNER_LOCK, SITE, SPEC, TMP, Spec

_WORKER = pathlib.Path(plugin.__file__).parent
_SOCKET_PATH_LIMIT = 107
"""Bytes in a Unix socket's path (`sun_path`); vLLM names its own after a UUID."""
_LONGEST_NAME = len(f"/{TMP}/") + 36
ID_LENGTH = 24
_LOCK_ATTEMPTS = 100
_LOCK_PAUSE_SECONDS = 0.01


class Owned:
    """An engine's directory that this daemon answers for: it holds the lock on it."""

    def __init__(self, path: pathlib.Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @property
    def log(self) -> pathlib.Path:
        """Where the tree's output goes."""
        return self.path / LOG

    def disown(self) -> None:
        """Let go of the lock: from now on nobody answers for the engine. Once is enough, and twice does no harm."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def create(root: pathlib.Path, spec: Spec) -> Owned:
    """Make the directory of an engine that is about to be spawned, and take its lock.

    Raises:
        OSError: it can't be written; nothing is left behind then.
    """
    path = root / spec.engine_id
    path.mkdir(mode=0o700)
    try:
        (path / TMP).mkdir()
        (path / LOG).touch(mode=0o600)
        _copy_worker(path / SITE)
        (path / SPEC).write_bytes(msgspec.json.encode(spec))
        return own(path)
    except OSError:
        shutil.rmtree(path)
        raise


def own(path: pathlib.Path) -> Owned:
    """Take the lock of an engine's directory.

    Raises:
        BlockingIOError: another daemon has it.
        OSError: it can't be opened.
    """
    lock = os.open(path / OWNER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for attempt in range(_LOCK_ATTEMPTS):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # A worker's lifeline holds the lock for some microseconds whenever it looks, or longer on a busy host.
                if attempt == _LOCK_ATTEMPTS - 1:
                    raise
                time.sleep(_LOCK_PAUSE_SECONDS)
    except OSError:
        os.close(lock)
        raise
    return Owned(path, lock)


def longest_root(root: pathlib.Path) -> str | None:
    """Say why *root* can't hold engines' directories, if sockets in them would have too long a path."""
    length = len(os.fsencode(root)) + 1 + ID_LENGTH + _LONGEST_NAME
    if length <= _SOCKET_PATH_LIMIT:
        return None
    excess = length - _SOCKET_PATH_LIMIT
    return f"{root} is {excess} bytes too long: the paths of sockets in it would not fit into {_SOCKET_PATH_LIMIT}"


def _copy_worker(site: pathlib.Path) -> None:
    """Copy the worker's package to where nothing else is, so that vLLM's environment sees it alone.

    A copy rather than a link: vLLM's own children import it again, later, and by then an upgrade may have
    changed the original.
    """
    package = site / "vllmd_worker"
    package.mkdir(parents=True)
    for path in _WORKER.glob("*.py"):  # `copytree` would gather the same refusal for each
        shutil.copy2(path, package / path.name)
    info = site / "vllmd_worker-0.dist-info"
    info.mkdir()
    for name, content in plugin.DIST_INFO.items():
        (info / name).write_text(content)
