"""Capabilities that systemd gives the daemon (`AmbientCapabilities=`), and which no child of it is to have.

The daemon needs CAP_KILL to end the orphans of other users, and CAP_SYS_PTRACE to read whose they are. An ambient
capability goes on to every program that is executed, which here would be vLLM and all that comes with it. So it stays
in force in this process alone, until the process executes its own new program.
"""

from __future__ import annotations

import ctypes
import errno
import os

_PR_CAP_AMBIENT = 47
_IS_SET, _RAISE, _CLEAR_ALL = 1, 2, 4
_MOST = 64
"""Capabilities that a set has room for; the kernel knows fewer, and says which it does not."""


def withhold() -> frozenset[int]:
    """Let no program that is executed from here on have them; returns their numbers.

    To be called before there is any other thread: each has its own.

    Raises:
        OSError: the kernel refuses.
    """
    held = frozenset(number for number in range(_MOST) if _prctl(_IS_SET, number) == 1)
    if held and _prctl(_CLEAR_ALL, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "PR_CAP_AMBIENT_CLEAR_ALL")
    return held


def pass_on(held: frozenset[int]) -> None:
    """Let the program that this thread executes next have them again.

    Raises:
        OSError: the kernel refuses.
    """
    for number in held:
        if _prctl(_RAISE, number) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "PR_CAP_AMBIENT_RAISE")


def _prctl(operation: int, number: int) -> int:
    """Call prctl(PR_CAP_AMBIENT); numbers that the kernel does not know are -1 and EINVAL, as all are before 4.3."""
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.prctl(_PR_CAP_AMBIENT, *(ctypes.c_ulong(argument) for argument in (operation, number, 0, 0)))
    if result < 0 and operation == _IS_SET and ctypes.get_errno() != errno.EINVAL:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "PR_CAP_AMBIENT_IS_SET")
    return result
