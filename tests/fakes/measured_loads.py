"""The loads of real vLLM that `tests/data/measured` holds, and what the planner's arithmetic makes of each."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from vllmd.models.facts import ModelFacts, read
from vllmd.planner.kv_cache import Layout, lay_out
from vllmd.planner.memory import Beside, Sizes, beside
from vllmd.planner.precision import ONLINE
from vllmd.planner.weights import bytes_on_each

DATA = pathlib.Path(__file__).parents[1] / "data"
LOADS: list[dict[str, Any]] = [
    json.loads(line) for path in sorted((DATA / "measured").glob("*.jsonl")) for line in path.read_text().splitlines()
]


def named(load: dict[str, Any]) -> str:
    """What a load is called in a report."""
    return f"{load['model']}{load['args'] or ''}"


def facts_of(load: dict[str, Any]) -> ModelFacts:
    """Read a model's configuration, and pack it as it was loaded."""
    facts = read(json.loads((DATA / "models" / load["model"] / "config.json").read_text()))
    packed = load["args"].get("quantization")
    return facts if packed is None else dataclasses.replace(facts, quantization=ONLINE[packed])


def sizes_of(load: dict[str, Any]) -> Sizes:
    """The sizes that a load had."""
    return Sizes(
        tokens=load["max_num_batched_tokens"],
        sequences=load["max_num_seqs"],
        tensor_parallel=load["args"].get("tensor_parallel_size", 1),
        pipeline_parallel=load["args"].get("pipeline_parallel_size", 1),
        eager=load["args"].get("enforce_eager", False),
        capability=(9, 0),
    )


def laid_out(load: dict[str, Any]) -> Layout:
    """The cache that a load had."""
    sizes = sizes_of(load)
    found = lay_out(
        facts_of(load),
        in_flight=sizes.tokens,
        value_bytes=1 if load["kv_cache_dtype"].startswith("fp8") else 2,
        tensor_parallel=sizes.tensor_parallel,
        pipeline_parallel=sizes.pipeline_parallel,
        prefix_caching=load["prefix_caching"],
    )
    assert found is not None
    return found


def weights_of(load: dict[str, Any]) -> int:
    """What its weights are reckoned to take on each GPU."""
    sizes = sizes_of(load)
    online = "quantization" in load["args"]
    found = bytes_on_each(facts_of(load), sizes.tensor_parallel, sizes.pipeline_parallel, online=online)
    assert found is not None
    return found


def beside_of(load: dict[str, Any]) -> Beside:
    """What else is reckoned to be taken of its share."""
    return beside(facts_of(load), sizes_of(load))


def tokens_of(load: dict[str, Any]) -> int:
    """How many tokens its KV cache is reckoned to hold."""
    pool = load["requested_bytes"] - weights_of(load) - sum(beside_of(load))
    return laid_out(load).capacity(pool, load["max_model_len"])
