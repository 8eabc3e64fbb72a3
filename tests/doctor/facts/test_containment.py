from __future__ import annotations

from pathlib import Path

from vllmd.config import Settings
from vllmd.doctor.facts import containment
from vllmd.engines.containment import own_cgroup


def test_a_trial_leaves_nothing(tmp_path: Path) -> None:
    """Whether or not one could be made here, it is gone, and what is said fits together."""
    settings = Settings(socket=tmp_path, runtime_dir=tmp_path, state_dir=tmp_path, cache_dir=tmp_path)
    facts = containment.look(settings, "vllmd.service")
    own = own_cgroup()

    assert (facts.wanted, facts.unit) == ("auto", "vllmd.service")
    assert facts.own == (None if own is None else str(own))
    assert own is None or not list(own.glob("vllmd-doctor-*"))
    assert own is not None or not facts.made


def test_controllers_are_read(tmp_path: Path) -> None:
    """Those of a cgroup; where there is no such file they are unknown."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")

    assert containment.controllers(tmp_path) == frozenset({"cpu", "memory"})
    assert containment.controllers(tmp_path / "absent") is None
