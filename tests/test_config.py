from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest

from vllmd.config import Settings

NEEDED: dict[str, Any] = {
    "socket": Path("/r/s"),
    "runtime_dir": Path("/r"),
    "cache_dir": Path("/c"),
    "state_dir": Path("/s"),
}


def test_memory_is_given_back_at_once_by_default() -> None:
    """Out of the box nobody holds GPU memory that nobody has a lease on, and only we may connect."""
    settings = Settings(**NEEDED)

    assert settings.idle_timeout == 0.0
    assert settings.socket_mode == 0o600
    assert settings.listen is None
    assert settings.allowed_engine_args == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("idle_timeout", -1.0),
        ("lease_ttl", 0.0),
        ("lease_ttl", 86_401.0),
        ("load_timeout", 0.0),
        ("load_timeout", float("inf")),
        ("stop_grace", float("nan")),
        ("reclaim_timeout", -0.1),
        ("adoption_timeout", 0.0),
        ("socket_mode", 0o1777),
        ("socket_mode", -1),
        ("log_limit_bytes", 10),
        ("backend", "llama"),
        ("idle_timout", 3.0),
        ("simulate", "1xH100"),
    ],
)
def test_values_out_of_range_and_unknown_names_are_errors(name: str, value: Any) -> None:
    """A mistake in the configuration is said, not guessed around."""
    with pytest.raises(pydantic.ValidationError, match=name):
        Settings(**{**NEEDED, name: value})


def test_a_configuration_does_not_change() -> None:
    """What the daemon was told holds for its life."""
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Settings(**NEEDED).idle_timeout = 5.0
