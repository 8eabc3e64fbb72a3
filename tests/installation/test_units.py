from __future__ import annotations

import pathlib

import pytest

from vllmd.installation import units

WRITTEN = pathlib.Path(__file__).parents[2] / "systemd"


@pytest.mark.parametrize("name", [units.HOST, units.USER])
def test_a_unit_runs_the_programs_of_its_environment(name: str) -> None:
    """All of them, and nothing else of it is changed."""
    before = (WRITTEN / name).read_text().splitlines()
    after = units.unit(name, pathlib.Path("/srv/env-3.12/bin")).splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]

    assert [line.partition("=")[0] for line in changed] == ["ExecStart", "ExecStopPost"]
    assert all("=/srv/env-3.12/bin/" in line for line in changed)
    assert not [line for line in after if line.startswith("Exec") and ("/opt/vllmd" in line or "%h" in line)]


def test_in_its_usual_place_a_unit_is_as_it_is_written() -> None:
    """That of the README."""
    assert units.unit(units.HOST, pathlib.Path("/opt/vllmd/bin")) == (WRITTEN / units.HOST).read_text()


@pytest.mark.parametrize(
    "path", ["/opt/my env/bin", "/opt/100%/bin", "/opt/$x/bin", "relative/bin", '/opt/"/bin', "/a\n/b"]
)
def test_a_path_that_systemd_would_read_otherwise_is_refused(path: str) -> None:
    """Rather than written down as something that runs another program."""
    with pytest.raises(ValueError, match="mean something to systemd"):
        units.unit(units.HOST, pathlib.Path(path))
