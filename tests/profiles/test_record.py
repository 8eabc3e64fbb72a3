from __future__ import annotations

import msgspec
import pytest

from tests.fakes.profiles import GIB, info, record
from vllmd.planner import memory
from vllmd.planner.profile import Profile
from vllmd.profiles.record import profile_of
from vllmd.worker.report import EngineInfo


def test_a_profile_is_what_the_engine_reports() -> None:
    """And what NVML saw, and when."""
    assert profile_of(info(), 59 * GIB, 7.0) == Profile(
        vllm_version="0.25.1",
        weights_bytes=15 * GIB,
        activation_bytes=2 * GIB,
        other_bytes=GIB,
        graphs_bytes=GIB // 2,
        kv_cache_bytes=40 * GIB,
        kv_cache_tokens=327_680,
        max_model_len=8192,
        peak_bytes=59 * GIB,
        recorded=7.0,
    )


@pytest.mark.parametrize(
    "silent",
    [EngineInfo("0.25.1", 4096), info(weights_bytes=None), info(activation_bytes=None)],
    ids=["measured nothing", "no weights", "no activations"],
)
def test_one_that_says_too_little_gives_none(silent: EngineInfo) -> None:
    """An old worker, an engine on the CPU, one that was given its KV cache: nothing can be planned by that."""
    assert profile_of(silent, None, 7.0) is None


def test_what_it_does_not_say_is_unknown_or_as_elsewhere() -> None:
    """What CUDA takes is much the same everywhere; a length that can't be is none."""
    profile = profile_of(msgspec.structs.replace(info(other_bytes=None, graphs_bytes=None), max_model_len=0), None, 7.0)
    assert profile is not None

    assert profile.other_bytes == memory.OTHER_BYTES
    assert (profile.graphs_bytes, profile.max_model_len, profile.peak_bytes) == (None, None, None)


def test_a_record_knows_its_arguments() -> None:
    """Those of its key; and loads by two versions of vLLM are two."""
    assert record().engine_args == {"max_num_seqs": 256, "tensor_parallel_size": 2}
    assert record().id != record(version="0.32.0").id
    assert record().id == record("another/name", load_count=2).id
