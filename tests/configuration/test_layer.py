from __future__ import annotations

import pytest

from vllmd.configuration.layer import Given, of_environment, of_flags, of_table


def test_a_table_gives_settings_and_engine_arguments() -> None:
    """Each with where it stands; what is wrong does not keep the rest from being looked at."""
    table = {"idle_timeout": 5, "lease_tll": 1, "engine_args": {"seed": 3, "dtype": "half"}, "stop_grace": "x"}
    layer = of_table(table, lambda key: f"f:{len(key)}")

    assert layer.given == {
        "idle_timeout": Given(5.0, "f:1"),
        "engine_args.seed": Given(3, "f:2"),
        "engine_args.dtype": Given("half", "f:2"),
    }
    assert [(one.where, one.key) for one in layer.problems] == [("f:1", "lease_tll"), ("f:1", "stop_grace")]


def test_the_environment_gives_the_same_in_capitals() -> None:
    """Engine arguments after two underscores, as JSON if that is what they are."""
    layer = of_environment(
        {"VLLMD_IDLE_TIMEOUT": "5", "VLLMD_ENGINE_ARGS__SEED": "3", "VLLMD_ENGINE_ARGS__DTYPE": "half", "HOME": "/"}
    )

    assert layer.problems == []
    assert layer.given == {
        "idle_timeout": Given(5.0, "$VLLMD_IDLE_TIMEOUT"),
        "engine_args.seed": Given(3, "$VLLMD_ENGINE_ARGS__SEED"),
        "engine_args.dtype": Given("half", "$VLLMD_ENGINE_ARGS__DTYPE"),
    }


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("VLLMD_IDLE_TIMOUT", "there is no such setting; the nearest is VLLMD_IDLE_TIMEOUT"),
        ("VLLMD_ENGINE_ARGS", "is set one by one, such as VLLMD_ENGINE_ARGS__MAX_NUM_SEQS=64"),
        ("VLLMD_ENGINE_ARGS__", "is no name of an engine argument"),
        ("VLLMD_ENGINE_ARGS__MAX-NUM-SEQS", "is no name of an engine argument; the nearest is max_num_seqs"),
        ("VLLMD_ENGINE_ARGS__LEASE_TTL", "is a setting and no engine argument: it belongs above [engine_args]"),
        ("VLLMD_STOP_GRACE", 'must be a number of seconds of at least 0, and is "x"'),
    ],
)
def test_a_variable_that_is_misspelt_is_refused(variable: str, text: str) -> None:
    """Nobody would notice otherwise that it counts for nothing."""
    (problem,) = of_environment({variable: "x"}).problems

    assert str(problem) == f"${variable}: {text}"


@pytest.mark.parametrize(
    "variable",
    [
        "VLLMD_ADDRESS",
        "VLLMD_LEASE",
        "VLLMD_SIMULATION",
        "VLLMD_ENGINE_ID",
        "VLLMD_ENGINE_DIR",
        "VLLMD_TEST_ENGINE_PYTHON",
        "VLLMD_PORT",
        "VLLMD_PORT_8765_TCP_ADDR",
        "VLLMD_SERVICE_HOST",
        "VLLMD_SERVICE_PORT",
    ],
)
def test_variables_of_others_are_left_alone(variable: str) -> None:
    """Of our client, of engines, and of Kubernetes."""
    layer = of_environment({variable: "tcp://10.0.0.1:8765"})

    assert (layer.given, layer.problems) == ({}, [])


def test_flags_are_named_as_they_are_typed() -> None:
    """They have types already, and ranges still."""
    layer = of_flags({"stop_grace": -1.0, "lease_ttl": 5.0, "engine_args": {"seed": None}}, lambda name: f"--{name}")

    assert [str(one).partition(":")[0] for one in layer.problems] == ["--stop_grace"]
    assert layer.given == {"lease_ttl": Given(5.0, "--lease_ttl"), "engine_args.seed": Given(None, "--engine_args")}
