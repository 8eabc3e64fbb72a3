from __future__ import annotations

import errno
import pathlib

import pytest

from vllmd.engines.diagnosis import (
    QUOTED_LINES,
    Failure,
    death,
    gpu_lost,
    late,
    load_failure,
    not_spawned,
    root_cause,
    to_error,
)
from vllmd.errors import EngineFailed, Exhausted, InvalidRequest, NotFound, Unavailable, VllmdError

CORE = "(EngineCore pid=123) ERROR 11-23 15:43:46 [core.py:1512] "
TP0 = "(Worker_TP0 pid=124) ERROR 11-23 15:43:46 [multiproc_executor.py:900] "
WRAPPED = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
PYDANTIC = (
    "ValidationError: 1 validation error for ModelConfig\n  Value error, {} [type=value_error, input_value=x, "
    "input_type=ArgsKwargs]\n    For further information visit https://errors.pydantic.dev/2.12/v/x"
)
TEXTS = pathlib.Path(__file__).with_name("vllm_errors.tsv")


def texts(place: str, containing: str = "") -> list[tuple[str, str, bool]]:
    """What vLLM says in a place, with the reason and whether the request is to blame."""
    rows = [line.split("\t") for line in TEXTS.read_text().splitlines() if not line.startswith("#")]
    return [
        (text, reason, invalid == "invalid") for at, reason, invalid, text in rows if at == place and containing in text
    ]


@pytest.mark.parametrize(("text", "reason", "invalid"), texts("core"))
def test_cause_in_engine_core_is_found_in_its_log(text: str, reason: str, invalid: bool) -> None:
    """The worker knows only that initialization failed."""
    log = ["INFO starting", CORE + "EngineCore failed to start.", CORE + text, "Traceback:", WRAPPED]
    failure = load_failure(log, (WRAPPED,), "exited with status 1")

    assert (failure.reason, failure.invalid) == (reason, invalid)
    assert failure.message.startswith(text.rstrip("."))
    assert failure.log_lines == tuple(log)


def test_a_value_that_a_field_does_not_take_is_told_without_a_link() -> None:
    """What it is explains itself, and the page that pydantic links is about its own types."""
    link = "    For further information visit https://errors.pydantic.dev/2.12/v/literal_error"
    words = "Input should be 'auto' or 'half' [type=literal_error, input_value='int3', input_type=str]"
    error = f"ValidationError: 2 validation errors for ModelConfig\ndtype\n  {words}\n{link}\nseed\n  {words}\n{link}"
    failure = load_failure([], (error,), "exited with status 1")

    assert (failure.reason, failure.invalid) == ("INVALID_ENGINE_ARG", True)
    assert "Input should be 'auto' or 'half'" in failure.message
    assert "https" not in failure.message


@pytest.mark.parametrize(("text", "reason", "invalid"), texts("configuration"))
def test_cause_in_the_configuration_is_told_without_the_validator(text: str, reason: str, invalid: bool) -> None:
    """vLLM checks its configuration by pydantic, whose words about it are no help to anybody."""
    error = PYDANTIC.format(text)
    log = ["INFO starting", "Traceback:", *f"pydantic_core._pydantic_core.{error}".splitlines()]
    failure = load_failure(log, (error,), "exited with status 1")

    assert (failure.reason, failure.invalid) == (reason, invalid)
    assert failure.message.startswith(text.rstrip(".") + ".")
    assert "pydantic" not in failure.message


@pytest.mark.parametrize(("text", "reason", "invalid"), texts("hub"))
def test_cause_of_a_missing_model_is_told(text: str, reason: str, invalid: bool) -> None:
    """Which of the many ways it is missing in decides what the user can do."""
    failure = load_failure([f"huggingface_hub.errors.{text}"], (text,), "exited with status 1")

    assert (failure.reason, failure.invalid) == (reason, invalid)
    assert failure.message.startswith(text)


@pytest.mark.parametrize(("text", "reason", "invalid"), texts("hub", "Error: 40"))
def test_cause_behind_a_wrapping_error_decides(text: str, reason: str, invalid: bool) -> None:
    """Older vLLM says only that the repository is invalid, and raises that from what the hub said."""
    outer = PYDANTIC.format("Invalid repository ID or local directory specified: 'org/gated'.")
    failure = load_failure([], (outer, "OSError: it is not a local folder", text), "exited with status 1")

    assert (failure.reason, failure.invalid) == (reason, invalid)


