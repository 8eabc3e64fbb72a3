"""Whether plans hold on the real GPU: `python -m tests.bench.planning --engine-python PATH [MODEL …]`.

Loads models with random weights in real vLLM, as many at once as there are GPUs, and prints what was predicted beside
what vLLM measured. Models are folders of `tests/data/models`, each loaded with its defaults and a context that is no
longer than 8192 tokens; `NAME:{"max_num_seqs": 64}` sets engine arguments. The exit status is 1 if a load failed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import pathlib
import queue
import re
import subprocess
import sys
import time
from typing import Any

from vllmd.models.facts import ModelFacts, read
from vllmd.planner.kv_cache import lay_out
from vllmd.planner.weights import bytes_on_each

MODELS = pathlib.Path(__file__).parents[1] / "data" / "models"
_LOAD_SECONDS = 400
_LONGEST = 8192


def load(python: str, gpus: str, name: str, arguments: dict[str, Any], logs: pathlib.Path) -> dict[str, Any] | None:
    """Load one model on the GPUs of such a list; `None` if that failed, with the log beside."""
    program = pathlib.Path(__file__).with_name("measured.py")
    tag = name + "".join(f"-{key}-{value}" for key, value in arguments.items())
    facts = facts_of(name)
    settings = {
        "max_model_len": min(_LONGEST, facts.max_model_len or _LONGEST),
        "gpu_memory_utilization": 0.9,
        "max_num_batched_tokens": 8192,
        "max_num_seqs": 1024,
    }
    command = [python, str(program), str(MODELS / name), json.dumps(settings | arguments)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": gpus, "VLLM_LOGGING_LEVEL": "DEBUG"}
    log = logs / f"{tag.replace('/', '_')}.log"
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            timeout=_LOAD_SECONDS,
            check=False,
        )
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode() + "\ntimed out"
    log.write_text(output)
    lines = [line for line in output.splitlines() if line.startswith("MEASURED ")]
    if not lines:
        return None
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("MEASURED "))
    graphs = re.search(r"Graph capturing finished in .* took ([\d.]+) GiB", output)
    found["graphs_bytes"] = int(float(graphs[1]) * (1 << 30)) if graphs else None
    return found


def facts_of(name: str) -> ModelFacts:
    """Read a model's configuration."""
    return read(json.loads((MODELS / name / "config.json").read_text()))


def line(name: str, arguments: dict[str, Any], found: dict[str, Any]) -> str:
    """Put what was predicted beside what was measured."""
    facts = facts_of(name)
    across, stages = arguments.get("tensor_parallel_size", 1), arguments.get("pipeline_parallel_size", 1)
    weights = bytes_on_each(facts, across, stages)
    layout = lay_out(
        facts,
        in_flight=found["max_num_batched_tokens"],
        value_bytes=1 if "fp8" in found["kv_cache_dtype"] else 2,
        tensor_parallel=across,
        pipeline_parallel=stages,
        prefix_caching=bool(found["prefix_caching"]),
    )
    tokens = layout.capacity(found["kv_cache_bytes"] or 0, found["max_model_len"]) if layout else None
    measured_tokens = found["kv_cache_tokens"]
    return (
        f"{name:22} {json.dumps(arguments):40} weights {_pair(weights, found['weights_bytes'])}  "
        f"KV tokens in {_gib(found['kv_cache_bytes'])}: {tokens} / {measured_tokens} "
        f"{_ratio(tokens, measured_tokens)}  "
        f"activation {_gib(found['activation_bytes'])}  graphs {_gib(found['graphs_bytes'])}  "
        f"other {_gib(found['non_torch_bytes'])}  peak {_gib(found.get('nvml_peak_bytes'))}  {found['seconds']} s"
    )


def _pair(predicted: int | None, measured: int | None) -> str:
    return f"{_gib(predicted)} / {_gib(measured)} {_ratio(predicted, measured)}"


def _ratio(predicted: int | None, measured: int | None) -> str:
    return f"({predicted / measured - 1:+.1%})" if predicted and measured else "(?)"


def _gib(size: int | None) -> str:
    return "?" if size is None else f"{size / (1 << 30):.3f}"


def main() -> int:
    """Load them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL[:JSON]")
    parser.add_argument("--engine-python", required=True)
    parser.add_argument("--gpus", type=int, default=1, help="load as many at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3600, help="begin no load later (default: %(default)s)")
    parser.add_argument("--logs", type=pathlib.Path, default=pathlib.Path("planning-logs"))
    options = parser.parse_args()
    options.logs.mkdir(parents=True, exist_ok=True)
    jobs = [one.partition(":")[::2] for one in options.models]
    begun = time.monotonic()
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for index in range(options.gpus):
        free.put(str(index))
    failed = []

    def run(job: tuple[str, str], everything: str = "") -> None:
        name, arguments = job[0], json.loads(job[1] or "{}")
        gpus = everything or free.get()
        try:
            late = time.monotonic() - begun > options.seconds
            found = None if late else load(options.engine_python, gpus, name, arguments, options.logs)
        finally:
            if not everything:
                free.put(gpus)
        if found is None:
            failed.append(name)
            print(f"{name:22} {json.dumps(arguments)} {'NOT TRIED' if late else 'FAILED'}", flush=True)
        else:
            print(line(name, arguments, found), flush=True)
            with (options.logs / "measured.jsonl").open("a") as file:
                file.write(json.dumps({"model": name, "args": arguments} | found) + "\n")

    wide = [job for job in jobs if "parallel_size" in job[1]]
    with concurrent.futures.ThreadPoolExecutor(options.gpus) as pool:
        list(pool.map(run, [job for job in jobs if job not in wide]))
    for job in wide:
        run(job, ",".join(map(str, range(options.gpus))))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
