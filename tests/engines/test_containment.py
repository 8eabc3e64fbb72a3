from __future__ import annotations

import logging
import os
import pathlib
import secrets
import subprocess
import sys

import pytest

from tests.fakes.processes import Family
from vllmd.engines.containment import Containment, enter_leaf, group_name, open_containment, own_cgroup
from vllmd.errors import NotPossible
from vllmd.worker.cgroup import remove as remove_cgroup

HYBRID = """\
24 30 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 24 0:24 / {v2} rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate
27 24 0:25 / /sys/fs/cgroup/freezer rw,nosuid shared:6 master:1 - cgroup cgroup rw,freezer
"""

ORPHAN = """
import os, sys
from vllmd.engines.containment import become_subreaper
if sys.argv[1] == "reaper": become_subreaper()
told, tell = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.close(tell)
        os.read(told, 1)  # until the first process has ended
    os._exit(0)
os.wait()
children = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
print(len(children))
"""


def test_each_engine_has_a_cgroup_of_its_own(cgroups: Containment) -> None:
    """It is made once and can be named before that."""
    cgroup = cgroups.path("e-1")
    assert cgroup is not None
    before = cgroup.exists()

    assert not before
    assert cgroups.make("e-1") == cgroup
    assert cgroups.make("e-1") == cgroup
    assert (cgroup / "cgroup.procs").read_text() == ""
    assert cgroups.path("e-2") != cgroup
    assert cgroups.kind == "cgroup"


def test_process_that_joins_takes_its_children_along(cgroups: Containment) -> None:
    """Nothing leaves by forking."""
    cgroup = cgroups.make("e-1")
    with Family("escaping", cgroup=cgroup) as family:
        assert cgroup is not None
        inside = {int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()}

        assert inside == {member.pid for member in family.members}


def test_group_of_all_engines_is_removed_once_it_is_empty(cgroups: Containment) -> None:
    """A daemon leaves no trace, unless an engine of it is still there."""
    cgroup = cgroups.make("e-1")
    assert cgroup is not None
    cgroups.close()
    kept = cgroup.exists()
    remove_cgroup(cgroup)
    cgroups.close()

    assert kept
    assert not cgroup.parent.exists()


def test_group_that_a_dying_tree_took_away_is_made_again(cgroups: Containment) -> None:
    """A tree whose daemon died removes it behind itself, and the next daemon may be there already."""
    cgroup = cgroups.path("e-1")
    assert cgroup is not None
    cgroup.parent.rmdir()

    assert cgroups.make("e-1") == cgroup
    assert cgroup.is_dir()


def test_without_cgroups_there_is_nothing_to_make() -> None:
    """An engine is held together by its session and its marker then."""
    containment = Containment(None)
    containment.close()

    assert containment.make("e-1") is None
    assert containment.path("e-1") is None
    assert containment.kind == "session"


def test_what_was_asked_for_is_what_one_gets(cgroups: Containment) -> None:
    """Sessions can be chosen where cgroups would work, and `auto` takes cgroups."""
    del cgroups  # is skipped where there are none
    name = f"vd-{secrets.token_hex(4)}"
    chosen, found = open_containment(name, "session"), open_containment(name)
    found.close()

    assert (chosen.kind, found.kind) == ("session", "cgroup")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else, which root may")
def test_who_may_not_make_cgroups_gets_sessions() -> None:
    """Unless only cgroups will do: then it is an error that says so."""
    program = (
        "import os; from vllmd.engines.containment import group_name, open_containment\n"
        "from vllmd.errors import NotPossible\n"
        "os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "print(open_containment('vd-none').kind)\n"
        "try: open_containment('vd-none', 'cgroup')\n"
        "except NotPossible as error: print(error.reason)"
    )
    output = subprocess.check_output([sys.executable, "-c", program], text=True)

    assert output.split() == ["session", "NO_CGROUPS"]


