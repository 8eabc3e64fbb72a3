from __future__ import annotations

import os
from pathlib import Path

import pytest

from vllmd.configuration.places import default_cache_dir, default_runtime_dir, default_state_dir


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
