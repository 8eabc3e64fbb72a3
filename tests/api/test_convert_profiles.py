from __future__ import annotations

from tests.fakes.profiles import GIB, key, record
from vllmd.api import convert, convert_profiles


def test_a_profile_has_all_that_is_known() -> None:
    """And its arguments as they were."""
    found = convert_profiles.profile(record(load_count=3))

    assert (found.model, found.fingerprint, found.product) == ("org/model", "f1", "NVIDIA H100 80GB HBM3")
    assert dict(found.engine_args) == {"max_num_seqs": 256, "tensor_parallel_size": 2}
    assert (found.vllm_version, found.max_model_len, found.load_count) == ("0.25.1", 8192, 3)
    assert (found.kv_cache_tokens, found.peak_bytes) == (327_680, 59 * GIB)
    assert found.record_time == convert.timestamp(1_790_000_000.5)
    memory = found.memory
    assert (memory.weights_bytes, memory.activation_bytes, memory.other_bytes) == (15 * GIB, 2 * GIB, GIB)
    assert (memory.kv_cache_bytes, memory.graphs_bytes) == (40 * GIB, GIB // 2)
    assert not memory.total_bytes


def test_what_is_not_known_is_unset() -> None:
    """Where there is a word for that."""
    sparse = record(
        key=key(settings="{}"),
        graphs_bytes=None,
        kv_cache_bytes=None,
        kv_cache_tokens=None,
        max_model_len=None,
        peak_bytes=None,
    )
    found = convert_profiles.profile(sparse)

    assert not found.HasField("kv_cache_tokens")
    assert not found.HasField("peak_bytes")
    assert (found.max_model_len, found.memory.graphs_bytes, found.memory.kv_cache_bytes) == (0, 0, 0)


def test_secrets_are_hidden() -> None:
    """Every user may list profiles."""
    found = convert_profiles.profile(record(key=key(settings='{"hf_token": "hf_x", "max_num_seqs": 8}')))

    assert dict(found.engine_args) == {"hf_token": "(hidden)", "max_num_seqs": 8}
