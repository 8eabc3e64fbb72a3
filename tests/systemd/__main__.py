"""Runs the checks: `python -m tests.systemd [PYTEST'S ARGUMENTS]`; see `tests.systemd`."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

from tests.systemd.machine import TOOLS, machine, missing
from tests.systemd.rootfs import prepare

WORK = "VLLMD_SYSTEMD_WORK"
"""The variable that names the directory where the system and the logs are kept."""
DEFAULT = "/var/tmp/vllmd-systemd"
ENGINE_PYTHON = "VLLMD_SYSTEMD_ENGINE_PYTHON"
"""The variable that names an interpreter which has vLLM: then the checks are those with real engines."""
BOOTS = {
    "first": "-o python_files=checks_*.py --ignore tests/systemd/checks_second_boot.py "
    "--ignore tests/systemd/checks_taken_off.py tests/systemd",
    "second": "tests/systemd/checks_second_boot.py tests/systemd/checks_taken_off.py",
}
REAL = {"real": "tests/systemd/by_hand_real_vllm.py"}


def main(arguments: list[str]) -> int:
    """Run them; returns the exit status."""
    in_ci = os.environ.get("CI") == "true"
    if in_ci and os.geteuid() == 0 and missing().startswith("apt-get"):
        subprocess.run(["apt-get", "update", "-q"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *TOOLS.values()], check=True)
    if why := missing():
        print(f"not run under systemd: {why}")
        return 1 if in_ci else 0
    try:
        return run(pathlib.Path(os.environ.get(WORK, DEFAULT)), arguments)
    except subprocess.CalledProcessError as error:
        print(f"not run under systemd: {error}")
        return 1 if in_ci else 0


def run(work: pathlib.Path, arguments: list[str]) -> int:
    """Make the system, and run the checks in it; returns the exit status.

    Raises:
        subprocess.CalledProcessError: it can't be made or installed here.
    """
    start = time.monotonic()
    root = prepare(work)
    print(f"system ready after {time.monotonic() - start:.0f} s")
    status = 0
    engine_python = os.environ.get(ENGINE_PYTHON)
    boots = list((REAL if engine_python else BOOTS).items())
    with machine(root, work) as booted:
        if engine_python:
            booted.bring(engine_python)
        # Whoever chooses from the checks means those of the first boot.
        for name, what in boots[: 1 if arguments else None]:
            begun = time.monotonic()
            status = booted.boot(name, f"{what} {shlex.join(arguments)}", install=name != "second")
            tell(booted.out / f"{name}.log")
            print(f"{name} boot: status {status} after {time.monotonic() - begun:.0f} s")
            if status != 0:
                break
    print(f"{time.monotonic() - start:.0f} s; logs are in {work / 'out'}")
    return status


def tell(log: pathlib.Path) -> None:
    """Print what pytest said, or that it did not get that far."""
    text = log.read_text() if log.exists() else "pytest was not started\n"
    print(re.sub(r"^(platform|cachedir|rootdir|plugins|timeout).*\n", "", text, flags=re.MULTILINE), end="")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
