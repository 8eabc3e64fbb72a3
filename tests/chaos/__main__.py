"""Runs the monkey for as long as you like, and says what it did and what it found."""

from __future__ import annotations

import argparse
import shutil
import sys
import time

from tests.chaos.monkey import OPTIONS
from tests.chaos.rounds import run
from tests.host.running import home


def main() -> int:
    """Run rounds until the time is over; 1 if anything was wrong after one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the choices (default: the clock)")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (default: %(default)s)")
    parser.add_argument("--log", default="chaos-daemon.log", help="where the daemon's log goes (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with home(*OPTIONS) as place:
        try:
            found = run(place, arguments.seed, arguments.minutes * 60, verbose=True)
        finally:
            shutil.copy(place.path / "daemon.log", arguments.log)
    print(found)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
