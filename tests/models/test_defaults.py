from __future__ import annotations

from vllmd.models.defaults import BY_MODEL_TYPE
from vllmd.models.facts import read


def test_a_file_with_nothing_but_its_type_is_a_whole_model() -> None:
    """Gemma 3's smallest configuration that loads."""
    facts = read({"model_type": "gemma3_text"})

    assert (facts.layers, facts.kv_heads, facts.head_dim) == (26, 4, 256)
    assert facts.parameters is not None


def test_defaults_are_by_the_names_that_configurations_use() -> None:
    """Another name would never be read."""
    assert all(name.islower() for defaults in BY_MODEL_TYPE.values() for name in defaults)
