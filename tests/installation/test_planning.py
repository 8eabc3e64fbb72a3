from __future__ import annotations

import dataclasses
import pathlib
import tomllib
from typing import Any

import pytest

from vllmd.installation import layout, planning, units
from vllmd.installation.planning import Refused, Wish
from vllmd.installation.seen import Seen
from vllmd.installation.steps import Keep, Remove, Run, Step, Upgrade, Write

HOST = layout.of_host(pathlib.Path("/host"))
HOME = pathlib.Path("/home/a")
USERS = layout.of_user(HOME / ".config", HOME / ".local/state", HOME / ".cache", pathlib.Path("/run/user/7"))
BIN = pathlib.Path("/opt/vllmd/bin")
BARE = Seen(root=True, booted=True, programs=BIN)
ENGINES = pathlib.Path("/opt/vllm/bin/python")
THERE = dataclasses.replace(
    BARE,
    unit=units.unit(units.HOST, BIN),
    sysusers=units.text(units.SYSUSERS),
    tmpfiles=units.text(units.TMPFILES),
    enabled=True,
    active=True,
    configured=True,
)


def verbs(steps: list[Step]) -> list[str]:
    """What is done, without the details."""
    return [next(step.lines()).partition("  (")[0] for step in steps]


def refusals(seen: Seen, wish: Wish | None = None, place: layout.Layout = HOST) -> str:
    """Why it is not installed."""
    with pytest.raises(Refused) as refused:
        planning.install(place, seen, wish or Wish())
    return "\n".join(refused.value.args)


def test_a_bare_host_gets_all_of_it() -> None:
    """In an order in which each step has what it needs."""
    steps = planning.install(HOST, BARE, Wish(engine_python=ENGINES))
    (configuration,) = [step for step in steps if isinstance(step, Write) and step.path == HOST.configuration]

    assert verbs(steps) == [
        "create   /host/etc/systemd/system/vllmd.service",
        "create   /host/etc/sysusers.d/vllmd.conf",
        "create   /host/etc/tmpfiles.d/vllmd.conf",
        "run      systemd-sysusers /host/etc/sysusers.d/vllmd.conf",
        "run      systemd-tmpfiles --create /host/etc/tmpfiles.d/vllmd.conf",
        "create   /host/etc/vllmd/vllmd.toml",
        "run      systemctl daemon-reload",
        "run      systemctl enable vllmd.service",
        "run      systemctl start vllmd.service",
    ]
    assert tomllib.loads(configuration.text) == {"engine_python": "/opt/vllm/bin/python"}


def test_what_is_there_is_kept_and_the_daemon_upgraded() -> None:
    """It executes the new code, and engines stay."""
    steps = planning.install(HOST, THERE, Wish())

    assert [step.what for step in steps if isinstance(step, Keep)] == [
        *map(str, (HOST.unit, HOST.sysusers, HOST.tmpfiles, HOST.configuration))
    ]
    assert verbs(steps)[-1] == "run      systemctl kill --signal=USR2 --kill-whom=main vllmd.service"
    assert not [step for step in steps if isinstance(step, Write)]


def test_a_daemon_of_another_environment_is_not_upgraded_into_this_one() -> None:
    """It would execute its own program anew, whose code is that of before; only a restart runs another's."""
    steps = planning.install(HOST, dataclasses.replace(THERE, other=pathlib.Path("/opt/other/bin")), Wish())

    assert isinstance(planning.install(HOST, THERE, Wish())[-1], Upgrade)
    assert verbs(steps)[-1] == "keep     the daemon of /opt/other/bin"
    assert "`systemctl restart vllmd`" in next(steps[-1].lines())


def test_what_differs_is_replaced_and_shown() -> None:
    """Line by line: it may be somebody's change."""
    assert THERE.unit is not None
    seen = dataclasses.replace(THERE, unit=THERE.unit.replace("WatchdogSec=30", "WatchdogSec=99"))
    (replaced,) = [step for step in planning.install(HOST, seen, Wish()) if isinstance(step, Write)]

    assert list(replaced.lines()) == [
        f"replace  {HOST.unit}", "         -WatchdogSec=99", "         +WatchdogSec=30",
    ]  # fmt: skip


