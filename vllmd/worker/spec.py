"""What the daemon tells a worker before it starts, and what the worker tells until its socket is up.

Both go through files of the engine's directory, so that no argument of a client shows in a process list and
a daemon that starts later can read them as well.

| file | written by | holds |
|---|---|---|
| `spec.json` | daemon, before the spawn | `Spec` |
| `owner.lock` | daemon | a `flock` for as long as a daemon answers for this engine |
| `engine.log` | the whole tree | stdout and stderr |
| `progress.jsonl` | worker | one `Progress` a line |
| `link.sock` | worker, once loaded | the link (`protocol`) |
| `site/` | daemon | the copy of this package that the worker runs from |
| `tmp/` | the tree | `TMPDIR` and vLLM's own sockets |
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import stat
from typing import Any, Literal

import msgspec

SPEC = "spec.json"
OWNER_LOCK = "owner.lock"
LOG = "engine.log"
PROGRESS = "progress.jsonl"
LINK = "link.sock"
SITE = "site"
TMP = "tmp"

ENGINE_ID_VARIABLE = "VLLMD_ENGINE_ID"
"""In the environment of every process of an engine's tree: our marker."""

ENGINE_DIR_VARIABLE = "VLLMD_ENGINE_DIR"
"""The engine's directory, for the hook that runs inside EngineCore."""

SIMULATION_VARIABLE = "VLLMD_SIMULATION"
"""The directory where processes of a simulated host write down what they hold on simulated GPUs (`simulation`)."""

Backend = Literal["vllm", "fake"]


_MAX_FILE_BYTES = 1 << 20


class Held(msgspec.Struct, frozen=True):
    """What a GPU held before the engine was started there: a daemon that comes later compares with it."""

    uuid: str
    floor_bytes: int
    """In use, and by no process."""


class Spec(msgspec.Struct, frozen=True):
    """One engine to run."""

    engine_id: str
    backend: Backend
    model: str
    engine_args: dict[str, Any]
    """vLLM's engine arguments by name, without `model`."""
    cgroup: str | None
    """Directory of the engine's cgroup, which the worker joins first of all; `None` where there is none."""
    adoption_timeout: float
    """Seconds that the tree lives on after its daemon has died."""
    vllmd_version: str
    boot_id: str
    """Of the boot in which it was started: a pid from another boot means nothing."""
    gpus: tuple[Held, ...] = ()
    """Those that it runs on; none on the CPU."""
    lora: dict[str, str] = {}
    """The adapters that clients may name, each with its directory."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of the start."""

    event: Literal["started", "importing", "initializing", "listening", "failed"]
    pid: int
    start_ticks: int = 0
    """The worker's start time in clock ticks since boot (`/proc/PID/stat`, field 22), with `started`."""
    errors: tuple[str, ...] = ()
    """With `failed`: `Type: text` of the exception and of what caused it, outermost first."""


def read_spec(directory: pathlib.Path) -> Spec:
    """Read the spec of the engine in *directory*.

    Raises:
        OSError: it can't be read.
        ValueError: it is not a spec.
        RecursionError: likewise.
    """
    return msgspec.json.decode(_read(directory / SPEC), type=Spec)


def _read(path: pathlib.Path) -> bytes:
    """Read a plain file: code inside the engine may have put a link or a pipe in its place, to hold the daemon up.

    Raises:
        OSError: it can't be read, or is none.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", str(path))
        return file.read(_MAX_FILE_BYTES)


def append_progress(directory: pathlib.Path, progress: Progress) -> None:
    """Add a line to the engine's progress in a single write."""
    line = msgspec.json.encode(progress) + b"\n"
    fd = os.open(directory / PROGRESS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


def read_progress(directory: pathlib.Path) -> list[Progress]:
    """Read the whole lines of the engine's progress so far; none if it has not begun or can't be read.

    What is no progress is passed over: a full disk may have cut a line short.
    """
    try:
        text = _read(directory / PROGRESS)
    except OSError:
        return []
    whole = text[: text.rfind(b"\n") + 1]
    found = []
    for line in whole.splitlines():
        with contextlib.suppress(ValueError, RecursionError):  # of msgspec, or of bad UTF-8
            found.append(msgspec.json.decode(line, type=Progress))
    return found
