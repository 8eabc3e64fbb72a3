"""A small process tree that says who is in it: run as a script, with a role and the cgroup to join, if any.

Each process that the role is about prints its pid; the first line is the leader's own. Standard library alone,
and without `site`, so that it is there in some milliseconds.
"""

import ctypes
import itertools
import os
import pathlib
import signal
import sys
import threading
import time

EXIT_THREAD = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
"""The system call that ends one thread."""
PAUSES = {"racing": 0.0, "hopping": 0.001, "strolling": 0.02}
"""How many seconds those who move on to a new pid all the time stay on each."""
HEAVY_BYTES = 512 << 20
NAMES = {"named": "VLLM::EngineCore", "odd": ") R 1 (x) 2 3"}

held: list[bytes] = []


def tell() -> None:
    """Print this process's pid, in one write."""
    os.write(1, b"%d\n" % os.getpid())


def wait() -> None:
    """Stay until a signal ends this process."""
    while True:
        signal.pause()


def child(role: str) -> None:
    """Be the process below the leader."""
    if role == "escaping":
        os.setsid()
    if role == "naked":
        os.setsid()
        os.execve(sys.executable, [sys.executable, "-S", __file__, "told", ""], {})
    if role in NAMES:
        pathlib.Path("/proc/self/comm").write_text(NAMES[role])
    if role == "forking":
        fork_on()
    if role == "heavy":
        grow_heavy()
    if role == "headless":
        threading.Thread(target=leave_alone).start()
        ctypes.CDLL(None).syscall(EXIT_THREAD, 0)
    tell()
    if role in PAUSES:
        hop(PAUSES[role])
    wait()


def grow_heavy() -> None:
    """Hold so much, with so many threads, that the kernel takes a while to free it all."""
    held.append(b"x" * HEAVY_BYTES)
    for _ in range(8):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def leave_alone() -> None:
    """Be the thread that is left once the first one has ended."""
    while "State:\tZ" not in pathlib.Path("/proc/self/status").read_text():
        time.sleep(0.001)
    tell()
    threading.Event().wait()


def hop(pause: float) -> None:
    """Move on to a new pid all the time, for some seconds at most."""
    end = time.monotonic() + 4
    while time.monotonic() < end:
        if os.fork() != 0:
            os._exit(0)
        time.sleep(pause)
    os._exit(0)


def fork_on(level: int = 0) -> None:
    """Make a child every few milliseconds, one that does so too, and some in sessions of their own."""
    end = time.monotonic() + 6
    for count in itertools.count():
        if time.monotonic() > end:
            break
        if os.fork() == 0:
            if count == 2 and level == 0:
                fork_on(level + 1)
            if count % 10 == 1:
                os.setsid()
            wait()
        if count == 5 and level == 0:
            tell()
        time.sleep(0.005)
    wait()


def main(role: str, cgroup: str) -> None:
    """Be the leader."""
    if cgroup:
        pathlib.Path(cgroup, "cgroup.procs").write_text("0")
    tell()
    if role == "told":
        wait()
    if os.fork() == 0:
        child(role)
    wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
