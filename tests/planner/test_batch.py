from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from vllmd.planner.batch import sizes

LARGE = dataclasses.replace(gpu(), product="NVIDIA H100 80GB HBM3")
A100 = dataclasses.replace(gpu(), product="NVIDIA A100-SXM4-80GB")
SMALL = gpu(total=24 * GIB)


@pytest.mark.parametrize(
    ("gpus", "client", "expected"),
    [
        ([LARGE], {}, {"max_num_batched_tokens": 8192, "max_num_seqs": 1024}),
        ([A100], {}, {"max_num_batched_tokens": 2048, "max_num_seqs": 256}),
        ([SMALL], {}, {"max_num_batched_tokens": 2048, "max_num_seqs": 256}),
        ([LARGE, SMALL], {}, {"max_num_batched_tokens": 2048, "max_num_seqs": 256}),
        ([LARGE], {"max_num_seqs": 64}, {"max_num_batched_tokens": 8192}),
        ([SMALL], {"max_num_seqs": 4096}, {"max_num_batched_tokens": 4096}),
        ([LARGE], {"max_num_batched_tokens": 512}, {"max_num_seqs": 512}),
        ([LARGE], {"max_num_batched_tokens": 512, "max_num_seqs": 8}, {}),
        ([LARGE], {"max_num_seqs": "nonsense"}, {"max_num_batched_tokens": 8192}),
    ],
)
def test_what_is_taken_on_at_once(gpus: list[Any], client: dict[str, Any], expected: dict[str, int]) -> None:
    """As vLLM's server on such GPUs; never fewer tokens than requests, which vLLM refuses."""
    chosen = sizes(client, gpus)

    assert {choice.name: choice.value for choice in chosen} == expected
    assert all(choice.source == "auto" and choice.reason for choice in chosen)
