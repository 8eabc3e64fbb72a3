"""Whether GPU memory comes back whatever dies: `python -m tests.bench.supervision MODEL --engine-python PATH`.

Each scenario kills something of real vLLM, says how long everything took, and says what should have been otherwise;
the exit status is 1 if anything should. Without a GPU it proves processes and not memory. The model may be a directory
without weights: they are random (`load_format=dummy`), which takes the memory of real ones.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
import time

from tests.bench.scenarios import SCENARIOS, Host
from tests.host.running import home

CACHE = pathlib.Path(tempfile.gettempdir(), "vllmd-bench-cache")
"""Shared by all scenarios, so that only the first compiles."""
OPTIONS = ("--restart-limit", "9", "--stall-timeout", "10", "--cache-dir", str(CACHE))


def main() -> int:
    """Run the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--engine-python", required=True)
    parser.add_argument("--engine-args", type=json.loads, default={}, metavar="JSON", help="of every engine")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help="default: all")
    arguments = parser.parse_args()
    engine_args = {"load_format": "dummy", "gpu_memory_utilization": 0.4, "max_model_len": 4096}
    wrong: list[str] = []
    for name in arguments.scenarios:
        print(f"\n{name}: {SCENARIOS[name].__doc__}", flush=True)
        with home("--engine-python", arguments.engine_python, *OPTIONS) as place:
            begun = time.monotonic()
            host = Host(place, arguments.engine_python, arguments.model, engine_args | arguments.engine_args)
            try:
                SCENARIOS[name](host)
            except Exception as error:  # noqa: BLE001 - whatever it was, the next scenario is worth its time
                host.wrong.append(f"it broke: {type(error).__name__}: {error}")
                print(place.latest.log.read_text()[-6000:])
            print(f"  {time.monotonic() - begun:.0f} s in all", *(f"  WRONG: {one}" for one in host.wrong), sep="\n")
            wrong += [f"{name}: {one}" for one in host.wrong]
    print("\nAll as it should be." if not wrong else "\n" + "\n".join(wrong), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
