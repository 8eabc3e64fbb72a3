from __future__ import annotations

import pytest

from tests.fakes.models import facts as facts_of
from tests.fakes.models import held
from vllmd.gpu import products
from vllmd.models.facts import ModelFacts
from vllmd.models.layers import Kind
from vllmd.planner.choice import Draft
from vllmd.planner.parallel import Shape, refusal, refuse_others, shapes, sizes
from vllmd.planner.request import Request
from vllmd.planner.topology import Topology
from vllmd.planner.use_cases import Spread

LLAMA = facts_of("llama-3.1-8b")
"""Of 32 heads, 8 of keys and values, and 32 layers."""


def listed(
    host: str,
    spread: Spread = "all",
    facts: ModelFacts | None = LLAMA,
    full: frozenset[int] = frozenset(),
    several: bool = True,
    **settled: int,
) -> list[Shape]:
    """All ways on a host of one kind of GPU, of which some are full."""
    draft = Draft()
    for name, value in settled.items():
        draft.choose(f"{name}_parallel_size", value, "client", "set by the client")
    there = products.inventory(host)
    gpus = [held(gpu, 1.0) if gpu.index in full else gpu for gpu in there.gpus]
    return list(shapes(draft, facts, gpus, Topology(there.links), spread, several))


def tensors(ways: list[Shape]) -> list[int]:
    """The sizes that are tried without stages, each once, in their order."""
    return list(dict.fromkeys(way.tensor for way in ways if way.pipeline == 1))


def indices(way: Shape) -> list[int]:
    return [gpu.index for gpu in way.gpus]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (ModelFacts(attention_heads=32, kv_heads=8), [1, 2, 4, 8]),
        (ModelFacts(attention_heads=24, kv_heads=8), [1, 2, 4, 8]),
        (ModelFacts(attention_heads=28, kv_heads=4), [1, 2, 4]),
        (ModelFacts(attention_heads=71, kv_heads=1), [1]),
        (ModelFacts(attention_heads=12, kv_heads=2), [1, 2, 4, 6]),
        (ModelFacts(attention_heads=16, kv_heads=16, latent_dim=576), [1, 2, 4, 8]),
        (ModelFacts(kinds=(Kind.STATE,) * 24), [1, 2, 3, 4, 5, 6, 7, 8]),
        (ModelFacts(kinds=(Kind.STATE,) * 24, vocabulary=50280), [1, 2, 3, 4, 6, 8]),
        (facts_of("phi-4"), [1, 2]),
        (ModelFacts(), [1]),
        (None, [1]),
    ],
)
def test_heads_and_the_vocabulary_are_divided_evenly(facts: ModelFacts | None, expected: list[int]) -> None:
    """With fewer heads of keys and values than GPUs, each is copied to as many; of what is not known, one is safe.

    5 divides the heads of phi-4, 40 and 10, and not the 100352 rows of its embedding, over which vLLM would stumble.
    """
    assert sizes(facts, 8) == expected


def test_a_size_that_divides_nothing_is_refused_with_those_that_do() -> None:
    """At once: vLLM would say so after half a minute, or die of an assertion where it is keys and values."""
    facts = ModelFacts(attention_heads=28, kv_heads=4)
    found = refusal(3, facts)

    assert found is not None
    assert found.invalid
    assert found.message.endswith("28 attention heads: it can be 1, 2, 4, 28.")
    assert refusal(28, facts) is None
    assert refusal(7, facts) is not None
    assert refusal(3, None) is None


def test_more_stages_than_layers_are_refused() -> None:
    """A stage has a layer at least."""
    draft = Draft()
    draft.choose("pipeline_parallel_size", 5, "client", "set by the client")
    four, five = (Request(facts=ModelFacts(kinds=(Kind.FULL,) * layers)) for layers in (4, 5))
    found = refuse_others(draft, four)

    assert found is not None
    assert "pipeline_parallel_size=5 is more than the model's 4 layers" in found.message
    assert refuse_others(draft, five) is None


def test_heads_out_of_all_proportion_hold_nobody_up() -> None:
    """They come from a file of the model's."""
    found = refusal(7, ModelFacts(attention_heads=1 << 32, kv_heads=1))

    assert found is not None
    assert found.message.endswith("it can be 1, 2, 4, 8, 16, 32, 64.")


@pytest.mark.parametrize(
    ("host", "spread", "order"),
    [
        ("8xH100", "all", [8, 4, 2, 1]),
        ("8xH100", "island", [8, 4, 2, 1]),
        ("8xH100", "fewest", [1, 2, 4, 8]),
        ("8xH100", "replicas", [1, 2, 4, 8]),
        ("4xL40S", "all", [4, 2, 1]),
        ("4xL40S", "island", [1, 2, 4]),
        ("4xL40S", "fewest", [1, 2, 4]),
        ("4xRTX3090+nvlink", "all", [2, 4, 1]),
        ("4xRTX3090+nvlink", "island", [2, 4, 1]),
        ("8xV100", "all", [4, 8, 2, 1]),
    ],
)
def test_sizes_are_tried_in_the_order_of_what_is_wanted(host: str, spread: Spread, order: list[int]) -> None:
    """Beyond an island of NVLink, over PCIe, only where the island does not suffice."""
    assert tensors(listed(host, spread)) == order


def test_a_size_that_was_set_is_the_only_one() -> None:
    """Whatever the use case would have."""
    assert {way.tensor for way in listed("8xH100", tensor=2)} == {2}
    assert listed("2xRTX3090", tensor=4) == []


