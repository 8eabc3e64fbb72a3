"""Who holds what on simulated GPUs: files in one directory, in the place of a driver.

| file | written by | holds |
|---|---|---|
| `gpus.json` | the daemon, at its start | `Memory` of each GPU, by UUID |
| `claims/PID-TICKS` | `claim` | bytes by GPU's UUID that this process holds |
| `ghosts/PID-TICKS` | the daemon | bytes of a dead process that a fault keeps in use |
| `faults.json` | a test or a person | what is to go wrong (`vllmd.gpu.simulation.Faults`) |
| `lock` | `claim` | a `flock`, so that no two take the same memory |

PID-TICKS is a process's pid and its start time in clock ticks (`processes.Identity`). A claim counts while exactly
that process lives: so its memory is gone when it is, whatever ended it, and nobody has to be told.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec

from .processes import Identity, read_stat

GPUS = "gpus.json"
CLAIMS = "claims"
GHOSTS = "ghosts"
FAULTS = "faults.json"
_LOCK = "lock"

Shares = dict[str, Annotated[int, msgspec.Meta(ge=0)]]
"""Bytes by GPU's UUID."""

_NAME = re.compile(r"(\d+)-(\d+)")


class Memory(msgspec.Struct, frozen=True):
    """The memory of one simulated GPU."""

    total_bytes: int
    reserved_bytes: int
    """The driver's own."""


class OutOfMemory(Exception):
    """A claim is larger than what is free; said as PyTorch says it."""


def publish(directory: pathlib.Path, gpus: Mapping[str, Memory]) -> None:
    """Make the directory, or take over an earlier one with its claims, and tell which GPUs there are.

    Raises:
        OSError: it can't be written.
    """
    for path in (directory, directory / CLAIMS, directory / GHOSTS):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(directory):
        write(directory / GPUS, msgspec.json.encode(gpus))


def read_gpus(directory: pathlib.Path) -> dict[str, Memory]:
    """Read which GPUs there are.

    Raises:
        OSError: it can't be read.
        ValueError: it says something else.
    """
    return msgspec.json.decode((directory / GPUS).read_bytes(), type=dict[str, Memory])


def claim(directory: pathlib.Path, shares: Mapping[str, int], identity: Identity | None = None) -> None:
    """Let a process hold so much from now on, in place of what it held; this one, if none is named.

    Raises:
        OutOfMemory: that much is not free; it holds what it held.
        KeyError: there is no such GPU.
        OSError: the process is gone, or the directory.
    """
    identity = identity or own_identity()
    with _locked(directory):
        if not lives(identity):
            raise ProcessLookupError(f"no process {identity.pid} to hold memory")
        gpus = read_gpus(directory)
        free = _free_bytes(directory, gpus, identity)
        for index, (uuid, size) in enumerate(shares.items()):
            if size > free[uuid]:
                raise OutOfMemory(_sentence(index, size, gpus[uuid].total_bytes, free[uuid]))
        # By a name that the next one takes as well: a process that is killed before the rename leaves it behind.
        write(directory / CLAIMS / name_of(identity), msgspec.json.encode(shares), directory / ".claim.new")


def held(directory: pathlib.Path) -> dict[Identity, Shares]:
    """Read what processes hold by the files in a directory (`claims` or `ghosts`); what is none of them is no claim."""
    found = {}
    for name in sorted(_names(directory)):
        match = _NAME.fullmatch(name)
        with contextlib.suppress(FileNotFoundError, ValueError):
            if match is not None:
                shares = msgspec.json.decode((directory / name).read_bytes(), type=Shares)
                found[Identity(int(match[1]), int(match[2]))] = shares
    return found


def write(path: pathlib.Path, content: bytes, new: pathlib.Path | None = None) -> None:
    """Write a file of the directory whole: who reads it finds the old or the new. The lock is held, or not needed.

    Args:
        path: the file.
        content: all of it.
        new: what it is called before it is whole.
    """
    new = new or path.with_name(f".{path.name}.new")  # a name that is no claim's
    new.write_bytes(content)
    new.rename(path)


def name_of(identity: Identity) -> str:
    """Name the file of a process."""
    return f"{identity.pid}-{identity.start_ticks}"


def own_identity() -> Identity:
    """Identify the process that asks."""
    stat = read_stat(os.getpid())
    assert stat is not None
    return stat.identity


def lives(identity: Identity) -> bool:
    """Tell whether exactly this process has not ended; a zombie whose threads still run has not."""
    stat = read_stat(identity.pid)
    return stat is not None and stat.identity == identity and not stat.dead


def _free_bytes(directory: pathlib.Path, gpus: Mapping[str, Memory], but: Identity) -> dict[str, int]:
    """Work out what is free of each GPU for a process that gives up what it holds."""
    living = [shares for identity, shares in held(directory / CLAIMS).items() if identity != but and lives(identity)]
    taken = [*living, *held(directory / GHOSTS).values()]
    return {
        uuid: memory.total_bytes - memory.reserved_bytes - sum(shares.get(uuid, 0) for shares in taken)
        for uuid, memory in gpus.items()
    }


def _names(directory: pathlib.Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _sentence(index: int, size: int, total: int, free: int) -> str:
    return (
        f"CUDA out of memory. Tried to allocate {_gib(size)}. GPU {index} has a total capacity of {_gib(total)} "
        f"of which {_gib(max(free, 0))} is free."
    )


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.2f} GiB"


@contextlib.contextmanager
def _locked(directory: pathlib.Path) -> Iterator[None]:
    fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
