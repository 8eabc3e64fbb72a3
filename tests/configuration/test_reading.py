from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vllmd.config import Settings
from vllmd.configuration.problems import ConfigurationError
from vllmd.configuration.reading import Reading, Sources


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A file that says 1, with a drop-in beside it that can be written."""
    (tmp_path / "vllmd.toml").write_text("lease_ttl = 1\n")
    (tmp_path / "vllmd.toml.d").mkdir()
    return tmp_path


def read(place: Path, flags: dict[str, Any] | None = None, **environment: str) -> Reading:
    return Sources(flags=flags or {}, environment={"CONFIGURATION_DIRECTORY": str(place), **environment}).read()


def test_each_source_counts_over_those_before_it(place: Path) -> None:
    """Default, file, drop-ins in their order, environment, flag; and where it comes from is known."""
    beside = place / "vllmd.toml.d"
    found = [read(place / "nowhere"), read(place)]
    (beside / "10.toml").write_text("# more\nlease_ttl = 2\n")
    found.append(read(place))
    (beside / "20.toml").write_text("lease_ttl = 3\n")
    found.append(read(place))
    found.append(read(place, VLLMD_LEASE_TTL="4"))
    found.append(read(place, {"lease_ttl": 5.0}, VLLMD_LEASE_TTL="4"))

    assert [(one.settings.lease_ttl, one.origins["lease_ttl"]) for one in found] == [
        (300.0, "default"),
        (1.0, f"{place}/vllmd.toml:1"),
        (2.0, f"{beside}/10.toml:2"),
        (3.0, f"{beside}/20.toml:1"),
        (4.0, "$VLLMD_LEASE_TTL"),
        (5.0, "--lease-ttl"),
    ]


def test_engine_arguments_add_to_each_other_and_a_list_counts_whole(place: Path) -> None:
    """A drop-in sets one argument more; who may set what is told in one place."""
    (place / "vllmd.toml").write_text('allowed_engine_args = ["a", "b"]\n[engine_args]\nseed = 1\ndtype = "half"\n')
    (place / "vllmd.toml.d" / "x.toml").write_text('allowed_engine_args = ["c"]\n[engine_args]\nseed = 2\n')
    found = read(place, {"engine_args": {"max_num_seqs": 3}}, VLLMD_ENGINE_ARGS__DTYPE="float16")

    assert found.settings.allowed_engine_args == ("c",)
    assert found.settings.engine_args == {"seed": 2, "dtype": "float16", "max_num_seqs": 3}
    assert found.origins["engine_args.seed"] == f"{place}/vllmd.toml.d/x.toml:3"
    assert found.origins["engine_args.dtype"] == "$VLLMD_ENGINE_ARGS__DTYPE"


def test_a_file_that_is_named_counts_instead(place: Path) -> None:
    """With its own drop-ins, by the command line or else by the environment."""
    other, third = place / "other.toml", place / "third.toml"
    other.write_text("stop_grace = 7\n")
    third.write_text("stop_grace = 8\n")
    (place / "other.toml.d").mkdir()
    (place / "other.toml.d" / "x.toml").write_text("load_timeout = 9\n")
    environment = {"CONFIGURATION_DIRECTORY": str(place), "VLLMD_CONFIG": str(third)}
    by_flag = Sources(path=other, environment=environment).read().settings
    by_variable = Sources(environment=environment).read().settings

    assert (by_flag.lease_ttl, by_flag.stop_grace, by_flag.load_timeout) == (300.0, 7.0, 9.0)
    assert (by_variable.lease_ttl, by_variable.stop_grace) == (300.0, 8.0)


def test_everything_that_is_wrong_is_told_at_once(place: Path) -> None:
    """From all sources, in their order; also what a later one overrides."""
    (place / "vllmd.toml").write_text("lease_ttl = 0\nstop_grase = 1\n")
    (place / "vllmd.toml.d" / "x.toml").write_text("lease_ttl = 5\nidle_timeout = [\n")
    with pytest.raises(ConfigurationError) as raised:
        read(place, {"lease_ttl": -1.0}, VLLMD_BACKEND="lama")

    assert [(one.where, one.key) for one in raised.value.problems] == [
        (f"{place}/vllmd.toml:1", "lease_ttl"),
        (f"{place}/vllmd.toml:2", "stop_grase"),
        (f"{place}/vllmd.toml.d/x.toml:2", "idle_timeout"),
        ("$VLLMD_BACKEND", "backend"),
        ("--lease-ttl", "lease_ttl"),
    ]


def test_a_simulated_host_implies_fake_engines(place: Path) -> None:
    """And not vLLM's, wherever either is said."""
    (place / "vllmd.toml").write_text('simulate = "2xL4"\n')
    implied = read(place)
    with pytest.raises(ConfigurationError, match=r"vllmd\.toml:1: simulate: only the fake engine"):
        read(place, VLLMD_BACKEND="vllm")

    assert (implied.settings.backend, implied.origins["backend"]) == ("fake", f"{place}/vllmd.toml:1")


def test_every_setting_has_an_origin(tmp_path: Path) -> None:
    """Also when nobody has set it."""
    assert read(tmp_path).origins == dict.fromkeys(Settings.model_fields, "default")


def test_where_things_lie_follows_the_runtime_directory(place: Path) -> None:
    """As from the command line; relative paths of the environment hold wherever the daemon runs."""
    (place / "vllmd.toml").write_text('runtime_dir = "/run/other"\n')
    found = read(place, VLLMD_CACHE_DIR="c").settings

    assert (found.socket, found.cache_dir) == (Path("/run/other/vllmd.sock"), Path.cwd() / "c")


def test_a_group_that_is_named_can_connect(place: Path) -> None:
    """Without a word about the mode; where there is one, that counts."""
    named = read(place, VLLMD_SOCKET_GROUP="users").settings
    closed = read(place, VLLMD_SOCKET_GROUP="users", VLLMD_SOCKET_MODE="600").settings

    assert (named.socket_mode, closed.socket_mode) == (0o660, 0o600)
