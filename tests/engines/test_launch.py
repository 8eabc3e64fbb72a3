from __future__ import annotations

import dataclasses
import os
import pathlib

import pytest

from tests.engines.conftest import MakeGround
from tests.fakes.fake_gpus import gpu
from tests.fakes.processes import eventually, processes_of
from vllmd.engines.containment import Containment
from vllmd.engines.launch import launch
from vllmd.planner.choice import Choice
from vllmd.planner.planning import Plan
from vllmd.worker.lifeline import Ownership
from vllmd.worker.processes import boot_id
from vllmd.worker.spec import OWNER_LOCK, read_spec

PLAN = Plan((Choice("fake_hang_phase", "importing", "client", ""), Choice("max_model_len", 9, "auto", "")), ())


def test_plan_becomes_a_process_in_a_directory_that_we_own(
    engine_id: str, containment: Containment, make_ground: MakeGround
) -> None:
    """The worker is told all of the plan, by file, and is contained as the ground says."""
    owned, process = launch(engine_id, "org/model", PLAN, (), make_ground(adoption_timeout=33.0))
    spec = read_spec(owned.path)
    argv = pathlib.Path(f"/proc/{process.pid}/cmdline").read_text()
    owner = Ownership(owned.path / OWNER_LOCK).unowned_seconds(0.0)
    process.tree.kill(5.0)
    process.how_it_ended()
    owned.disown()

    assert (spec.engine_id, spec.backend, spec.model) == (engine_id, "fake", "org/model")
    assert spec.engine_args == {"fake_hang_phase": "importing", "max_model_len": 9}
    assert (spec.adoption_timeout, spec.boot_id, spec.vllmd_version) == (33.0, boot_id(), "0")
    assert process.tree.cgroup == containment.path(engine_id)
    assert spec.cgroup == (str(process.tree.cgroup) if process.tree.cgroup else None)
    assert "max_model_len" not in argv
    assert owner == 0.0


def test_engine_sees_the_gpus_of_its_plan(engine_id: str, containment: Containment, make_ground: MakeGround) -> None:
    """And no others."""
    plan = dataclasses.replace(PLAN, gpus=(gpu(1, uuid="GPU-b"), gpu(0, uuid="GPU-a")))
    owned, process = launch(engine_id, "m", plan, (), make_ground())
    environ = pathlib.Path(f"/proc/{process.pid}/environ")
    assert eventually(environ.read_bytes)  # empty for an instant after the exec
    environment = environ.read_bytes().split(b"\0")
    process.tree.kill(5.0)
    process.how_it_ended()
    owned.disown()

    assert b"CUDA_VISIBLE_DEVICES=GPU-b,GPU-a" in environment


@pytest.mark.parametrize("wrong", ["python", "root"])
def test_launch_that_fails_leaves_nobody_answering(
    engine_id: str, containment: Containment, make_ground: MakeGround, wrong: str
) -> None:
    """What was made stays for the reclaim, unlocked and without a process."""
    ground = make_ground(**{wrong: pathlib.Path("/no/such/thing")})
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(FileNotFoundError):
        launch(engine_id, "m", PLAN, (), ground)
    assert len(os.listdir("/proc/self/fd")) == before
    assert processes_of(engine_id) == []
