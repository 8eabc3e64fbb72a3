"""What a worker gives up before anything of the engine's environment is imported: no engine needs a power of ours.

The daemon hands nothing on either (`daemon.ambient`); this holds when some other program has started the worker, and
against a daemon with a mistake in it.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import sys

OOM_SCORE = 300
"""Out of 1000, the more, the sooner it is killed. The daemon's is negative, and an engine would inherit it; what fills
the host's memory is an engine, and the daemon must be there to start it again."""

_PR_CAP_AMBIENT = 47
_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522


def drop() -> None:
    """Give up every capability, unless we are root, and be killed before the daemon where memory runs out.

    Root's powers are root's: they do not come from us, and a container's root may need them to read its models.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # The result is left: only a kernel before 4.3 refuses, which has no ambient capabilities.
    libc.prctl(_PR_CAP_AMBIENT, *(ctypes.c_ulong(argument) for argument in (_CLEAR_ALL, 0, 0, 0)))
    if os.geteuid() != 0:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        nothing = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice 32 of them
        if libc.capset(header, nothing) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "capset")
    raise_oom_score(pathlib.Path("/proc/self/oom_score_adj"))


def raise_oom_score(file: pathlib.Path) -> None:
    """Raise the score, which anybody may; one that is higher already is left."""
    try:
        if int(file.read_text()) < OOM_SCORE:
            file.write_text(str(OOM_SCORE))
    except OSError as error:  # in a container that hides it; no reason not to serve
        print(f"vllmd: {file}: {error}", file=sys.stderr)
