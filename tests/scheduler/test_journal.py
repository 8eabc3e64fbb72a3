from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake_gpus import gpu
from vllmd.engines.diagnosis import Failure
from vllmd.gpu.inventory import GpuProcess
from vllmd.planner.choice import Choice
from vllmd.planner.planning import Plan
from vllmd.planner.profile import Key
from vllmd.scheduler import journal
from vllmd.scheduler.journal import Contents, EngineRecord, Journal, LeaseRecord, RestartRecord
from vllmd.tasks import spawn

BUSY = dataclasses.replace(gpu(), processes=(GpuProcess(7, None),), compute_capability=(9, 0), utilization=0.5)
PLAN = Plan((Choice("max_model_len", 8192, "client", "set by the client"),), (BUSY,), profile_key=Key("f", "H80", "{}"))
ENGINE = EngineRecord(
    id="e-1",
    model="org/model",
    revision="",
    engine_args={"max_model_len": 8192, "dtype": None, "nested": {"a": [1, 2.5]}},
    auto_config=True,
    plan=PLAN,
    created=1.5,
    spawned=2.0,
    ready=None,
    restarted=[3.0],
    use_case="debate",
    lora={"sql": "/a/sql"},
    restart=RestartRecord(
        due=9.0, failure=Failure("ENGINE_DIED", "It died.", ("a line",), (("a", "1"),)), reclaimed=True, counts=True
    ),
)
CONTENTS = Contents(
    boot_id="b", engines=[ENGINE], leases=[LeaseRecord(id="s", engine_id="e-1", ttl=None, expires=None)]
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """With every type as it was; nobody else may read it."""
    path = tmp_path / "journal.json"
    journal.write(path, dataclasses.replace(CONTENTS, engines=[]))
    journal.write(path, CONTENTS)

    assert journal.read(path, "b") == CONTENTS
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["journal.json"]


def test_an_engine_is_kept_for_what_it_was_made_for() -> None:
    """Or the next daemon would share it with whoever wants it for something else."""
    assert ENGINE.wish.use_case == "debate"
    assert ENGINE.wish.lora == {"sql": "/a/sql"}
    assert dataclasses.replace(ENGINE, use_case="").wish.use_case == ""


def test_a_journal_of_another_boot_means_nothing(tmp_path: Path) -> None:
    """Its engines are gone."""
    journal.write(tmp_path / "j", CONTENTS)

    assert journal.read(tmp_path / "j", "another") is None
    assert journal.read(tmp_path / "none", "b") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"version": 99, "boot_id": "b", "engines": [], "leases": []}']
)
def test_a_journal_that_makes_no_sense_is_told(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """The daemon starts all the same."""
    (tmp_path / "j").write_text(text)

    assert journal.read(tmp_path / "j", "b") is None
    assert "journal" in caplog.text


@pytest.mark.parametrize("old", [True, False])
def test_a_journal_of_another_release_is_read(tmp_path: Path, old: bool) -> None:
    """What it lacks has a default, and what it has too much is passed over: neither way costs an engine."""
    path = tmp_path / "j"
    journal.write(path, CONTENTS)
    contents = json.loads(path.read_text())
    if old:
        del contents["engines"][0]["use_case"]
        del contents["engines"][0]["restart"], contents["engines"][0]["plan"]["profile_key"]
    else:
        contents["engines"][0]["colour"] = contents["colour"] = "blue"
    path.write_text(json.dumps(contents))

    of_old = dataclasses.replace(ENGINE, use_case="", restart=None, plan=dataclasses.replace(PLAN, profile_key=None))

    assert journal.read(path, "b") == dataclasses.replace(CONTENTS, engines=[of_old] if old else [ENGINE])


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../outside"},
        {"id": "/etc/passwd"},
        {"id": ""},
        {"id": "."},
        {"created": 1e300},
        {"spawned": -1.0},
        {"restarted": [1e300]},
    ],
)
def test_a_journal_that_can_not_be_is_not_believed(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Ids become names of directories and cgroups, and times are sent to clients."""
    journal.write(tmp_path / "j", dataclasses.replace(CONTENTS, engines=[dataclasses.replace(ENGINE, **change)]))

    assert journal.read(tmp_path / "j", "b") is None
    assert "can't be" in caplog.text


async def test_changes_that_come_together_are_written_once(tmp_path: Path) -> None:
    """With the state of the moment at which it is written."""
    made: list[Contents] = []

    def contents() -> Contents:
        made.append(CONTENTS)
        return CONTENTS

    kept = Journal(tmp_path / "j", contents)
    task = spawn("keep the journal", kept.keep())
    for _ in range(5):
        kept.touch()
    async with asyncio.timeout(20):
        while not (tmp_path / "j").exists():
            await asyncio.sleep(0)
    task.cancel()

    assert len(made) == 1


async def test_a_disk_that_is_full_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And again once it has been better in between; nothing is raised."""
    kept = Journal(tmp_path / "missing" / "j", lambda: CONTENTS)
    written = [await kept.save(), await kept.save()]
    first = [record for record in caplog.records if record.levelno == logging.ERROR]
    (tmp_path / "missing").mkdir()
    written.append(await kept.save())

    assert written == [False, False, True]
    assert len(first) == 1
    assert journal.read(tmp_path / "missing" / "j", "b") == CONTENTS


async def test_a_journal_that_is_removed_stays_away(tmp_path: Path) -> None:
    """Whatever changes afterwards: a daemon that stopped well leaves nothing to take over."""
    kept = Journal(tmp_path / "j", lambda: CONTENTS)
    await kept.save()
    await kept.remove()
    await kept.save()

    assert list(tmp_path.iterdir()) == []


async def test_a_journal_that_can_not_be_removed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A daemon ends well all the same: a read-only file system refuses even what is not there."""
    (tmp_path / "j" / "in-the-way").mkdir(parents=True)
    await Journal(tmp_path / "j", lambda: CONTENTS).remove()

    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_saves_that_are_asked_for_together_share_a_write(tmp_path: Path) -> None:
    """One that begins after the last of them asked, so that each finds what it knew in it."""
    made: list[Contents] = []

    def contents() -> Contents:
        made.append(CONTENTS)
        return CONTENTS

    kept = Journal(tmp_path / "j", contents)
    await asyncio.gather(*(kept.save() for _ in range(50)))

    assert len(made) == 1
    await kept.save()
    assert len(made) == 2


async def test_a_write_goes_on_though_nobody_waits_for_it(tmp_path: Path) -> None:
    """A second one that began meanwhile would write into the same file."""
    kept = Journal(tmp_path / "j", lambda: CONTENTS)
    call = spawn("a call that its client ends", kept.save())
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await kept.save()

    assert journal.read(tmp_path / "j", "b") == CONTENTS
    assert [path.name for path in tmp_path.iterdir()] == ["j"]