@pytest.mark.parametrize(
    ("settled", "expected"),
    [
        ({"pipeline": 2}, {(4, 2, 1), (2, 2, 1), (1, 2, 1)}),
        ({"data": 2}, {(4, 1, 2), (2, 1, 2), (1, 1, 2)}),
        ({"tensor": 2, "pipeline": 2, "data": 2}, {(2, 2, 2)}),
        ({"pipeline": 16}, set()),
    ],
)
def test_stages_and_replicas_that_were_set_are_kept(
    settled: dict[str, int], expected: set[tuple[int, int, int]]
) -> None:
    """Heads are divided among what they leave."""
    ways = listed("8xH100", **settled)  # type: ignore[arg-type]

    assert {(way.tensor, way.pipeline, way.replicas) for way in ways} == expected
    assert all(len(way.gpus) == way.tensor * way.pipeline * way.replicas for way in ways)


def test_stages_come_last() -> None:
    """They are for what fits on no number of GPUs that divides the heads."""
    ways = listed("3xRTX4090")

    assert [(way.tensor, way.pipeline) for way in ways if way.pipeline > 1] == [(1, 2), (1, 3)]
    assert [way.pipeline for way in ways] == sorted(way.pipeline for way in ways)
    assert ways[-1].reason.startswith("32 layers in 3 stages")


@pytest.mark.parametrize("model", ["bge-base-en-v1.5", "gemma-3-4b-it"])
def test_what_vllm_can_not_run_in_stages_is_not_planned_so(model: str) -> None:
    """Models that pool, and those of more than text."""
    assert all(way.pipeline == 1 for way in listed("3xRTX4090", facts=facts_of(model)))


def test_there_are_no_more_stages_than_layers() -> None:
    """Each has one at least."""
    small = ModelFacts(attention_heads=5, kv_heads=5, kinds=(Kind.FULL,) * 2)

    assert {way.pipeline for way in listed("4xL40S", facts=small)} == {1, 2}


def test_replicas_take_all_gpus_and_fewer_where_some_are_full() -> None:
    """One GPU that others hold must not keep the rest from being used."""
    ways = [way for way in listed("4xL40S", "replicas", full=frozenset({1})) if way.tensor == way.pipeline == 1]

    assert [way.replicas for way in ways] == [4, 3, 2, 1]
    assert [indices(way) for way in ways] == [[0, 1, 2, 3], [0, 2, 3], [0, 2], [0]]


def test_replicas_and_stages_go_together() -> None:
    """Each replica has all stages, and all of them have GPUs of their own."""
    ways = listed("4xH100", "replicas", pipeline=2)

    assert (ways[0].tensor, ways[0].pipeline, ways[0].replicas) == (1, 2, 2)
    assert all(len(way.gpus) == way.tensor * way.pipeline * way.replicas for way in ways)


@pytest.mark.parametrize(
    ("facts", "several"),
    [(LLAMA, False), (facts_of("qwen3-30b-a3b"), True), (facts_of("mixtral-8x7b"), True), (None, True)],
)
def test_only_a_dense_model_gets_replicas_and_only_of_who_can_take_them(
    facts: ModelFacts | None, several: bool
) -> None:
    """vLLM divides experts among replicas, and the class `LLM` has one."""
    assert all(way.replicas == 1 for way in listed("4xH100", "replicas", facts=facts, several=several))


@pytest.mark.parametrize(
    ("host", "spread", "facts", "reason"),
    [
        (
            "2xRTX3090+nvlink",
            "all",
            LLAMA,
            "32 attention heads (8 of keys and values) divided among 2 of 2 GPUs, joined",
        ),
        ("1xH200", "all", LLAMA, "there is one GPU of this kind"),
        ("8xH100", "all", facts_of("falcon-7b"), "the most of 8 GPUs that 71 attention heads (1 of keys and values)"),
        ("4xL40S", "island", LLAMA, "it fits on one of 4 GPUs, and without NVLink between them more would hold"),
        ("8xH100", "fewest", LLAMA, "as few of 8 GPUs as it fits on"),
        ("8xH100", "all", None, "the model's heads are not known yet, so one GPU"),
        ("2xL40S", "all", facts_of("mamba-130m"), "the model divided among 2 of 2 GPUs; without NVLink"),
    ],
)
def test_the_reason_says_what_was_counted(host: str, spread: Spread, facts: ModelFacts | None, reason: str) -> None:
    """And how the GPUs are joined."""
    assert listed(host, spread, facts)[0].reason.startswith(reason)


def test_one_gpu_of_several_is_not_said_to_be_all_that_can_be_used() -> None:
    """It is what is left to try where the others are full."""
    last = [way for way in listed("4xL40S") if way.tensor == 1 and way.pipeline == 1][-1]

    assert last.reason.startswith("divided among more of 4 GPUs it would have less room")


def test_where_other_parts_are_set_they_are_what_leaves_one_gpu() -> None:
    """And not what is free."""
    assert listed("2xL40S", data=2)[0].reason == "2 GPUs are no more than one for each part that is set"
    assert listed("4xL40S", data=2)[0].reason.startswith("32 attention heads")


def test_gpus_without_nvlink_between_them_are_warned_of() -> None:
    """An operator who wonders why it is slow finds it in the plan."""
    first = listed("2xL40S")[0]

    assert first.reason.endswith("; without NVLink between all of them, so what they exchange goes over PCIe")
