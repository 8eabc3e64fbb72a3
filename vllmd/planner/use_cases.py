"""What models are loaded for, and what follows from it for the arguments that are left open.

The first three are those of the project's first users; their values are what worked for them on two RTX 3090. On other
hosts the same intent is followed: a share is lowered to what is free, a context to what the model has, and whether
GPUs talk to each other directly is decided by how they are connected.

| | GPUs | share | context | requests and tokens at once | besides |
|---|---|---|---|---|---|
| (none) | all that divide the heads | 0.9 | the model's | as vLLM's server has them | |
| production | all that divide the heads | 0.9 | 8192 | 8192 tokens | chunked prefill, sleep mode |
| download | as few as it fits on | 0.7 | 2048 | vLLM's default | eager, sleep mode |
| debate | as few as it fits on | 0.8 | 4096 | vLLM's default | sleep mode |
| latency | one NVLink island | 0.9 | the model's | 32 requests, 2048 tokens | prefix caching |
| throughput | as few as it fits on, and as many replicas | 0.9 | 32768 | as many as are of use | prefix caching |
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

Spread = Literal["all", "fewest", "island", "replicas"]
"""How many GPUs are taken: all that divide the heads, as few as it fits on, those of one NVLink island, or all by
as many replicas as fit."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UseCase:
    """What is chosen for one purpose."""

    name: str
    purpose: str
    """For people."""
    spread: Spread = "all"
    share: float = 0.9
    """`gpu_memory_utilization`, where so much is free. vLLM's own was 0.9 for years; what is left is for graphs."""
    context: int | None = None
    """The longest `max_model_len`; `None` for the model's."""
    arguments: tuple[tuple[str, Any, str], ...] = ()
    """Name, value and reason of what is set beyond."""
    large_gpus: tuple[tuple[str, Any, str], ...] = ()
    """Likewise on GPUs of 70 GiB and more."""
    server_sizes: bool = False
    """Whether an engine takes on as many requests and tokens as vLLM's server does, where nothing else is said."""


_SLEEP = ("enable_sleep_mode", True, "so that it can give its memory up without being stopped")
_PREFIXES = ("enable_prefix_caching", True, "prompts that begin alike are computed once")

GENERAL = UseCase(name="", purpose="nothing in particular", server_sizes=True)

USE_CASES = {
    one.name: one
    for one in (
        UseCase(
            name="production",
            purpose="the most throughput for one model on this host",
            context=8192,
            arguments=(
                ("enable_chunked_prefill", True, "long prompts do not hold up those who are served already"),
                ("max_num_batched_tokens", 8192, "large batches, for throughput"),
                _SLEEP,
            ),
            large_gpus=(("max_num_seqs", 1024, "as many requests at once as vLLM's server takes on large GPUs"),),
        ),
        UseCase(
            name="download",
            purpose="one model after another, each for a short time",
            spread="fewest",
            share=0.7,
            context=2048,
            arguments=(("enforce_eager", True, "no graphs: a start takes half as long"), _SLEEP),
        ),
        UseCase(
            name="debate",
            purpose="several models at once, each on a GPU of its own",
            spread="fewest",
            share=0.8,
            context=4096,
            arguments=(_SLEEP,),
        ),
        UseCase(
            name="latency",
            purpose="the shortest time to the next token, for few clients",
            spread="island",
            arguments=(
                ("max_num_batched_tokens", 2048, "a step with a new prompt in it stays short"),
                ("max_num_seqs", 32, "few requests share a step"),
                _PREFIXES,
            ),
        ),
        UseCase(
            name="throughput",
            purpose="the most tokens a second over many clients",
            spread="replicas",
            context=32768,
            arguments=(
                ("max_num_batched_tokens", 8192, "large batches, for throughput"),
                ("max_num_seqs", 512, "many requests share a step"),
                _PREFIXES,
            ),
            large_gpus=(
                ("max_num_batched_tokens", 16384, "large batches, for throughput"),
                ("max_num_seqs", 1024, "many requests share a step"),
            ),
        ),
    )
}
"""By name."""


def named(name: str | None) -> UseCase | None:
    """Find a use case; the general one without a name, `None` if there is none of that name."""
    return USE_CASES.get(name) if name else GENERAL
