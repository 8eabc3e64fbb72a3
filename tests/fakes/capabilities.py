"""Programs that have capabilities as a service of systemd has, and tell which."""

from __future__ import annotations

KILL, PTRACE = 5, 19

_SETS = "^Cap(Prm|Eff|Amb):"
SHOW = f"""
import re
print(*(line for line in open("/proc/self/status") if re.match({_SETS!r}, line)), sep="", end="", flush=True)
"""
"""Prints the sets that this program has: permitted, effective, ambient."""
SHOW_IN_A_CHILD = f"""
subprocess.run(["grep", "-E", {_SETS!r}, "/proc/self/status"], check=True)
"""
"""The same of a program that this one executes."""


def shown(output: str) -> list[tuple[int, int, int]]:
    """Read what they print."""
    numbers = [int(line.split()[1], 16) for line in output.splitlines() if line.startswith("Cap")]
    return list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))


AS_NOBODY_WITH = f"""
import ctypes, os, re, subprocess, sys
import vllmd.daemon.ambient, vllmd.watchdog.sockets, vllmd.worker.privileges  # while they can be read
libc = ctypes.CDLL(None, use_errno=True)
DUMPABLE, KEEPCAPS, AMBIENT, RAISE = 4, 8, 47, 2
libc.prctl(KEEPCAPS, 1, 0, 0, 0)
os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
libc.prctl(DUMPABLE, 1, 0, 0, 0)  # as after an execve
both = 1 << {KILL} | 1 << {PTRACE}
sets = (ctypes.c_uint32 * 6)(both, both, both, 0, 0, 0)
assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), sets) == 0
for number in ({KILL}, {PTRACE}):
    assert libc.prctl(AMBIENT, *(ctypes.c_ulong(one) for one in (RAISE, number, 0, 0))) == 0
exec({{program!r}})
"""
"""Becomes nobody with these two ambient, as `User=` and `AmbientCapabilities=` do, and runs a program."""
