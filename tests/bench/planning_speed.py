"""How long a plan takes: `python -m tests.bench.planning_speed`.

Plans every model of `tests/data/models` for every use case on hosts of 1 to 16 GPUs, once the facts are read, and runs
the whole command in processes of its own. What does not fit takes longest, since what would help is tried. The exit
status is 1 if a plan takes longer than 50 ms, or the command a second.
"""

from __future__ import annotations

import functools
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from vllmd.gpu import products
from vllmd.models import files
from vllmd.planner import remedies
from vllmd.planner.planning import Plan
from vllmd.planner.request import Request
from vllmd.planner.use_cases import USE_CASES

MODELS = pathlib.Path(__file__).parents[1] / "data" / "models"
HOSTS = ("1xL4", "2xRTX3090", "4xL40S", "8xH100", "16xB200", "2xRTX4090,1xH200")
MOST_SECONDS = 0.05
MOST_SECONDS_OF_COMMAND = 1.0
_COMMANDS = 5


def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def requests() -> list[Request]:
    """Everything that is planned."""
    facts = [files.read_facts(path.parent) for path in sorted(MODELS.glob("*/config.json"))]
    hosts = [products.inventory(host) for host in HOSTS]
    return [
        Request(facts=one, gpus=host.gpus, links=host.links, use_case=use_case)
        for one in facts
        for host in hosts
        for use_case in (None, *USE_CASES)
    ]


def show(what: str, times: Sequence[float]) -> None:
    """Print the usual and the worst."""
    print(f"{what:<40}{len(times):5}  {statistics.median(times) * 1000:8.2f} ms  {max(times) * 1000:8.2f} ms")


def main() -> int:
    """Measure, print, and say whether it is fast enough."""
    print(f"{'':<40}{'times':>5}  {'median':>11}  {'worst':>11}")
    folders = [path.parent for path in MODELS.glob("*/config.json")]
    show("facts of a folder", [seconds(functools.partial(files.read_facts, folder)) for folder in folders])
    feasible: list[float] = []
    infeasible: list[float] = []
    for request in requests():
        begun = time.perf_counter()
        found = remedies.plan(request)
        (feasible if isinstance(found, Plan) else infeasible).append(time.perf_counter() - begun)
    show("a plan", feasible)
    show("what does not fit, and what would help", infeasible)
    command = [sys.executable, "-m", "vllmd.cli", "plan", str(MODELS / "llama-3.1-8b"), "--gpus", "2xRTX3090"]
    run = [seconds(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)) for _ in range(_COMMANDS)]
    show("vllmd-cli plan, from exec to exit", run)
    return int(max(feasible + infeasible) > MOST_SECONDS or min(run) > MOST_SECONDS_OF_COMMAND)


if __name__ == "__main__":
    sys.exit(main())
