from __future__ import annotations

import pytest

from vllmd.environment import passed_on


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "LC_ALL", "HF_TOKEN", "VLLM_LOGGING_LEVEL", "NCCL_NVLS_ENABLE", "CUDA_HOME", "https_proxy", "CC"],
)
def test_what_means_something_to_engines_is_passed_on(name: str) -> None:
    """Without a word."""
    assert passed_on({name: "x"}) == {name: "x"}


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DATABASE_URL", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "X"]
)
def test_what_is_for_others_is_not(name: str) -> None:
    """Unless the host says so, by its name or a pattern."""
    assert passed_on({name: "x"}) == {}
    assert passed_on({name: "x"}, [name]) == passed_on({name: "x"}, [f"{name[:1]}*"]) == {name: "x"}


@pytest.mark.parametrize(
    "name", ["VLLMD_TOKEN", "VLLMD_LISTEN", "NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY", "VLLM_API_KEY"]
)
def test_what_is_the_daemons_alone_stays_so(name: str) -> None:
    """Whatever the host says."""
    assert passed_on({name: "x"}, [name, "*"]) == {}


def test_patterns_are_told_apart_by_case() -> None:
    """As variables are."""
    assert passed_on({"aws_x": "1", "AWS_X": "2"}, ["AWS_?"]) == {"AWS_X": "2"}
