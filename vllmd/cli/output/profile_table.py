"""What loads took, as a table."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from vllmd.cli import human, terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.text import Text

    from vllmd.v1.engine_pb2 import LoadProfile

_PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
"""Their product is the number of GPUs."""


def print_profiles(console: Console, profiles: Sequence[LoadProfile]) -> None:
    """Print the sizes on one line; below the model there is what it was loaded on, and how."""
    table = terminal.table("MODEL", ">WEIGHTS", ">ACTIV.", ">GRAPHS", ">KV TOKENS", ">AGE")
    for profile in profiles:
        memory = profile.memory
        table.add_row(
            _what(profile),
            _size(memory.weights_bytes),
            _size(memory.activation_bytes),
            _size(memory.graphs_bytes),
            str(profile.kv_cache_tokens) if profile.HasField("kv_cache_tokens") else "-",
            human.duration(max(0, int(time.time() - profile.record_time.seconds))),
        )
    console.print(table)


def _what(profile: LoadProfile) -> Text:
    from rich.text import Text

    arguments = {name: human.value(value) for name, value in sorted(profile.engine_args.fields.items())}
    gpus = f"{_gpu_count(arguments)}x {profile.product}, vLLM {profile.vllm_version}"
    settings = " ".join(f"{name}={value}" for name, value in arguments.items() if name not in _PARALLEL)
    below = "\n".join(filter(None, [gpus, settings]))
    return Text.assemble(terminal.printable(profile.model), "\n", (terminal.printable(below), "dim"))


def _gpu_count(arguments: Mapping[str, str]) -> int:
    sizes = (arguments.get(name, "1") for name in _PARALLEL)
    return math.prod(int(size) if size.isdecimal() else 1 for size in sizes)


def _size(size_bytes: int) -> str:
    return human.gib(size_bytes) if size_bytes else "-"
