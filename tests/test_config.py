from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pydantic
import pytest

from vllmd.config import Settings, default_cache_dir, default_runtime_dir, default_state_dir

NEEDED: dict[str, Any] = {
    "socket": Path("/r/s"),
    "runtime_dir": Path("/r"),
    "cache_dir": Path("/c"),
    "state_dir": Path("/s"),
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RUNTIME_DIRECTORY": "/run/vllmd", "XDG_RUNTIME_DIR": "/run/user/7"}, "/run/vllmd"),
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b"}, "/run/a"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/vllmd"),
        ({}, "/run/vllmd" if os.geteuid() == 0 else f"/tmp/vllmd-{os.geteuid()}"),
    ],
)
def test_where_sockets_go(environment: dict[str, str], expected: str) -> None:
    """systemd's word counts first, then the user's session, then what the host has."""
    assert default_runtime_dir(environment) == Path(expected)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CACHE_DIRECTORY": "/var/cache/vllmd:/x", "XDG_CACHE_HOME": "/y"}, "/var/cache/vllmd"),
        ({"XDG_CACHE_HOME": "/y"}, "/y/vllmd"),
        ({}, str(Path.home() / ".cache" / "vllmd")),
    ],
)
def test_where_compiled_kernels_go(environment: dict[str, str], expected: str) -> None:
    """They outlast the engines, so they are not among the sockets."""
    assert default_cache_dir(environment) == Path(expected)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/vllmd:/x", "XDG_STATE_HOME": "/y"}, "/var/lib/vllmd"),
        ({"XDG_STATE_HOME": "/y"}, "/y/vllmd"),
        ({}, "/var/lib/vllmd" if os.geteuid() == 0 else str(Path.home() / ".local/state/vllmd")),
    ],
)
def test_where_the_journal_goes(environment: dict[str, str], expected: str) -> None:
    """The next daemon looks there, under whatever name its sockets are."""
    assert default_state_dir(environment) == Path(expected)


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