@pytest.mark.parametrize(("own", "below"), [("0::/", ""), ("9:name=systemd:/x\n0::/a/b.service", "a/b.service")])
def test_own_cgroup_is_found_wherever_it_is_mounted(tmp_path: pathlib.Path, own: str, below: str) -> None:
    """On hybrid hosts cgroup v2 is beside the old ones."""
    mount = tmp_path / "unified"
    (mount / below).mkdir(parents=True)
    (tmp_path / "cgroup").write_text(own + "\n")
    (tmp_path / "mountinfo").write_text(HYBRID.format(v2=mount))

    assert own_cgroup(tmp_path) == mount / below


@pytest.mark.parametrize(
    ("own", "mounts"),
    [("4:memory:/x\n", HYBRID), ("0::/a\n", ""), ("0::/not/visible/from/here\n", HYBRID)],
    ids=["only v1", "not mounted", "outside of what is mounted"],
)
def test_host_without_a_usable_cgroup_has_none(tmp_path: pathlib.Path, own: str, mounts: str) -> None:
    """As in most containers."""
    (tmp_path / "cgroup").write_text(own)
    (tmp_path / "mountinfo").write_text(mounts.format(v2=tmp_path))

    assert own_cgroup(tmp_path) is None


@pytest.mark.parametrize(("role", "children"), [("reaper", "1"), ("nobody", "0")])
def test_orphans_come_to_the_subreaper(role: str, children: str) -> None:
    """Where they become its children, it can collect them."""
    output = subprocess.check_output([sys.executable, "-c", ORPHAN, role], text=True)

    assert output.strip() == children


def test_the_group_of_a_directory_keeps_its_name() -> None:
    """The next daemon finds the cgroups of this one; another directory has others."""
    assert group_name(pathlib.Path("/run/vllmd")) == "vllmd-96691bec"
    assert group_name(pathlib.Path("/run/vllmd2")) != group_name(pathlib.Path("/run/vllmd"))


def test_an_engines_main_memory_is_limited(tmp_path: pathlib.Path) -> None:
    """The files are the kernel's where it has the controller; here they show what is asked of it."""
    cgroup = Containment(tmp_path, memory_max=64 << 30).make("e-1")
    assert cgroup is not None

    assert (cgroup / "memory.max").read_text() == str(64 << 30)
    assert (cgroup / "memory.oom.group").read_text() == "1"


def test_a_limit_that_can_not_be_kept_is_refused() -> None:
    """Rather than promised: without cgroups there is nothing that would hold an engine to it."""
    with pytest.raises(NotPossible) as refused:
        open_containment("vllmd-test-limit", "session", memory_max=1 << 30)

    assert refused.value.reason == "NO_MEMORY_CONTROLLER"


LEAVE = """
import os, pathlib, sys
from vllmd.engines.containment import enter_leaf, group_name, open_containment, own_cgroup
before = own_cgroup()
mine = before / sys.argv[1]
mine.mkdir()
(mine / "cgroup.procs").write_text("0")
environment = {"SYSTEMD_EXEC_PID": str(os.getpid() if sys.argv[2] == "service" else 1)}
enter_leaf(environment)
enter_leaf(environment)
containment = open_containment("vllmd-1", "cgroup")
print(own_cgroup().relative_to(mine), containment.base.relative_to(mine))
containment.close()
(before / "cgroup.procs").write_text("0")
for left in (mine / "vllmd-daemon", mine):
    if left.is_dir():
        left.rmdir()
"""


@pytest.mark.parametrize(("started", "where"), [("service", "vllmd-daemon vllmd-1"), ("by a service", ". vllmd-1")])
def test_a_service_moves_into_a_leaf_beside_its_engines(cgroups: Containment, started: str, where: str) -> None:
    """Once, however often it executes its program; who was not started by systemd shares its cgroup with others."""
    del cgroups  # is skipped where there are none
    name = f"vllmd-test-{secrets.token_hex(4)}"
    output = subprocess.check_output([sys.executable, "-c", LEAVE, name, started], text=True)

    assert output.strip() == where


def test_a_unit_that_may_not_be_divided_is_left_as_it_is(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without `Delegate=` engines are held together by their sessions."""
    caplog.set_level(logging.INFO)
    (tmp_path / "file").touch()
    enter_leaf({"SYSTEMD_EXEC_PID": str(os.getpid())}, tmp_path / "file")

    assert "is not ours to divide" in caplog.text
