"""The processes below a fake engine's worker: run as a script, under the name `VLLM::EngineCore`.

It uses the standard library alone, so that it starts in milliseconds.
"""

import ctypes
import json
import os
import pathlib
import secrets
import signal
import sys

_PR_SET_NAME = 15
_PR_SET_PDEATHSIG = 1


def main(engine_id: str, options: dict[str, float], ready: int) -> None:
    """Be EngineCore until told to end; every process here closes *ready* once it is what it is to be."""
    libc = ctypes.CDLL(None)
    if options["fake_escape"]:
        os.setsid()
    if options["fake_ignore_sigterm"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not options["fake_leave_core"]:
        # As the hook in a real EngineCore does; a core that is to be left behind is one that it failed in.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"VLLM::EngineCore", 0, 0, 0)
    if options["fake_shared_memory_bytes"]:
        path = pathlib.Path(f"/dev/shm/psm_vllmd-{engine_id}_{secrets.token_hex(4)}")  # noqa: S108
        with path.open("wb") as file:
            file.truncate(int(options["fake_shared_memory_bytes"]))
    for rank in range(int(options["fake_workers"])):
        if os.fork() == 0:
            libc.prctl(_PR_SET_NAME, f"VLLM::Worker_TP{rank}".encode(), 0, 0, 0)
            break
    os.close(ready)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
