from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.profiles import GIB, info, key, record
from vllmd.errors import Unavailable
from vllmd.profiles import file
from vllmd.profiles.store import NAME, Profiles


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / NAME


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged as errors so far."""
    return lambda: [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


class Installed:
    """The vLLM that is installed, and how often anybody asked."""

    def __init__(self, version: str | None) -> None:
        self.version = version
        self.asked = 0

    async def __call__(self) -> str | None:
        self.asked += 1
        return self.version


async def test_what_was_learnt_is_known_to_the_next_daemon(path: Path) -> None:
    """By its key; the last figures count, and how many loads there were."""
    first = Profiles(path, clock=lambda: 7.0)
    await first.open()
    assert first.learn("org/model", key(), info(weights_bytes=GIB), None)
    assert first.learn("org/model", key(), info(), 59 * GIB)
    await first.flush()
    second = Profiles(path)
    await second.open()

    assert second.all() == first.all() == [record(load_count=2, recorded=7.0)]
    assert second.lookup(key()) == record(recorded=7.0).profile
    assert second.lookup(key("f2")) is None


async def test_what_is_not_to_be_learnt_is_not(path: Path) -> None:
    """Without a key, without a fingerprint of the model, or from an engine that says too little."""
    profiles = Profiles(path)
    assert not profiles.learn("m", None, info(), None)
    assert not profiles.learn("m", key(""), info(), None)
    assert not profiles.learn("m", key(), info(weights_bytes=None), None)
    await profiles.flush()

    assert profiles.all() == []
    assert not path.exists()


async def test_the_installed_vllm_decides_which_profile_counts() -> None:
    """It is asked for once, when there is something to look up, and again after an engine told of another."""
    installed = Installed("0.25.1")
    profiles = Profiles(installed=installed)
    await profiles.prepare()
    assert installed.asked == 0
    profiles.learn("m", key(), info("0.25.1", 1 * GIB), None)
    profiles.learn("m", key(), info("0.32.0", 2 * GIB), None)
    for _ in range(3):
        await profiles.prepare()
    old = profiles.lookup(key())
    installed.version = "0.32.0"
    await profiles.prepare()
    assert installed.asked == 1
    profiles.learn("m", key(), info("0.32.0", 3 * GIB), None)
    await profiles.prepare()
    new = profiles.lookup(key())

    assert (old and old.weights_bytes, new and new.weights_bytes) == (1 * GIB, 3 * GIB)
    assert installed.asked == 2


async def test_where_it_is_not_known_the_newest_profile_counts() -> None:
    """A load by another version takes about as much."""
    profiles = Profiles(installed=Installed(None))
    profiles.learn("m", key(), info("0.32.0", 2 * GIB), None)
    profiles.learn("m", key(), info("0.25.1", 1 * GIB), None)
    await profiles.prepare()
    found = profiles.lookup(key())

    assert found is not None
    assert found.weights_bytes == GIB


async def test_who_does_not_answer_is_not_asked_at_each_plan() -> None:
    """It takes seconds to find that out; engines that tell of another version are a reason to try again."""
    installed = Installed(None)
    profiles = Profiles(installed=installed)
    for version in ("0.25.1", "0.25.1", "0.32.0", "0.32.0"):
        profiles.learn("m", key(), info(version), None)
        await profiles.prepare()

    assert installed.asked == 2


async def test_only_so_many_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go, from the file too; one that is loaded again is not old."""
    monkeypatch.setattr(file, "MOST", 2)
    profiles = Profiles(path)
    for name in ("f1", "f2", "f1", "f3"):
        profiles.learn("m", key(name), info(), None)
    await profiles.flush()

    assert [one.key.fingerprint for one in profiles.all()] == ["f3", "f1"]
    assert {one.key.fingerprint for one in file.read(path)} == {"f1", "f3"}


async def test_one_model_is_forgotten_or_all(path: Path) -> None:
    """The file forgets with it; how many there were is told."""
    profiles = Profiles(path)
    for number, model in enumerate(("a", "b", "a")):
        profiles.learn(model, key(f"f{number}"), info(), None)
    assert [one.key.fingerprint for one in profiles.all("a")] == ["f2", "f0"]
    assert await profiles.forget("a") == 2
    assert [one.model for one in file.read(path)] == ["b"]
    assert await profiles.forget("a") == 0
    assert await profiles.forget() == 1

    assert file.read(path) == []


async def test_a_broken_file_is_moved_aside_and_told(path: Path, errors: Callable[[], list[str]]) -> None:
    """The next load is in a new one."""
    path.write_bytes(b"not a database " * 100)
    profiles = Profiles(path)
    await profiles.open()
    profiles.learn("m", key(), info(), None)
    await profiles.flush()

    assert len(errors()) == 1
    assert f"it is now {NAME}.broken" in errors()[0]
    assert file.read(path) == profiles.all()


async def test_a_file_that_breaks_later_is_written_anew(path: Path, errors: Callable[[], list[str]]) -> None:
    """With all that is known."""
    profiles = Profiles(path)
    profiles.learn("m", key(), info(), None)
    await profiles.flush()
    path.write_bytes(b"not a database " * 100)
    profiles.learn("m", key("f2"), info(), None)
    await profiles.flush()

    assert sorted(one.key.fingerprint for one in file.read(path)) == ["f1", "f2"]
    assert len(errors()) == 1


async def test_what_cannot_be_written_is_told_once_and_tried_again(path: Path, errors: Callable[[], list[str]]) -> None:
    """Plans know it all the same; who wants it forgotten is told that it may come back."""
    path.mkdir()
    profiles = Profiles(path)
    for name in ("f1", "f2"):
        profiles.learn("m", key(name), info(), None)
        await profiles.flush()
    told = errors()
    with pytest.raises(Unavailable, match="Forgotten until the daemon starts again"):
        await profiles.forget("m")
    profiles.learn("m", key("f3"), info(), None)
    path.rmdir()
    await profiles.flush()

    assert len(told) == 1
    assert "a later daemon will not know" in told[0]
    assert file.read(path) == profiles.all()
    assert await profiles.forget() == 1


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond a page, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_full_disk_costs_nothing_but_the_memory_of_it(path: Path, request: pytest.FixtureRequest) -> None:
    """What was there before is whole, and comes to be written once there is room."""
    profiles = Profiles(path)
    profiles.learn("m", key(), info(), None)
    await profiles.flush()
    request.getfixturevalue("full_disk")
    profiles.learn("m", key("f2"), info(), None)
    await profiles.flush()
    assert len(profiles.all()) == 2
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert [one.key.fingerprint for one in file.read(path)] == ["f1"]
    await profiles.flush()

    assert len(file.read(path)) == 2


async def test_a_later_vllmds_file_is_left_alone(path: Path, errors: Callable[[], list[str]]) -> None:
    """This daemon remembers by itself."""
    file.write(path, {record().id: record()})
    whole = path.read_bytes()
    before = whole[:60] + (2).to_bytes(4, "big") + whole[64:]  # where SQLite has `user_version`
    path.write_bytes(before)
    profiles = Profiles(path)
    await profiles.open()
    profiles.learn("m", key(), info(), None)
    await profiles.flush()

    assert "is neither read nor written" in errors()[0]
    assert path.read_bytes() == before
    assert len(profiles.all()) == 1
