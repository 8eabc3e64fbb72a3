from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pydantic
import pytest

from vllmd.daemon import Signals, main, make_private, parser, settings_of
from vllmd.engines.containment import group_name
from vllmd.errors import NotPossible


def test_the_defaults_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without options everything lies where systemd or the user's session wants it."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/somewhere")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/somewhere")
    settings = settings_of(parser().parse_args([]))

    assert settings.socket == Path("/run/somewhere/vllmd.sock")
    assert settings.runtime_dir == Path("/run/somewhere")
    assert settings.cache_dir == Path("/var/cache/somewhere")


def test_options_become_settings() -> None:
    """The socket follows the runtime directory; a mode is octal; relative paths hold wherever the daemon runs."""
    line = "--runtime-dir run --socket-mode 660 --allow-engine-arg a --allow-engine-arg b --idle-timeout 600"
    settings = settings_of(parser().parse_args([*line.split(), "--listen", "127.0.0.1:1"]))

    assert settings.socket == Path.cwd() / "run" / "vllmd.sock"
    assert settings.socket_mode == 0o660
    assert settings.allowed_engine_args == ("a", "b")
    assert settings.idle_timeout == 600.0
    assert settings.listen == "127.0.0.1:1"
    assert settings_of(parser().parse_args(["--socket", "/x/y"])).socket == Path("/x/y")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--socket-mode 9", "argument --socket-mode: invalid octal value: '9'"),
        ("--socket-mode 1777", "--socket-mode"),
        ("--idle-timeout soon", "--idle-timeout"),
        ("--idle-timeout -1", "--idle-timeout"),
        ("--load-timeout inf", "--load-timeout"),
        ("--lease-ttl 0", "--lease-ttl"),
        ("--backend llama", "--backend"),
        ("--log-level loud", "--log-level"),
        ("--no-such-option", "--no-such-option"),
        ("extra", "extra"),
    ],
)
def test_misuse_is_exit_status_2(line: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Which option is wrong is said on standard error, below the usage."""
    with pytest.raises(SystemExit) as left:
        main(line.split())
    printed = capsys.readouterr()

    assert left.value.code == 2
    assert told in printed.err
    assert printed.out == ""


def test_a_value_out_of_range_is_named() -> None:
    """The settings are checked, wherever they come from."""
    with pytest.raises(pydantic.ValidationError, match="stop_grace"):
        settings_of(parser().parse_args(["--stop-grace", "-3"]))


def test_every_option_is_explained() -> None:
    """The help names each option's default, but for those that have none."""
    unexplained = {action.dest for action in parser()._actions if "(default: " not in (action.help or "")}

    assert "examples:" in parser().format_help()
    assert unexplained == {"help", "version", "listen", "allowed_engine_args"}


def test_a_private_directory_is_made(tmp_path: Path) -> None:
    """Nobody else may look into it, and it may be there already."""
    directory = tmp_path / "a" / "b"
    make_private(directory)
    make_private(directory)

    assert directory.stat().st_mode & 0o777 == 0o700


def test_the_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Whoever owns it could put anything there."""
    directory = Path("/")
    if os.geteuid() == 0:
        directory = tmp_path / "theirs"
        directory.mkdir()
        os.chown(directory, 12345, -1)

    with pytest.raises(NotPossible, match="not to us") as refused:
        make_private(directory)
    assert refused.value.reason == "NOT_OURS"


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever can write to it can put there what the daemon trusts; it is not made private behind their back."""
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(mode)

    with pytest.raises(NotPossible, match="Others can write") as refused:
        make_private(directory)
    assert refused.value.reason == "NOT_OURS"
    assert directory.stat().st_mode & 0o7777 == mode


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    """Whoever made it says where the daemon writes, though the directory behind it is this user's."""
    (tmp_path / "ours").mkdir(mode=0o700)
    (tmp_path / "planted").symlink_to(tmp_path / "ours")

    with pytest.raises(NotPossible, match="is not a directory") as refused:
        make_private(tmp_path / "planted")
    assert refused.value.reason == "NOT_OURS"


def test_the_group_of_a_directory_keeps_its_name() -> None:
    """The next daemon finds the cgroups of this one; another directory has others."""
    assert group_name(Path("/run/vllmd")) == "vllmd-96691bec"
    assert group_name(Path("/run/vllmd2")) != group_name(Path("/run/vllmd"))


async def test_the_first_signal_drains_and_the_second_hurries() -> None:
    """SIGTERM and SIGINT count alike."""
    signals = Signals()
    os.kill(os.getpid(), signal.SIGINT)
    async with asyncio.timeout(20):
        await signals.first.wait()
    between = signals.second.is_set()
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(20):
        await signals.second.wait()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(signum)

    assert not between
