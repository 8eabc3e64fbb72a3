from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from vllmd.planner import batch
from vllmd.planner.choice import Draft
from vllmd.planner.use_cases import GENERAL, USE_CASES

LARGE = dataclasses.replace(gpu(), product="NVIDIA H100 80GB HBM3")
A100 = dataclasses.replace(gpu(), product="NVIDIA A100-SXM4-80GB")
SMALL = gpu(total=24 * GIB)


def draft(**client: Any) -> Draft:
    """What a client has set."""
    result = Draft()
    for name, value in client.items():
        result.choose(name, value, "client", "set by the client")
    return result


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
    found = draft(**client)
    batch.settle(found, gpus, GENERAL, batch.are_large(gpus))
    chosen = [choice for choice in found.choices if choice.source == "auto"]

    assert {choice.name: choice.value for choice in chosen} == expected
    assert all(choice.reason for choice in chosen)


def test_a_large_gpu_can_do_with_less() -> None:
    """Where the context would not fit beside large batches."""
    found = draft()
    batch.settle(found, [LARGE], GENERAL, large=False)

    assert found.engine_args == {"max_num_batched_tokens": 2048, "max_num_seqs": 256}
    assert "leaves more for the KV cache" in found.choices[0].reason


def test_a_use_case_says_its_own() -> None:
    """And what it leaves to vLLM stays open."""
    production, debate = draft(), draft()
    batch.settle(production, [SMALL], USE_CASES["production"], large=False)
    batch.settle(debate, [SMALL], USE_CASES["debate"], large=False)

    assert production.engine_args == {"max_num_batched_tokens": 8192}
    assert production.choices[0].source == "use case"
    assert debate.engine_args == {}


@pytest.mark.parametrize(
    ("client", "program", "expected"),
    [
        ({}, "engine", (2048, 128)),
        ({}, "llm", (16384, 1024)),
        ({"max_num_seqs": 4096}, "engine", (4096, 4096)),
        ({"max_num_batched_tokens": 64}, "engine", (64, 64)),
        ({"max_num_batched_tokens": 64, "max_num_seqs": 8}, "llm", (64, 8)),
    ],
)
def test_what_is_left_open_is_reckoned_with_as_vllm_has_it(
    client: dict[str, Any], program: Any, expected: tuple[int, int]
) -> None:
    """By who starts it: an embedded engine takes on least."""
    assert batch.assumed(draft(**client), [LARGE], program) == expected


@pytest.mark.parametrize(
    ("client", "nearest"),
    [
        ({"max_num_batched_tokens": 8, "max_num_seqs": 16}, "it can be 16 or more"),
        (
            {"max_num_batched_tokens": 2048, "max_model_len": 4096, "enable_chunked_prefill": False},
            "it can be 4096 or more",
        ),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(client: dict[str, Any], nearest: str) -> None:
    """With the nearest that do: vLLM would fail on them after a while."""
    found = batch.refusal(draft(**client))

    assert found is not None
    assert found.invalid
    assert nearest in found.message
    assert batch.refusal(draft(**client | {"max_num_batched_tokens": 4096})) is None


def test_there_are_no_more_requests_than_room_for_their_states() -> None:
    """A hybrid model does not start otherwise; what the client set is refused with what would work."""
    chosen, left, asked = draft(), draft(), draft(max_num_seqs=128)
    chosen.choose("max_num_seqs", 256, "auto", "as vLLM's server")

    assert batch.fit_states(chosen, 256, 100) is None
    assert batch.fit_states(left, 128, 100) is None
    assert chosen.engine_args == left.engine_args == {"max_num_seqs": 100}
    refused = batch.fit_states(asked, 128, 100)
    assert refused is not None
    assert "it can be 100" in refused.message
    assert batch.fit_states(asked, 128, 128) is None
    assert asked.engine_args == {"max_num_seqs": 128}
