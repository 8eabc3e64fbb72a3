from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.configuration import files


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"VLLMD_CONFIG": "/x/y.toml", "CONFIGURATION_DIRECTORY": "/etc/a"}, "/x/y.toml"),
        ({"CONFIGURATION_DIRECTORY": "/etc/a:/etc/b", "XDG_CONFIG_HOME": "/z"}, "/etc/a/vllmd.toml"),
        ({"XDG_CONFIG_HOME": "/z"}, "/etc/vllmd/vllmd.toml" if os.geteuid() == 0 else "/z/vllmd/vllmd.toml"),
        ({}, "/etc/vllmd/vllmd.toml" if os.geteuid() == 0 else str(Path.home() / ".config/vllmd/vllmd.toml")),
    ],
)
def test_where_the_configuration_is(environment: dict[str, str], expected: str) -> None:
    """Where somebody says, then where systemd does, then where the host or the user keeps such things."""
    assert files.place(environment) == Path(expected)


def test_drop_ins_come_after_the_file_by_their_names(tmp_path: Path) -> None:
    """Only those that are called so; what editors leave is none."""
    path = tmp_path / "vllmd.toml"
    beside = tmp_path / "vllmd.toml.d"
    beside.mkdir()
    path.write_text("lease_ttl = 1\n")
    for name in ("20-b.toml", "10-a.toml", "10-a.toml.bak", ".10-a.toml", "README"):
        (beside / name).write_text("lease_ttl = 2\n")
    where = [layer.given["lease_ttl"].where for layer in files.layers(path, named=True)]

    assert where == [f"{path}:1", f"{beside}/10-a.toml:1", f"{beside}/20-b.toml:1"]


def test_drop_ins_that_others_can_put_there_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They could name an interpreter of their own; beside a file in `/tmp` anybody can make the directory."""
    path, beside = tmp_path / "vllmd.toml", tmp_path / "vllmd.toml.d"
    beside.mkdir()
    path.write_text("")
    (beside / "a.toml").write_text("lease_ttl = 2\n")
    beside.chmod(0o1777)
    open_to_all = files.layers(path, named=True)[-1]
    beside.chmod(0o755)
    own = beside.lstat().st_uid
    monkeypatch.setattr(files, "_owner", lambda path: ())
    mine = files.layers(path, named=True)[-1]
    true = Path.lstat

    def of_another(self: Path) -> os.stat_result:  # only root can give a directory away
        values = list(true(self))
        values[stat.ST_UID] = own + 4711
        return os.stat_result(values)

    monkeypatch.setattr(Path, "lstat", of_another)
    of_others = files.layers(path, named=True)[-1]
    monkeypatch.setattr(files, "_owner", lambda path: (own + 4711,))
    of_owner = files.layers(path, named=True)[-1]

    assert "can be written by everybody (mode 1777)" in str(open_to_all.problems[0])
    assert f"{beside}: belongs to uid {own + 4711}" in str(of_others.problems[0])
    assert [bool(layer.given) for layer in (open_to_all, mine, of_others, of_owner)] == [False, True, False, True]


def test_no_file_is_no_problem_unless_somebody_named_it(tmp_path: Path) -> None:
    """Everything has a default; who names a file means one that is there."""
    nowhere = tmp_path / "vllmd.toml"
    (named,) = files.layers(nowhere, named=True)

    assert files.layers(nowhere, named=False) == []
    assert [str(problem) for problem in named.problems] == [f"{nowhere}: can't be read: No such file or directory"]


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    """A link to nowhere, a directory, a pipe that nobody writes to, and far too much."""
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "much").write_bytes(b"\n" * (1 << 20) + b"\n")
    told = {
        path.name: str(files.layers(path, named=False)[0].problems[0]).removeprefix(f"{path}: ")
        for path in tmp_path.iterdir()
    }

    assert told == {
        "link": "can't be read: No such file or directory",
        "directory": "can't be read: Is a directory",
        "pipe": "is no file",
        "much": "has 1048577 bytes, and a configuration at most 1048576",
    }


def test_a_file_that_everybody_can_write_to_is_not_read(tmp_path: Path) -> None:
    """It names the program that engines run under."""
    path = tmp_path / "vllmd.toml"
    path.write_text("lease_ttl = 1\n")
    path.chmod(0o666)
    layer = files.read(path)

    assert layer.given == {}
    assert str(layer.problems[0]) == f"{path}: can be written by everybody (mode 666), so it is not read"


def test_an_engine_argument_is_where_it_stands(tmp_path: Path) -> None:
    """However it is written; what stands in one line is on it."""
    path = tmp_path / "vllmd.toml"
    path.write_text("\nengine_args.seed = 1\n")
    dotted = files.read(path).given["engine_args.seed"].where
    path.write_text("[engine_args]\n\nseed = 1\n")
    table = files.read(path).given["engine_args.seed"].where
    path.write_text("engine_args = { seed = 1 }\n")
    inline = files.read(path).given["engine_args.seed"].where

    assert (dotted, table, inline) == (f"{path}:2", f"{path}:3", f"{path}:1")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "seed = 1\nengine_args.seed = " + "[" * 5000,
            "/x:2: engine_args.seed: is not TOML: too many brackets in each other",
        ),
        ("\nlease_ttl = " + "9" * 5000, "/x:2: lease_ttl: "),
    ],
)
def test_what_python_can_not_take_is_told(text: str, told: str) -> None:
    """Neither is an error of TOML's, but of whoever wrote it."""
    (problem,) = files.parse(Path("/x"), text).problems

    assert str(problem).startswith(told)


WORDS = [
    "idle_timeout",
    "engine_args",
    "seed",
    "socket",
    "=",
    "[",
    "]",
    "{",
    "}",
    '"',
    "'",
    '"""',
    ",",
    ".",
    "#",
    "5",
    "\n",
]


@given(st.lists(st.sampled_from(WORDS), max_size=30).map("".join))
def test_any_text_is_read_or_told_with_its_place(text: str) -> None:
    """Whatever it is, the daemon goes on."""
    layer = files.parse(Path("/x"), text)
    last = text.count("\n") + 1

    assert all(1 <= int(problem.where.removeprefix("/x:")) <= last for problem in layer.problems)
    assert all(1 <= int(given.where.removeprefix("/x:")) <= last for given in layer.given.values())