def test_a_user_gets_a_unit_and_a_configuration() -> None:
    """No accounts, and systemctl --user."""
    steps = planning.install(USERS, dataclasses.replace(BARE, root=False), Wish())

    assert verbs(steps) == [
        "create   /home/a/.config/systemd/user/vllmd.service",
        "create   /home/a/.config/vllmd/vllmd.toml",
        "run      systemctl --user daemon-reload",
        "run      systemctl --user enable vllmd.service",
        "run      systemctl --user start vllmd.service",
    ]


def test_an_image_gets_it_without_a_start() -> None:
    """Where no systemd runs, as in a chroot."""
    steps = planning.install(HOST, dataclasses.replace(BARE, booted=False), Wish(start=False))

    assert [line for line in verbs(steps) if "systemctl" in line] == ["run      systemctl enable vllmd.service"]


@pytest.mark.parametrize(
    ("seen", "path"),
    [
        ({"configured": True}, HOST.configuration.parent / "vllmd.toml.d/engine_python.toml"),
        ({"configured": True, "engine_python": str(ENGINES), "engine_python_origin": "x"}, None),
        ({}, HOST.configuration),
    ],
)
def test_the_interpreter_of_engines_is_written_once(seen: dict[str, Any], path: pathlib.Path | None) -> None:
    """Into a drop-in where there is a configuration: that is somebody's own."""
    steps = planning.install(HOST, dataclasses.replace(BARE, **seen), Wish(engine_python=ENGINES))
    written = [step.path for step in steps if isinstance(step, Write) and "engine_python" in step.text.splitlines()[-1]]

    assert written == ([path] if path is not None else [])


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"root": False}, "Only root"),
        ({"booted": False}, "--no-start"),
        ({"packaged": pathlib.Path("/usr/lib/x")}, "as a package, with /usr/lib/x"),
        ({"masked": True}, "`systemctl unmask vllmd`"),
        ({"has_program": False}, "no program /opt/vllmd/bin/vllmd"),
        ({"programs": pathlib.Path("/opt/a b")}, "elsewhere, such as in /opt/vllmd"),
        ({"unreachable": "/root is closed"}, "can't come to this program: /root is closed"),
        ({"changeable": "/x belongs to uid 7"}, "/x belongs to uid 7"),
        ({"engine_unreachable": "/root is closed"}, "engine_python: /root is closed"),
        ({"configuration_problems": ("vllmd.toml:3: x",)}, "broken: vllmd.toml:3: x"),
        ({"engine_python": "/other", "engine_python_origin": "f:1"}, "engine_python is /other by f:1: change it there"),
    ],
)
def test_what_is_in_the_way_is_told_before_anything_is_done(seen: dict[str, Any], words: str) -> None:
    """With what to do."""
    assert words in refusals(dataclasses.replace(BARE, **seen), Wish(engine_python=ENGINES))


def test_every_reason_is_told_at_once() -> None:
    """Not one after the other."""
    seen = dataclasses.replace(BARE, root=False, booted=False, changeable="/x belongs to uid 7")

    assert len(refusals(seen).splitlines()) == 3
    assert "root's is the host's" in refusals(BARE, place=USERS)


def test_an_uninstallation_keeps_what_people_and_models_have_left(tmp_path: pathlib.Path) -> None:
    """Unless they say otherwise."""
    place = layout.of_host(tmp_path)
    place.configuration.parent.mkdir(parents=True)
    seen = dataclasses.replace(THERE, data=((place.data[1], 3 << 30),))
    kept, purged = planning.uninstall(place, seen, purge=False), planning.uninstall(place, seen, purge=True)

    assert isinstance(kept[0], Run)
    assert kept[0].command == ("systemctl", "disable", "--now", "vllmd.service")
    assert [step.path for step in kept if isinstance(step, Remove)] == [place.unit, place.sysusers, place.tmpfiles]
    assert [next(step.lines()) for step in kept if isinstance(step, Keep)] == [
        f"keep     {tmp_path}/etc/vllmd  (settings; --purge removes it)",
        f"keep     {tmp_path}/var/cache/vllmd  (3.0 GiB; --purge removes it)",
    ]
    assert [step.path for step in purged if isinstance(step, Remove)][3:] == [
        tmp_path / "etc/vllmd", tmp_path / "var/cache/vllmd",
    ]  # fmt: skip


def test_where_nothing_is_there_is_nothing_to_do() -> None:
    """And a package is the package manager's."""
    with pytest.raises(Refused, match="as a package"):
        planning.uninstall(HOST, dataclasses.replace(BARE, packaged=HOST.packaged[0]), purge=True)
    assert planning.uninstall(HOST, BARE, purge=True) == []
