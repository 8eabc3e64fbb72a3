from __future__ import annotations

import dataclasses

import pytest

from tests.doctor.judged import by_check, levels
from vllmd.doctor.engine import EngineFacts, judge, parsed, without_gpus

GOOD = EngineFacts(
    python="/opt/vllm/bin/python",
    python_version="3.12.3",
    vllm="0.25.1",
    torch="2.11.0+cu128",
    torch_cuda="12.8",
    msgspec="0.20.0",
    huggingface_hub="1.2.0",
    driver_cuda="12.8",
    gpus=2,
)


def with_(**changes: object) -> EngineFacts:
    """The good one, but for some."""
    return dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]


def test_an_environment_in_order() -> None:
    """Python, vLLM and torch are told with their versions."""
    found = by_check(judge(GOOD))

    assert levels(judge(GOOD)) == {"engine_python": "ok", "vLLM": "ok", "torch": "ok"}
    assert found["torch"].found == "2.11.0+cu128 for CUDA 12.8, driver for CUDA 12.8"


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("0.21.0", "fail"),
        ("0.22.0", "ok"),
        ("0.33.2", "ok"),
        ("0.33.1rc2.dev5+g12ab", "ok"),
        ("0.34.0", "warn"),
        ("1.0.0", "warn"),
        ("0.0.0.dev1", "unknown"),
        ("dev", "unknown"),
        (None, "fail"),
    ],
)
def test_versions_of_vllm(version: str | None, level: str) -> None:
    """Those that are known to work are, older ones do not, and newer ones may."""
    assert levels(judge(with_(vllm=version)))["vLLM"] == level


@pytest.mark.parametrize(
    ("built", "driver", "level"),
    [
        ("12.8", "13.0", "ok"),
        ("12.9", "12.8", "warn"),
        ("13.0", "12.8", "fail"),
        ("13.0", "", "unknown"),
        ("12.10", "12.9", "warn"),
    ],
)
def test_the_cuda_of_torch_and_of_the_driver(built: str, driver: str, level: str) -> None:
    """A driver runs what was built for its own major version of CUDA and for older ones."""
    assert levels(judge(with_(torch_cuda=built, driver_cuda=driver)))["torch"] == level


@pytest.mark.parametrize(
    ("gpus", "cuda", "hip", "level"),
    [(2, None, None, "fail"), (0, None, None, "ok"), (None, None, None, "ok"), (2, None, "6.4", "fail"),
     (0, "12.8", None, "warn")],
)  # fmt: skip
def test_a_torch_for_other_hardware(gpus: int | None, cuda: str | None, hip: str | None, level: str) -> None:
    """Without CUDA no GPU is seen, which is right only where there is none."""
    assert levels(judge(with_(gpus=gpus, torch_cuda=cuda, torch_hip=hip)))["torch"] == level


def test_an_interpreter_that_does_not_run() -> None:
    """Then nothing else is said of it."""
    assert levels(judge(EngineFacts(python="/x", runs=False, why="is no program"))) == {"engine_python": "fail"}


def test_an_interpreter_that_does_not_answer_in_time() -> None:
    """It may be a slow disk: nothing is known then."""
    assert levels(judge(EngineFacts(python="/x", why="says nothing within 20 seconds"))) == {"engine_python": "unknown"}


def test_an_interpreter_that_is_too_old() -> None:
    """The worker runs under it, and needs 3.11."""
    assert levels(judge(with_(python_version="3.10.12")))["engine_python"] == "fail"


def test_what_vllm_brings_along() -> None:
    """Without torch or msgspec the environment is damaged; without the hub's client only downloads fail."""
    found = levels(judge(with_(torch=None, msgspec=None, huggingface_hub=None)))

    assert (found["torch"], found["msgspec"], found["hub client"]) == ("fail", "fail", "warn")


def test_fake_engines_need_no_vllm() -> None:
    """Only a Python."""
    assert levels(judge(with_(vllm=None, torch=None, fake=True))) == {"engine_python": "ok", "vLLM": "ok"}


def test_which_engines_need_no_gpu() -> None:
    """Fake ones, and those of a build for the CPU."""
    assert without_gpus(with_(fake=True))
    assert without_gpus(with_(torch_cuda=None))
    assert not without_gpus(GOOD)
    assert not without_gpus(with_(torch_cuda=None, torch_hip="6.4"))
    assert not without_gpus(with_(torch=None, torch_cuda=None))


def test_versions_compare_as_numbers() -> None:
    """`0.9` is older than `0.10`."""
    assert parsed("0.10.1") == (0, 10)
    assert parsed("x") is None
