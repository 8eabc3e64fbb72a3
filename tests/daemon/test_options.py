from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from vllmd.config import Settings, UseCase
from vllmd.configuration.problems import ConfigurationError
from vllmd.daemon.main import main
from vllmd.daemon.options import parser, sources


def settings_of(line: Sequence[str], environment: Mapping[str, str] | None = None) -> Settings:
    """What the command line makes of the settings where nothing else is said."""
    nowhere = {"CONFIGURATION_DIRECTORY": "/nonexistent"}
    return sources(parser().parse_args(line), {**nowhere, **(environment or {})}).read().settings


def test_the_defaults_follow_the_environment() -> None:
    """Without options everything lies where systemd or the user's session wants it."""
    settings = settings_of([], {"RUNTIME_DIRECTORY": "/run/somewhere", "CACHE_DIRECTORY": "/var/cache/somewhere"})

    assert settings.socket == Path("/run/somewhere/vllmd.sock")
    assert settings.runtime_dir == Path("/run/somewhere")
    assert settings.cache_dir == Path("/var/cache/somewhere")


def test_options_become_settings() -> None:
    """The socket follows the runtime directory; a mode is octal; relative paths hold wherever the daemon runs."""
    line = "--runtime-dir run --socket-mode 660 --allow-engine-arg a --allow-engine-arg b --idle-timeout 600"
    settings = settings_of([*line.split(), "--listen", "127.0.0.1:1"])

    assert settings.socket == Path.cwd() / "run" / "vllmd.sock"
    assert settings.socket_mode == 0o660
    assert settings.allowed_engine_args == ("a", "b")
    assert settings.idle_timeout == 600.0
    assert settings.listen == "127.0.0.1:1"
    assert settings_of(["--socket", "/x/y"]).socket == Path("/x/y")


def test_engine_arguments_of_the_host_are_read_as_json_or_text() -> None:
    """Spelt as vLLM's command line does or its Python; the last of two counts."""
    given = [
        "max-num-seqs=64",
        "--enforce-eager=true",
        "dtype=half",
        'limit_mm_per_prompt={"image": 2}',
        "kv_cache_dtype=",
        "max_num_seqs=32",
    ]
    line = [f"--engine-arg={one}" for one in given]
    settings = settings_of(line)

    assert settings.engine_args == {
        "max_num_seqs": 32,
        "enforce_eager": True,
        "dtype": "half",
        "limit_mm_per_prompt": {"image": 2},
        "kv_cache_dtype": "",
    }
    assert settings_of([]).engine_args == {}


@pytest.mark.parametrize("text", ["NaN", "[1, -Infinity]", "1e999", "{", ""])
def test_a_value_that_json_does_not_have_is_a_text(text: str) -> None:
    """No client could be told of it otherwise, and every list of engines would fail."""
    assert settings_of(["--engine-arg", f"seed={text}"]).engine_args == {"seed": text}


@pytest.mark.parametrize("given", ["max_num_seqs", "=64", "max num seqs=64", "a.b=1"])
def test_an_engine_argument_without_name_or_value_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As wrong usage, before anything is started."""
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--engine-arg", given])

    assert ended.value.code == 2
    assert "is not NAME=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("name", typing.get_args(UseCase))
def test_a_host_says_what_its_models_are_for(name: str) -> None:
    """By one of the use cases; nothing in particular unless it does."""
    assert settings_of(["--use-case", name]).use_case == name
    assert settings_of([]).use_case is None


def test_a_use_case_of_no_such_name_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names there are."""
    with pytest.raises(SystemExit):
        parser().parse_args(["--use-case", "chatting"])

    assert "production" in capsys.readouterr().err


def test_a_value_out_of_range_is_named() -> None:
    """The settings are checked, wherever they come from."""
    with pytest.raises(ConfigurationError, match="--stop-grace: must be a number of seconds"):
        settings_of(["--stop-grace=-3"])


def test_a_simulated_host_has_fake_engines() -> None:
    """They are implied, and may be asked for."""
    settings = settings_of(["--simulate", "2xRTX3090"])

    assert (settings.simulate, settings.backend) == ("2xRTX3090", "fake")
    assert settings_of(["--simulate", "1xH100", "--backend", "fake"]).simulate == "1xH100"
    assert settings_of([]).simulate is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--simulate 2xRTX3091", "the nearest is RTX3090"),
        ("--simulate 1xH100 --backend vllm", "only the fake engine runs on simulated GPUs"),
    ],
)
def test_a_host_that_cannot_be_simulated_is_refused(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As wrong usage, before anything is started: GPUs that nobody knows, or vLLM itself on GPUs that are not there."""
    with pytest.raises(SystemExit) as ended:
        main(line.split())

    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_every_option_is_explained() -> None:
    """The help names each option's default, but for those that have none and those that add up."""
    unexplained = {action.dest for action in parser()._actions if "(default: " not in (action.help or "")}

    assert "examples:" in parser().format_help()
    several = {"model_roots", "allowed_engine_args", "pass_environment", "engine_args"}
    assert unexplained == {"help", "version", "check"} | several