def test_error_of_an_mp_worker_is_the_cause_of_all_that_follow() -> None:
    """With tensor parallelism the real error is two processes away, and each on the way has its own words for it."""
    log = [
        TP0 + "WorkerProc failed to start.",
        TP0 + "Traceback (most recent call last):",
        *[TP0 + f'  File "worker.py", line {number}, in load_model' for number in range(300)],
        TP0 + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has 1.5 GiB free.",
        CORE
        + "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace.",
        WRAPPED,
    ]
    failure = load_failure(log, (WRAPPED,), "exited with status 1")

    assert failure.reason == "GPU_MEMORY_EXHAUSTED"
    assert failure.message.startswith("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert failure.message.endswith("Lower gpu_memory_utilization, or free memory on the GPU.")
    assert failure.log_lines == tuple(log[-QUOTED_LINES:])


def test_error_that_a_worker_passes_on_is_not_taken_for_its_own() -> None:
    """`Worker failed with error` names the error again, in quotes; the first one is the cause."""
    log = [
        TP0 + "ValueError: bad scale",
        CORE
        + "RuntimeError: Worker failed with error 'bad scale', please check the stack trace above for the root cause",
    ]

    assert root_cause(log) == "ValueError: bad scale"


def test_what_was_only_warned_of_is_no_cause() -> None:
    """vLLM logs what it can do without as well, and goes on."""
    log = [
        "(EngineCore pid=1) WARNING 11-23 15:43:46 [interface.py:1] ImportError: libcuda.so.1: no such file",
        "INFO 11-23 15:43:46 [x.py:1] ModuleNotFoundError: No module named 'flashinfer'",
        CORE + "ValueError: the real one",
    ]

    assert root_cause(log) == "ValueError: the real one"


def test_start_that_ended_without_a_word_is_told_as_it_ended() -> None:
    """The kernel's out-of-memory killer leaves nothing in the log."""
    failure = load_failure(["INFO starting"], (), "was killed by signal 9")

    assert failure.reason == "ENGINE_EXITED"
    assert failure.message == "The engine's worker was killed by signal 9 while it was starting."
    assert not failure.invalid


def test_wrapper_alone_still_says_more_than_nothing() -> None:
    """EngineCore may be killed before it can log anything."""
    failure = load_failure([], (WRAPPED,), "exited with status 1")

    assert failure.reason == "ENGINE_EXITED"


def test_long_text_is_cut() -> None:
    """An unsupported architecture is followed by the names of three hundred others."""
    failure = load_failure([], ("ValueError: " + "x" * 5000,), "ended")

    assert len(failure.message) <= 600
    assert failure.message.endswith("…")


def test_death_quotes_the_last_error() -> None:
    """What was seen of it first, then what the log says."""
    failure = death(
        ["INFO fine", CORE + "torch.AcceleratorError: CUDA error: an illegal memory access"], "core is gone"
    )

    assert failure.reason == "ENGINE_DIED"
    assert failure.message == (
        "The engine died: core is gone. Its log says: torch.AcceleratorError: CUDA error: an illegal memory access."
    )


def test_error_long_before_a_death_is_not_its_cause() -> None:
    """It was some request's."""
    failure = death([CORE + "ValueError: a request's", *["INFO fine"] * 400], "its worker was killed by signal 9")

    assert failure.message == "The engine died: its worker was killed by signal 9."


def test_quote_is_what_stands_around_the_cause() -> None:
    """vLLM logs hundreds of lines after it, in which nobody would look for it."""
    before, after = [f"before {n}" for n in range(50)], [f"after {n}" for n in range(300)]
    failure = load_failure([*before, CORE + "ValueError: the one", *after], (WRAPPED,), "exited with status 1")

    assert len(failure.log_lines) == QUOTED_LINES
    assert CORE + "ValueError: the one" in failure.log_lines
    assert failure.log_lines[-1].startswith("after")


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (Failure("GPU_MEMORY_EXHAUSTED", "m"), Exhausted),
        (Failure("HOST_MEMORY_EXHAUSTED", "m"), Exhausted),
        (Failure("ENGINE_DIED", "m"), Unavailable),
        (Failure("GPU_LOST", "m"), Unavailable),
        (Failure("MODEL_NOT_FOUND", "m", invalid=True), NotFound),
        (Failure("INVALID_ENGINE_ARG", "m", invalid=True), InvalidRequest),
        (Failure("MODEL_UNAVAILABLE", "m"), Unavailable),
        (Failure("A_REASON_OF_THE_FUTURE", "m", ("a line",)), EngineFailed),
        (Failure("ENGINE_START_FAILED", "m", ("a line",)), EngineFailed),
    ],
)
def test_client_is_told_whether_another_try_may_help(failure: Failure, error: type[VllmdError]) -> None:
    """Later, elsewhere, with another request, or not at all; the engine is named each time."""
    told = to_error(failure, "e-1")

    assert type(told) is error
    assert (told.reason, told.message, told.metadata["engine"]) == (failure.reason, "m", "e-1")
    assert getattr(told, "log_lines", ()) == (failure.log_lines if error is EngineFailed else ())


@pytest.mark.parametrize(
    ("code", "reason"), [(errno.ENOSPC, "DISK_FULL"), (errno.EDQUOT, "DISK_FULL"), (errno.EACCES, "SPAWN_FAILED")]
)
def test_a_worker_that_can_not_be_started(code: int, reason: str) -> None:
    """A disk that is full passes; what else the system refuses needs an operator."""
    root = pathlib.Path("/run/vllmd/e")
    failure = not_spawned(OSError(code, "no", str(root / "x" / "spec.json")), root)

    assert failure.reason == reason
    assert str(root) in failure.message


@pytest.mark.parametrize(
    ("ended", "numbers"),
    [
        ("its worker was killed by signal 9", {"signal": "9"}),
        ("exited with status 1", {"exit_status": "1"}),
        ("ended, nobody knows how", {}),
    ],
)
def test_how_a_worker_ended_is_a_number_too(ended: str, numbers: dict[str, str]) -> None:
    """A program need not read the message."""
    assert dict(death([], ended).metadata) == numbers
    assert dict(load_failure([], [], ended).metadata) == numbers


def test_what_a_start_that_took_too_long_was_busy_with() -> None:
    """Its phase goes along with the limit."""
    assert dict(late([], 60.0, "loading weights 2/4").metadata) == {"seconds": "60", "phase": "loading weights 2/4"}


def test_a_lost_gpu() -> None:
    """It says which, how that is known, and what an operator can do."""
    failure = gpu_lost("GPU 0 (GPU-a)", "NVML: GPU is lost", "reboot")

    assert failure.reason == "GPU_LOST"
    assert failure.message == "GPU 0 (GPU-a) fell off the bus (NVML: GPU is lost): reboot."
