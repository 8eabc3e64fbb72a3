"""Everything about one engine, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vllmd.cli import human, terminal
from vllmd.cli.failures import print_log_lines
from vllmd.cli.output.argument_table import print_arguments
from vllmd.cli.output.engine_table import state_text
from vllmd.cli.output.memory_bar import Bar, print_bars
from vllmd.cli.output.reclaim import print_reclaim

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp
    from rich.console import Console
    from rich.text import Text

    from vllmd.cli.output.gpu_names import GpuNames
    from vllmd.v1.engine_pb2 import Engine, EngineArg, GpuMemory

_PARTS = ("weights", "kv_cache", "activation", "graphs", "other", "held")

_MEMORY = {
    "weights_bytes": "weights",
    "kv_cache_bytes": "KV cache",
    "activation_bytes": "activations",
    "graphs_bytes": "CUDA graphs",
    "other_bytes": "other",
}
"""What a row of the memory is called."""


def print_engine(console: Console, engine: Engine, gpus: GpuNames) -> None:
    """Print facts, then memory, arguments, transitions, failure and reclaim as far as there are any."""
    from rich.text import Text

    console.print(Text.assemble((human.short(engine.name), "bold"), "  ", state_text(engine)))
    facts = terminal.table("", "")
    facts.show_header = False
    for label, fact in _facts(engine, gpus):
        facts.add_row(Text(label, "bold"), fact)
    console.print(facts)
    if engine.HasField("planned_memory") or engine.report.HasField("measured_memory"):
        named = {"PLANNED": engine.planned_memory, "MEASURED": engine.report.measured_memory}
        print_memory(console, {name: memory for name, memory in named.items() if memory.ByteSize()}, len(engine.gpus))
    if engine.effective_args:
        terminal.heading(console, "ARGUMENTS")
        print_arguments(console, map(argument_row, engine.effective_args))
    if engine.transitions:
        _print_transitions(console, engine)
    if engine.HasField("failure"):
        terminal.heading(console, "FAILURE")
        failure = engine.failure
        console.print(Text.assemble((failure.reason, "red"), f": {terminal.printable(failure.message)}"))
        print_log_lines(console, failure.log_lines)
    if engine.HasField("reclaim"):
        terminal.heading(console, "RECLAIM")
        print_reclaim(console, engine.reclaim, gpus)


def _facts(engine: Engine, gpus: GpuNames) -> Iterator[tuple[str, str | Text]]:
    revision = f" at {engine.revision}" if engine.revision else ""
    yield "model", f"{engine.model}{revision}"
    if engine.HasField("report"):
        yield "vLLM", _report(engine)
    if engine.pid:
        yield "pid", str(engine.pid)
    if engine.gpus:
        yield "GPUs", gpus.listed(engine.gpus)
    elif engine.HasField("report"):
        yield "GPUs", "none, runs on the CPU"
    yield "use", _use(engine)
    if engine.HasField("create_time"):
        yield "created", _local_time(engine.create_time)
    if engine.HasField("ready_time"):
        took = human.duration(engine.report.load_duration.ToTimedelta().total_seconds())
        after = f", loaded in {took}" if engine.HasField("report") else ""
        yield "ready", f"{_local_time(engine.ready_time)}{after}"


def _report(engine: Engine) -> str:
    report = engine.report
    facts = [report.vllm_version, report.dtype, f"up to {report.max_model_len} tokens"]
    if report.HasField("kv_cache_tokens"):
        facts.append(f"KV cache of {report.kv_cache_tokens} tokens")
    return ", ".join(fact for fact in facts if fact)


def _use(engine: Engine) -> str:
    leases = human.count(engine.lease_count, "lease")
    tokens = human.count(engine.generated_token_count, "token")
    return f"{leases}, {engine.running_count} running, {tokens} so far, {engine.tokens_per_second:.0f} tok/s"


def print_memory(console: Console, shown: Mapping[str, GpuMemory], gpus: int) -> None:
    """What it takes of its fullest GPU: as planned, and as vLLM measured it, as far as either is known."""
    terminal.heading(console, "MEMORY")
    table = terminal.table("ON THE FULLEST GPU", *(f">{name}" for name in shown))
    for field, label in _MEMORY.items():
        sizes = [getattr(memory, field) for memory in shown.values()]
        table.add_row(label, *(human.gib(size) if size else "-" for size in sizes))
    if "PLANNED" in shown:
        print_bars(console, [_bar(shown["PLANNED"], gpus)])
    console.print(table)


def argument_row(argument: EngineArg) -> tuple[str, object, str, str]:
    """Make a row of the arguments' table."""
    from google.protobuf.json_format import MessageToDict

    return argument.name, MessageToDict(argument.value), human.source(argument.source), argument.reason


def _bar(memory: GpuMemory, gpus: int) -> Bar:
    parts = {name: int(getattr(memory, f"{name}_bytes")) for name in _PARTS}
    label = "GPU" if gpus < 2 else "fullest GPU"
    return Bar(label, memory.total_bytes, {**parts, "free": memory.total_bytes - sum(parts.values())})


def _print_transitions(console: Console, engine: Engine) -> None:
    terminal.heading(console, "HISTORY")
    table = terminal.table("TIME", "STATE", "WHY")
    for transition in engine.transitions:
        table.add_row(_local_time(transition.time), human.state(transition.new_state), transition.reason)
    console.print(table)


def _local_time(time: Timestamp) -> str:
    from datetime import UTC

    return time.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
