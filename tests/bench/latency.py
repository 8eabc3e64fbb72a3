"""What the daemon adds at one stream: `python -m tests.bench.latency MODEL --engine-python PATH --engine-args JSON`.

Requests one after the other, of 64 prompt tokens each, first by a bare `AsyncLLM` (`latency_bare.py`), then through the
daemon by a client in another process, with the same settings and on the same machine, so that their difference means
something.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import time

from tests.host.running import RunningDaemon, home, load_request
from vllmd.v1 import engine_service_pb2, generation_pb2

_LOAD_SECONDS = 500.0
_WARM_UP = 3
_PROMPT_TOKENS = 64
_SPREAD = 90
"""How many prompts differ: what the prefix cache holds of them is the same for both."""


def bare(given: argparse.Namespace) -> list[list[float]]:
    """Measure the bare engine; seconds to the first token and for each token after that, by request."""
    program = pathlib.Path(__file__).with_name("latency_bare.py")
    numbers = map(str, (given.requests, given.tokens, given.pause))
    command = [given.engine_python, str(program), given.model, json.dumps(given.engine_args), *numbers]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the bare engine ended with status {done.returncode}:\n{done.stdout[-3000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("measured ")]
    return [json.loads(line.removeprefix("measured ")) for line in lines]


def through(daemon: RunningDaemon, lease: str, requests: int, tokens: int, pause: float) -> list[list[float]]:
    """Measure the daemon, likewise."""
    measured = []
    for index in range(-_WARM_UP, requests):
        request = engine_service_pb2.GenerateRequest(
            lease=lease,
            sampling_params=generation_pb2.SamplingParams(max_tokens=tokens, ignore_eos=True, temperature=0.0),
        )
        request.tokens.token_ids.extend([6 + (index + _WARM_UP) % _SPREAD] * _PROMPT_TOKENS)
        time.sleep(pause)  # so that a machine of few cores is not still busy with what was before
        begun, first = time.perf_counter(), 0.0
        for _ in daemon.engines.Generate(request):
            first = first or time.perf_counter()
        ended = time.perf_counter()
        if index >= 0:
            measured.append([first - begun, (ended - first) / (tokens - 1)])
    return measured


def main() -> None:
    """Run both, and print what differs."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", help="a directory, or a name on the hub")
    arguments.add_argument("--engine-python", required=True, help="the interpreter that has vLLM")
    arguments.add_argument("--engine-args", type=json.loads, default={}, help="vLLM's, as a JSON object")
    arguments.add_argument("--requests", type=int, default=40)
    arguments.add_argument("--tokens", type=int, default=128)
    arguments.add_argument("--pause", type=float, default=0.0, help="seconds before each request")
    given = arguments.parse_args()
    plain = bare(given)
    # The bare engine takes whatever it is given.
    allowed = (part for name in given.engine_args for part in ("--allow-engine-arg", name))
    with home("--engine-python", given.engine_python, *allowed) as place:
        daemon = place.start()
        request = load_request(given.model, **given.engine_args)
        *_, last = daemon.engines.LoadModel(request, timeout=_LOAD_SECONDS)
        served = through(daemon, last.loaded.lease.name, given.requests, given.tokens, given.pause)
    for number, what in enumerate(("time to first token", "time per token")):
        one, other = (statistics.median(row[number] for row in rows) * 1e3 for rows in (plain, served))
        print(
            f"{what:<20} AsyncLLM {one:8.3f} ms, vllmd {other:8.3f} ms: {other - one:+.3f} ms, {other / one:.2f} times"
        )


if __name__ == "__main__":
    main()
