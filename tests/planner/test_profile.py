from __future__ import annotations

from vllmd.planner.profile import Lookup, key, nothing_known


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
