"""What lies in the directory of engines and is none, and what an engine's directory says that can't be so."""

from __future__ import annotations

import os
import pathlib
import secrets
from collections.abc import Iterator

import pytest

from tests.fakes.predecessors import ended
from tests.fakes.processes import Family, eventually, lives
from vllmd.engines import directory
from vllmd.engines.containment import Containment
from vllmd.gpu.monitor import GpuMonitor
from vllmd.worker.cgroup import remove as remove_cgroup
from vllmd.worker.processes import boot_id
from vllmd.worker.spec import OWNER_LOCK, PROGRESS, SPEC, Progress, Spec, append_progress

NOBODY = 65534
GARBAGE = (
    b"\0\0\0\0\n",
    b'{"event": "started", "pid": 1, "start_ti\n',
    b'{"event": "started", "pid": "1"}\n',
    b'{"event": "failed", "pid": 1, "errors": ["\xff"]}\n',
    b'{"engine_id": "\xff", "event": "started"}\n',
    b'{"x": ' + b"[" * 50_000 + b"\n",
)
"""Lines that a disk, full or broken, may make of a progress."""


def everything_in(path: pathlib.Path) -> list[str]:
    """Names of all that is in a directory."""
    return sorted(str(found) for found in path.rglob("*"))


def spec_of(engine_id: str, cgroup: pathlib.Path | None = None, boot: str = "") -> Spec:
    """The spec of a fake engine of this boot."""
    return Spec(engine_id, "fake", "m", {}, str(cgroup) if cgroup else None, 60.0, "0", boot or boot_id())


@pytest.fixture
def foreign(cgroups: Containment, engine_id: str) -> Iterator[pathlib.Path]:
    """A cgroup of the right name in a group that is not ours."""
    ours = cgroups.path(engine_id)
    assert ours is not None
    group = ours.parent.with_name(f"strangers-{secrets.token_hex(4)}")
    cgroup = group / ours.name
    cgroup.mkdir(parents=True)
    yield cgroup
    assert eventually(lambda: remove_cgroup(cgroup))
    assert remove_cgroup(group)


@pytest.mark.parametrize("name", ["Backup", "e_1", "e.1", ".hidden", "e" * 25, "e-1\n"])
async def test_directory_whose_name_no_engine_has_is_left_alone(
    root: pathlib.Path, monitor: GpuMonitor, name: str
) -> None:
    """An operator's copy of an engine's directory, say, has all that an engine's has."""
    directory.create(root, spec_of("e-1")).disown()
    (root / "e-1").rename(root / name)
    before = everything_in(root)

    assert await ended(root, monitor) == []
    assert everything_in(root) == before


@pytest.mark.parametrize("stranger", ["notes.txt", ".git", "home"])
async def test_directory_with_anything_else_in_it_is_left_alone(
    root: pathlib.Path, monitor: GpuMonitor, stranger: str
) -> None:
    """No daemon has put that there, so none may remove it."""
    directory.create(root, spec_of("e-1")).disown()
    (root / "e-1" / stranger).touch()
    before = everything_in(root)

    assert await ended(root, monitor) == []
    assert everything_in(root) == before


async def test_link_to_a_directory_is_left_alone(
    root: pathlib.Path, monitor: GpuMonitor, tmp_path: pathlib.Path
) -> None:
    """Neither the link nor what it leads to is the daemon's to remove, even if that looks like an engine's."""
    directory.create(tmp_path, spec_of("e-1")).disown()
    (root / "e-1").symlink_to(tmp_path / "e-1")
    before = everything_in(root), everything_in(tmp_path)

    assert await ended(root, monitor) == []
    assert (everything_in(root), everything_in(tmp_path)) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
async def test_directory_of_another_user_is_left_alone(root: pathlib.Path, monitor: GpuMonitor) -> None:
    """What it says is another user's word; a root daemon that heeded it would kill for anybody."""
    directory.create(root, spec_of("e-1")).disown()
    os.chown(root / "e-1", NOBODY, -1)
    before = everything_in(root)

    assert await ended(root, monitor) == []
    assert everything_in(root) == before


