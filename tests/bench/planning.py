"""Whether plans hold on the real GPU: `python -m tests.bench.planning --engine-python PATH MODEL…`.

Plans an engine for each model on the GPUs that are there, loads it in real vLLM with random weights by exactly that
plan, as many at once as there are GPUs, and prints what was predicted beside what vLLM and NVML measured. Models are
folders of `tests/data/models`; `NAME:{"use_case": "debate", "max_num_seqs": 64}` names a use case and sets engine
arguments. With `--again` each is loaded once more, planned by what the first load took. The exit status is 1 if a load
failed that the plan had allowed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import queue
import re
import subprocess
import sys
import time
from typing import Any

from tests.fakes import measured_loads
from vllmd.gpu.inventory import Gpu, Inventory
from vllmd.gpu.nvml import Nvml
from vllmd.models.facts import ModelFacts, read
from vllmd.planner.choice import Infeasible
from vllmd.planner.planning import Plan
from vllmd.planner.profile import Profile
from vllmd.planner.remedies import plan
from vllmd.planner.request import Request

MODELS = pathlib.Path(__file__).parents[1] / "data" / "models"
_LOAD_SECONDS = 400
_TELLING = ("tensor_parallel_size", "pipeline_parallel_size", "quantization", "kv_cache_dtype", "enforce_eager")
_GRAPHS = re.compile(r"Graph capturing finished in .* took ([\d.]+) GiB")


@dataclasses.dataclass(frozen=True)
class Job:
    """One model, and how it is wanted."""

    model: str
    use_case: str
    arguments: dict[str, Any]

    @classmethod
    def of(cls, text: str) -> Job:
        """Read `MODEL[:JSON]`."""
        model, _, options = text.partition(":")
        arguments = json.loads(options or "{}")
        return cls(model, arguments.pop("use_case", ""), arguments)

    @property
    def wide(self) -> bool:
        """Whether it is for all GPUs at once."""
        return any(name.endswith("_parallel_size") for name in self.arguments)

    @property
    def tag(self) -> str:
        """A name for files."""
        return re.sub(r"[^\w.-]+", "-", f"{self.model}-{self.use_case}-{json.dumps(self.arguments)}").strip("-")


def planned(job: Job, gpus: tuple[Gpu, ...], inventory: Inventory, profile: Profile | None) -> Plan | Infeasible:
    """Plan as the library does for `vllm.LLM`."""
    return plan(
        Request(
            client=job.arguments,
            use_case=job.use_case,
            facts=facts_of(job.model),
            gpus=gpus,
            links=inventory.links,
            program="llm",
            profiles=lambda _: profile,
        )
    )


def facts_of(name: str) -> ModelFacts:
    """Read a model's configuration."""
    return dataclasses.replace(read(json.loads((MODELS / name / "config.json").read_text())), fingerprint=name)


def load(python: str, job: Job, made: Plan, log: pathlib.Path) -> dict[str, Any] | None:
    """Load a model by a plan; `None` if that failed, with the log beside."""
    program = pathlib.Path(__file__).with_name("measured.py")
    command = [python, str(program), str(MODELS / job.model), json.dumps(made.engine_args)]
    numbers = ",".join(str(gpu.index) for gpu in made.gpus)
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": numbers, "VLLM_LOGGING_LEVEL": "DEBUG"}
    with log.open("w+") as output:
        try:
            subprocess.run(command, stdout=output, stderr=output, env=environment, timeout=_LOAD_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            output.write("\ntimed out\n")
        output.seek(0)
        text = output.read()
    lines = [line for line in text.splitlines() if line.startswith("MEASURED ")]
    if not lines:
        return None
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("MEASURED "))
    graphs = _GRAPHS.search(text)
    found["graphs_bytes"] = int(float(graphs[1]) * (1 << 30)) if graphs else None
    return found


def profile_of(found: dict[str, Any]) -> Profile:
    """Make of a load what the next plan may go by."""
    return Profile(
        vllm_version=str(found["vllm_version"]),
        weights_bytes=found["weights_bytes"],
        activation_bytes=found["activation_bytes"],
        other_bytes=found["requested_bytes"]
        - found["weights_bytes"]
        - found["activation_bytes"]
        - found["kv_cache_bytes"],
        graphs_bytes=found["graphs_bytes"],
        kv_cache_bytes=found["kv_cache_bytes"],
        kv_cache_tokens=found["kv_cache_tokens"],
        peak_bytes=found["nvml_peak_bytes"] - found["nvml_before_bytes"],
    )


