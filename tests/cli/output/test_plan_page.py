from __future__ import annotations

import io
import itertools
from typing import Any

from rich.console import Console

from tests.fakes.fake_gpus import GIB
from vllmd.cli.output.plan_page import print_plan

GPU = {
    "index": 0,
    "product": "NVIDIA H200",
    "uuid": "GPU-0",
    "mig_parent": None,
    "memory": {
        "total": 100 * GIB, "weights": 15 * GIB, "kv_cache": 70 * GIB, "activation": GIB, "graphs": GIB,
        "other": GIB, "held": GIB, "free": 11 * GIB,
    },
}  # fmt: skip
PLAN: dict[str, Any] = {
    "feasible": True,
    "engine_args": {"max_model_len": 8192},
    "kv_cache_bytes_per_gpu": 70 * GIB,
    "kv_cache_bytes_per_token": 131072,
    "kv_cache_tokens": 573440,
    "max_concurrency": 70.0,
    "use_case": "production",
    "hardware": "1x NVIDIA H200 (100.0 GiB)",
    "model": {
        "name": "Qwen/Qwen3-8B",
        "architecture": "Qwen3ForCausalLM",
        "parameters": 8_190_735_360,
        "weight_bytes": 15 * GIB,
        "max_model_len": 40960,
        "dtype": "bfloat16",
        "quantization": None,
    },
    "gpus": [GPU],
    "choices": [{"name": "max_model_len", "value": 8192, "source": "use case", "reason": "as it has it"}],
    "notes": [],
}
INFEASIBLE: dict[str, Any] = PLAN | {
    "feasible": False,
    "kv_cache_bytes_per_gpu": None,
    "kv_cache_tokens": None,
    "choices": [],
    "reason": "MODEL_TOO_LARGE",
    "message": "The weights take more than there is.",
    "remedies": [
        {"text": "kv_cache_dtype=fp8 (a context of 900)", "engine_args": {"kv_cache_dtype": "fp8"}, "engines": []},
        {"text": "stopping engine a1", "engine_args": {}, "engines": ["a1"]},
    ],
}


def page(document: dict[str, Any], width: int = 80) -> str:
    """What a person sees."""
    console = Console(file=io.StringIO(), width=width)
    print_plan(console, document)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def headings(text: str) -> list[str]:
    """The lines above which a line is empty."""
    return [line for before, line in itertools.pairwise(text.splitlines()) if not before and line.isupper()]


def test_what_was_planned_and_what_it_holds() -> None:
    """Model, GPUs, memory, arguments and the KV cache, each in its place."""
    text = page(PLAN, width=100)

    assert "Qwen3ForCausalLM, 8.2B parameters, bfloat16, 15.0 GiB in files, context 40960" in text
    assert "1x NVIDIA H200 (100.0 GiB)" in text
    assert "GPU 0  ███" in text
    assert "max_model_len  8192   use case  as it has it" in text
    assert "KV cache of 573,440 tokens, 128 KiB each over all layers and GPUs." in text
    assert "70.0 requests of 8192 tokens each fit at once." in text
    assert headings(text) == ["MEMORY", "ARGUMENTS", "WHAT IT HOLDS"]


def test_of_several_copies_each_has_its_own_cache() -> None:
    """Or it would look as if the second GPU brought nothing."""
    text = page(PLAN | {"engine_args": {"max_model_len": 8192, "data_parallel_size": 2}}, width=100)

    assert "Each of the 2 copies has a KV cache of 573,440 tokens, 128 KiB each over all layers and GPUs." in text
    assert "70.0 requests of 8192 tokens each fit at once in each." in text


def test_it_fits_a_terminal() -> None:
    """Long reasons are wrapped."""
    reason = "what there is to say about it " * 8
    long = PLAN | {"choices": [dict(PLAN["choices"][0], reason=reason)], "notes": [reason]}

    assert max(len(line) for line in page(long).splitlines()) <= 80


def test_why_it_does_not_fit_and_what_would() -> None:
    """With what to type for that, where there is anything to type."""
    text = page(INFEASIBLE)

    assert "Infeasible: The weights take more than there is. (MODEL_TOO_LARGE)" in text
    assert "- kv_cache_dtype=fp8 (a context of 900)\n      --set kv_cache_dtype=fp8\n" in text
    assert "- stopping engine a1\n" in text
    assert headings(text) == ["MEMORY NOW", "WHAT WOULD MAKE IT FIT"]


def test_notes_come_last() -> None:
    """What could not be found out is told."""
    assert page(PLAN | {"notes": ["weights: there are none"]}).endswith("NOTES\n- weights: there are none\n")


def test_a_model_of_which_nothing_is_known() -> None:
    """Nothing is said then, rather than null."""
    unknown = dict.fromkeys(PLAN["model"], None) | {"name": "a/b"}
    text = page(PLAN | {"model": unknown, "kv_cache_tokens": None, "use_case": None})

    assert "None" not in text
    assert "WHAT IT HOLDS" not in text


def test_without_a_gpu_there_are_no_bars() -> None:
    """The CPU's memory is not planned."""
    assert "MEMORY" not in page(PLAN | {"gpus": []})


def test_a_slice_is_told_from_its_gpu() -> None:
    """It has the GPU's number."""
    assert "MIG of GPU 0  █" in page(PLAN | {"gpus": [GPU | {"mig_parent": "GPU-0"}]})
