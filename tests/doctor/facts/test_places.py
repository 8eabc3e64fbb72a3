from __future__ import annotations

from pathlib import Path

import pytest

from vllmd.config import Settings
from vllmd.daemon.build import engines_root
from vllmd.doctor.facts import places


def settings(directory: Path) -> Settings:
    """Everything below one directory."""
    return Settings(socket=directory / "s", runtime_dir=directory, state_dir=directory, cache_dir=directory)


def test_a_directory_that_is_there(tmp_path: Path) -> None:
    """Its mode and owner, and the room of its file system."""
    tmp_path.chmod(0o750)
    found = places.place("state_dir", tmp_path, little_bytes=1)

    assert (found.exists, found.writable, found.mode, found.ours) == (True, True, 0o750, True)
    assert found.free_bytes is not None
    assert 0 < found.free_bytes <= (found.total_bytes or 0)


def test_one_that_is_to_be_made(tmp_path: Path) -> None:
    """The nearest above it decides, and it has no mode of its own yet."""
    found = places.place("state_dir", tmp_path / "a/b", little_bytes=1)

    assert (found.exists, found.writable, found.mode, found.ours) == (False, True, None, None)


def test_one_below_a_file(tmp_path: Path) -> None:
    """Nothing can be made there."""
    (tmp_path / "a").touch()

    assert places.place("state_dir", tmp_path / "a/b", little_bytes=1).writable is False


def test_the_daemons_directories_and_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is where huggingface_hub would look; nobody minds who else may write to it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    found = {place.what: place for place in places.look(settings(tmp_path))}

    assert list(found) == ["runtime_dir", "state_dir", "cache_dir", "hub cache"]
    assert found["hub cache"].path == str(tmp_path / "hub")
    assert [place.private for place in found.values()] == [True, True, True, False]


def test_a_runtime_directory_that_is_too_deep(tmp_path: Path) -> None:
    """Sockets in it would have too long a path, as the daemon would say when it starts."""
    found = places.look(settings(tmp_path / ("x" * 80)))[0]

    assert "bytes too long" in found.problem


def test_engines_are_where_the_daemon_has_them(tmp_path: Path) -> None:
    """Two rooms that may not import each other mean the same directory."""
    assert engines_root(settings(tmp_path)) == settings(tmp_path).runtime_dir / places.ENGINES