def row(job: Job, made: Plan, found: dict[str, Any], again: bool) -> str:
    """Put what was predicted beside what was measured, as a row of a Markdown table."""
    memory, cache = made.memory, made.cache
    beside = found["activation_bytes"] + found["non_torch_bytes"]
    peak = found["nvml_peak_bytes"]
    wanted = f" {job.use_case or ''} {json.dumps(job.arguments) if job.arguments else ''}".rstrip()
    cells = [
        f"{job.model}{wanted}{' (again)' if again else ''}",
        f"{len(made.gpus)}",
        str(made.engine_args["max_model_len"]),
        _pair(memory.weights if memory else None, found["weights_bytes"]),
        f"{_gib(memory.activation + memory.other if memory else None)} / {_gib(beside)}",
        _tokens(cache.tokens if cache else None, found["kv_cache_tokens"]),
        _pair(memory.total - memory.free if memory else None, peak),
        f"{found['seconds']:.0f} s",
    ]
    return f"| {' | '.join(cells)} |"


def recorded() -> None:
    """Hold what the planner reckons today against the loads that were recorded."""
    print("| model | set | weights, GiB | all else in the share, GiB | KV cache, tokens |\n|---|---|---|---|---|")
    for load in measured_loads.LOADS:
        sizes = f"{load['max_num_seqs']} requests, {load['max_num_batched_tokens']} tokens"
        wanted = ", ".join([sizes, *(f"{name}={value}" for name, value in load["args"].items() if name in _TELLING)])
        beside = load["requested_bytes"] - load["weights_bytes"] - load["kv_cache_bytes"]
        cells = [
            load["model"],
            wanted,
            _pair(measured_loads.weights_of(load), load["weights_bytes"]),
            f"{_gib(sum(measured_loads.beside_of(load)))} / {_gib(beside)}",
            _tokens(measured_loads.tokens_of(load), load["kv_cache_tokens"]),
        ]
        print(f"| {' | '.join(cells)} |")


HEAD = """\
| model | GPUs | context | weights, GiB | all else in the share, GiB | KV cache, tokens | most in use, GiB | load |
|---|---|---|---|---|---|---|---|"""


def _tokens(predicted: int | None, measured: int | None) -> str:
    return f"{predicted or 0:,} / {measured or 0:,} {_ratio(predicted, measured)}"


def _pair(predicted: int | None, measured: int | None) -> str:
    return f"{_gib(predicted)} / {_gib(measured)} {_ratio(predicted, measured)}"


def _ratio(predicted: int | None, measured: int | None) -> str:
    return f"({predicted / measured - 1:+.1%})" if predicted and measured else "(?)"


def _gib(size: int | None) -> str:
    return "?" if size is None else f"{size / (1 << 30):.2f}"


class Run:
    """One run of the program."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._inventory = Nvml().snapshot()
        self._begun = time.monotonic()
        self._free: queue.SimpleQueue[Gpu] = queue.SimpleQueue()
        for gpu in self._inventory.gpus:
            self._free.put(gpu)
        self.failed: list[str] = []

    def all(self, jobs: list[Job]) -> None:
        """Load those for one GPU side by side, then those for all."""
        print(HEAD, flush=True)
        with concurrent.futures.ThreadPoolExecutor(len(self._inventory.gpus)) as pool:
            list(pool.map(self._on_one, [job for job in jobs if not job.wide]))
        for job in jobs:
            if job.wide:
                self._try(job, self._inventory.gpus)

    def _on_one(self, job: Job) -> None:
        gpu = self._free.get()
        try:
            self._try(job, (gpu,))
        finally:
            self._free.put(gpu)

    def _try(self, job: Job, gpus: tuple[Gpu, ...]) -> None:
        found = self._once(job, gpus, None)
        if found is not None and self._options.again:
            self._once(job, gpus, profile_of(found))

    def _once(self, job: Job, gpus: tuple[Gpu, ...], profile: Profile | None) -> dict[str, Any] | None:
        made = planned(job, gpus, self._inventory, profile)
        if isinstance(made, Infeasible):
            print(f"| {job.tag} | refused: {made.advice} |", flush=True)
            return None
        if time.monotonic() - self._begun > self._options.seconds:
            print(f"| {job.tag} | not tried: no time left |", flush=True)
            return None
        log = self._options.logs / f"{job.tag}{'-again' if profile else ''}.log"
        found = load(self._options.engine_python, job, made, log)
        if found is None:
            self.failed.append(job.tag)
            print(f"| {job.tag} | FAILED: see {log} |", flush=True)
            return None
        print(row(job, made, found, profile is not None), flush=True)
        if profile is None:
            with (self._options.logs / "measured.jsonl").open("a") as file:
                file.write(json.dumps({"model": job.model, "args": made.engine_args} | found) + "\n")
        return found


def main() -> int:
    """Load them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL[:JSON]")
    parser.add_argument("--engine-python", default="python3", help="has vLLM (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="load each once more, planned by what the first took")
    parser.add_argument("--seconds", type=float, default=3600, help="begin no load later (default: %(default)s)")
    parser.add_argument("--logs", type=pathlib.Path, default=pathlib.Path("planning-logs"))
    parser.add_argument("--recorded", action="store_true", help="load nothing: show the loads of tests/data/measured")
    options = parser.parse_args()
    if options.recorded:
        recorded()
        return 0
    options.logs.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    run.all([Job.of(text) for text in options.models])
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
