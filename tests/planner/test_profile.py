from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB
from tests.fakes.models import asked, planned
from tests.fakes.models import facts as facts_of
from vllmd.planner.profile import Lookup, Profile, key, nothing_known


def test_loads_that_take_the_same_have_one_key() -> None:
    """How much of the GPU is given and how long a context is changes nothing of what weights and activations take."""
    first = key("f", "NVIDIA H200", {"max_num_seqs": 8, "gpu_memory_utilization": 0.9, "seed": 1})
    second = key("f", "NVIDIA H200", {"max_model_len": 4096, "max_num_seqs": 8})

    lookup: Lookup = nothing_known

    assert first == second
    assert lookup(first) is None


def test_what_changes_the_memory_changes_the_key() -> None:
    """Another model, another GPU, or a setting that matters."""
    keys = {
        key("f", "NVIDIA H200", {}),
        key("g", "NVIDIA H200", {}),
        key("f", "NVIDIA L4", {}),
        key("f", "NVIDIA H200", {"tensor_parallel_size": 2}),
        key("f", "NVIDIA H200", {"quantization": "fp8"}),
    }

    assert len(keys) == 5


@pytest.mark.parametrize(
    "sizes",
    [
        {"weights_bytes": 0},
        {"weights_bytes": 1 << 62},
        {"activation_bytes": 80 * GIB},
        {"other_bytes": 80 * GIB},
        {"graphs_bytes": 999 * GIB},
        {"peak_bytes": 1 << 62},
    ],
)
def test_what_no_load_can_have_taken_is_not_believed(sizes: dict[str, Any]) -> None:
    """A plan by it would refuse the load for ever, or let it run out of memory; the next load puts it right."""
    seen = {"weights_bytes": 15 * GIB, "activation_bytes": GIB, "other_bytes": GIB, "kv_cache_bytes": GIB}
    model = dataclasses.replace(facts_of("llama-3.1-8b"), fingerprint="f")
    profile = Profile(vllm_version="0.25.1", **(seen | sizes))
    plain = planned(asked("1xH100", facts=model))

    assert Profile(vllm_version="0.25.1", **seen).is_possible_on(80 * GIB)
    assert planned(asked("1xH100", facts=model, profiles=lambda _: profile)).memory == plain.memory
