from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from vllmd.installation.trust import changeable, unreachable


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    """A directory that everybody can come to, with a program in it."""
    directory = pathlib.Path(tempfile.mkdtemp(dir="/var/tmp"))
    directory.chmod(0o755)
    (directory / "bin").mkdir(mode=0o755)
    (directory / "bin" / "python").write_text("")
    (directory / "bin" / "python").chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_what_everybody_can_run_is_in_reach(place: pathlib.Path) -> None:
    """Also behind a link."""
    (place / "link").symlink_to("bin/python")

    assert unreachable(place / "bin" / "python") == unreachable(place / "link") == ""


def test_a_closed_directory_on_the_way_is_named(place: pathlib.Path) -> None:
    """Whether it is on the way to a link, or to what that points to."""
    outside = pathlib.Path(tempfile.mkdtemp(dir="/var/tmp"))
    (outside / "link").symlink_to(place / "bin" / "python")
    (place / "bin").chmod(0o700)
    try:
        assert unreachable(outside / "link") == f"{place}/bin is closed to others (mode 700)"
        (place / "bin").chmod(0o755)
        assert unreachable(outside / "link") == f"{outside} is closed to others (mode 700)"
    finally:
        shutil.rmtree(outside)


def test_a_program_that_is_closed_or_not_there_is_named(place: pathlib.Path) -> None:
    """With the reason."""
    (place / "bin" / "python").chmod(0o700)

    assert "can't be read by others (mode 700)" in unreachable(place / "bin" / "python")
    assert "No such file" in unreachable(place / "bin" / "pythonn")


def test_the_systems_own_programs_are_roots_alone() -> None:
    """As those of a host's service have to be."""
    assert changeable(pathlib.Path("/usr/bin/env")) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to give a file to root, or to somebody else")
def test_what_others_could_change_is_named(place: pathlib.Path) -> None:
    """By its mode, or as it is theirs; a directory like /tmp is not among it."""
    program = place / "bin" / "python"
    assert changeable(program) == ""
    program.chmod(0o775)
    assert changeable(program) == f"{program} can be written by others (mode 775)"
    program.chmod(0o755)
    (place / "bin").chmod(0o777)
    assert changeable(program) == f"{place}/bin can be written by others (mode 777)"
    (place / "bin").chmod(0o1777)
    assert changeable(program) == ""
    os.chown(program, 1234, 0)
    assert changeable(program) == f"{program} belongs to uid 1234"


def test_all_that_is_in_a_directory_counts(place: pathlib.Path) -> None:
    """One module that is closed, or open to all, is enough; a link to what is not there is not."""
    (place / "beside").symlink_to("/no/such/place")
    assert unreachable(place) == ""
    (place / "bin" / "python").chmod(0o700)
    assert "bin/python can't be read by others" in unreachable(place)
    (place / "bin" / "python").chmod(0o757)
    assert changeable(place).startswith(str(place))