async def test_cgroup_in_a_group_that_is_not_ours_is_left_alone(
    root: pathlib.Path, engine_id: str, monitor: GpuMonitor, foreign: pathlib.Path
) -> None:
    """Everybody in it would be killed, so a path in a file is not enough to go by."""
    directory.create(root, spec_of(engine_id, foreign)).disown()
    with Family("calm", cgroup=foreign) as strangers:
        (report,) = await ended(root, monitor)
        alive = [lives(member) for member in strangers.members]

    assert (report.verified, report.killed) == (True, 0)
    assert alive == [True, True]
    assert foreign.is_dir()
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("way", ["direct", "around"])
async def test_cgroup_of_another_engine_is_left_alone(
    root: pathlib.Path, engine_id: str, monitor: GpuMonitor, cgroups: Containment, way: str
) -> None:
    """Its name has the engine's id, and the path to it has no detours that would make it look so."""
    other = cgroups.make("another")
    named = cgroups.path(engine_id)
    assert other is not None
    assert named is not None
    planted = other if way == "direct" else named.parent / ".." / named.parent.name / "engine-another"
    directory.create(root, spec_of(engine_id, planted)).disown()
    with Family("calm", cgroup=other) as strangers:
        (report,) = await ended(root, monitor)
        alive = [lives(member) for member in strangers.members]

    assert (report.verified, report.killed) == (True, 0)
    assert alive == [True, True]
    assert other.is_dir()


async def test_cgroup_that_a_detour_makes_look_like_the_engines_is_left_alone(
    root: pathlib.Path, engine_id: str, monitor: GpuMonitor, foreign: pathlib.Path
) -> None:
    """What counts is where a path leads, not what its last two names are."""
    detour = foreign.parent.parent / "vllmd-x" / ".." / foreign.parent.name / foreign.name
    directory.create(root, spec_of(engine_id, detour)).disown()
    with Family("calm", cgroup=foreign) as strangers:
        (report,) = await ended(root, monitor)
        alive = [lives(member) for member in strangers.members]

    assert report.killed == 0
    assert alive == [True, True]
    assert foreign.is_dir()


async def test_link_that_looks_like_the_engines_cgroup_is_not_followed(
    root: pathlib.Path, engine_id: str, monitor: GpuMonitor, foreign: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Names can be given to anything; the cgroup behind this one is a stranger's."""
    (tmp_path / "vllmd-x").symlink_to(foreign.parent)
    directory.create(root, spec_of(engine_id, tmp_path / "vllmd-x" / foreign.name)).disown()
    with Family("calm", cgroup=foreign) as strangers:
        (report,) = await ended(root, monitor)
        alive = [lives(member) for member in strangers.members]

    assert report.killed == 0
    assert alive == [True, True]
    assert foreign.is_dir()


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_in_the_progress_hides_nothing(
    root: pathlib.Path, engine_id: str, monitor: GpuMonitor, garbage: bytes
) -> None:
    """The lines around it still tell who the worker was, and the other engines are reclaimed as well."""
    directory.create(root, spec_of(engine_id)).disown()
    directory.create(root, spec_of("z-last")).disown()
    with Family("calm") as family:
        (root / engine_id / PROGRESS).write_bytes(garbage)
        append_progress(root / engine_id, Progress("started", family.leader.pid, family.leader.start_ticks))
        reports = await ended(root, monitor)
        alive = [lives(member) for member in family.members]

    assert [(report.verified, report.killed) for report in reports] == [(True, 2), (True, 0)]
    assert alive == [False, False]
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("file", [SPEC, PROGRESS])
@pytest.mark.parametrize("content", [*GARBAGE, None], ids=range(len(GARBAGE) + 1))
async def test_files_that_can_not_be_read_keep_no_engine(
    root: pathlib.Path, monitor: GpuMonitor, file: str, content: bytes | None
) -> None:
    """Neither what is in them nor a directory in their place stops the daemon from reclaiming all there is."""
    for name in ("a-1", "z-1"):
        directory.create(root, spec_of(name)).disown()
    path = root / "a-1" / file
    path.unlink(missing_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    reports = await ended(root, monitor)

    assert [report.verified for report in reports] == [True, True]
    assert list(root.iterdir()) == []


async def test_lock_that_can_not_be_opened_keeps_no_other_engine(root: pathlib.Path, monitor: GpuMonitor) -> None:
    """Who can't be owned is not ended, and is no reason to leave the others."""
    for name in ("a-1", "m-1", "z-1"):
        directory.create(root, spec_of(name)).disown()
    (root / "m-1" / OWNER_LOCK).unlink()
    (root / "m-1" / OWNER_LOCK).mkdir()
    reports = await ended(root, monitor)

    assert [report.verified for report in reports] == [True, True]
    assert [path.name for path in root.iterdir()] == ["m-1"]
