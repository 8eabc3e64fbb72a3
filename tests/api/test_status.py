from __future__ import annotations

import contextlib
import logging
import tempfile
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2

from tests.fakes.served import connected, details_of, status_of
from vllmd import errors
from vllmd.api import status
from vllmd.errors import EngineFailed, InvalidRequest, NotFound, Unavailable, VllmdError
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_service_pb2_grpc import (
    EngineServiceServicer,
    EngineServiceStub,
    add_EngineServiceServicer_to_server,
)

CLASSES = sorted(VllmdError.__subclasses__(), key=lambda kind: kind.__name__)
WIDE = "日本語テキスト🦆"
"""Three and four bytes a character, and three times that in gRPC's own message."""


class Raising(EngineServiceServicer):
    """Fails at every call with the error it was given."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @status.raising
    async def GetEngine(self, request: pb.GetEngineRequest, context: Any) -> Any:
        raise self._error

    @status.streaming
    async def LoadModel(self, request: pb.LoadModelRequest, context: Any) -> AsyncIterator[Any]:
        yield pb.LoadModelResponse()
        raise self._error


@contextlib.asynccontextmanager
async def raising(error: Exception) -> AsyncIterator[Any]:
    """Serve an error; gives a stub."""
    with tempfile.TemporaryDirectory(prefix="vd-") as directory:
        server = grpc.aio.server()
        add_EngineServiceServicer_to_server(Raising(error), server)  # type: ignore[abstract]
        socket = Path(directory, "s")
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        async with connected(socket) as channel:
            yield EngineServiceStub(channel)
        await server.stop(0)


async def failing(error: Exception) -> grpc.aio.AioRpcError:
    """Let a unary call fail; returns what the client gets."""
    async with raising(error) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.GetEngine(pb.GetEngineRequest())
    return failed.value


def trailer_bytes(error: grpc.aio.AioRpcError) -> int:
    """Tell how large an error was on the wire at most: text percent-encoded, binary values in base64."""
    size = len(urllib.parse.quote(error.details() or ""))
    for name, value in error.trailing_metadata():
        size += len(name) + 32 + (len(value) * 4 // 3 if isinstance(value, bytes) else len(value))
    return size


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_one_code_and_one_error_info(kind: type[VllmdError]) -> None:
    """No class is left out of the table, and each brings its reason and its numbers."""
    found = status.to_status(kind("SOME_REASON", "Something happened.", free_bytes=7))
    info: Any = details_of(found)["ErrorInfo"]

    assert found.code != code_pb2.OK
    assert found.message == "Something happened."
    assert (info.reason, info.domain, dict(info.metadata)) == ("SOME_REASON", "vllmd", {"free_bytes": "7"})


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("InvalidRequest", "INVALID_ARGUMENT"),
        ("NotFound", "NOT_FOUND"),
        ("NotPossible", "FAILED_PRECONDITION"),
        ("Exhausted", "RESOURCE_EXHAUSTED"),
        ("Denied", "PERMISSION_DENIED"),
        ("Unauthenticated", "UNAUTHENTICATED"),
        ("Unavailable", "UNAVAILABLE"),
        ("Cancelled", "CANCELLED"),
        ("EngineFailed", "INTERNAL"),
    ],
)
def test_the_class_decides_the_code(kind: str, code: str) -> None:
    """What a client may do about an error follows from its class."""
    error: VllmdError = getattr(errors, kind)("SOME_REASON", "Something happened.")

    assert code_pb2.Code.Name(status.to_status(error).code) == code
    assert len(CLASSES) == 9


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("MODEL_TOO_LARGE", "FAILED_PRECONDITION"),
        ("NOT_ENOUGH_GPUS", "FAILED_PRECONDITION"),
        ("KV_CACHE_TOO_SMALL", "FAILED_PRECONDITION"),
        ("MODEL_UNSUPPORTED", "UNIMPLEMENTED"),
        ("MODEL_NOT_FOUND", "NOT_FOUND"),
        ("START_TIMEOUT", "DEADLINE_EXCEEDED"),
        ("NVML_UNAVAILABLE", "UNAVAILABLE"),
        ("ENGINE_START_FAILED", "INTERNAL"),
    ],
)
def test_why_an_engine_failed_may_say_more(reason: str, code: str) -> None:
    """What can never work, what does not work now and what is broken are told apart."""
    assert code_pb2.Code.Name(status.to_status(EngineFailed(reason, "It failed.")).code) == code


@pytest.mark.parametrize("seconds", [1.0, 10.0, 0.25])
def test_unavailable_says_when_to_try_again(seconds: float) -> None:
    """UNAVAILABLE, and nothing else here, invites another try."""
    details: Any = details_of(status.to_status(Unavailable("DRAINING", "Later.", seconds)))
    others: Any = details_of(status.to_status(NotFound("ENGINE_NOT_FOUND", "No.")))

    assert details["RetryInfo"].retry_delay.ToNanoseconds() == seconds * 1e9
    assert set(others) == {"ErrorInfo"}


def test_wrong_fields_are_named_each_by_itself() -> None:
    """As many as a trailer holds."""
    error = InvalidRequest("INVALID_FIELD", "Much is wrong.").naming(*((f"field{n}", "x" * 999) for n in range(99)))
    details: Any = details_of(status.to_status(error))

    assert [one.field for one in details["BadRequest"].field_violations] == [f"field{n}" for n in range(8)]
    assert status.to_status(error).ByteSize() < 4096


async def test_the_details_reach_the_client() -> None:
    """All that an error says comes with the call's end, from unary and from streaming methods."""
    error = EngineFailed("ENGINE_EXITED", "It exited.", ["first", "last"], engine="e-1")
    unary = await failing(error)
    async with raising(error) as stub:
        call = stub.LoadModel(pb.LoadModelRequest())
        await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as streamed:
            await call.read()

    for found in (unary, streamed.value):
        details: Any = details_of(status_of(found))
        assert (found.code(), found.details()) == (grpc.StatusCode.INTERNAL, "It exited.")
        assert details["ErrorInfo"].metadata["engine"] == "e-1"
        assert details["DebugInfo"].detail == "first\nlast"


@pytest.mark.parametrize("letter", ["x", "é", *WIDE, "%", "\n", "\x1b", "\0", "\ud800"])
async def test_a_huge_error_still_reaches_the_client(letter: str) -> None:
    """However long a name that a client made up, a message or a log: the trailer stays below gRPC's limit."""
    huge = letter * 100_000
    error = EngineFailed("ENGINE_EXITED", huge, [huge] * 30, model=huge, argument=huge, name=huge, engine=huge)
    found = await failing(error)
    details: Any = details_of(status_of(found))

    assert found.code() == grpc.StatusCode.INTERNAL
    assert trailer_bytes(found) < 8192
    assert details["ErrorInfo"].reason == "ENGINE_EXITED"
    assert 100 < len(details["ErrorInfo"].metadata["model"].encode()) <= 256
    assert details["DebugInfo"].detail


def test_the_last_lines_of_a_log_are_kept() -> None:
    """Where not all lines fit, it is the end that tells why."""
    lines = [f"line {number} {'.' * 80}" for number in range(200)]
    details: Any = details_of(status.to_status(EngineFailed("ENGINE_EXITED", "It exited.", lines)))
    kept = details["DebugInfo"].detail.splitlines()

    assert kept == lines[-len(kept) :]
    assert 30 < len(kept) < 60


async def test_what_is_unexpected_is_told_without_internals(caplog: pytest.LogCaptureFixture) -> None:
    """A bug is INTERNAL and a fixed sentence for the client; the log has the traceback."""
    with caplog.at_level(logging.ERROR):
        found = await failing(KeyError("a secret of ours"))
    details: Any = details_of(status_of(found))

    assert found.code() == grpc.StatusCode.INTERNAL
    assert details["ErrorInfo"].reason == "INTERNAL"
    assert set(details) == {"ErrorInfo"}
    assert "secret" not in str(status_of(found))
    assert "a secret of ours" in caplog.text


def test_a_broken_text_is_mended() -> None:
    """A path that is not UTF-8 must not keep the rest of an error from its client."""
    found = status.to_status(InvalidRequest("INVALID_MODEL", "no \udcff here", model="\udcff"))

    assert found.message == "no ? here"


def test_the_error_of_one_input_of_many_is_bounded_as_that_of_a_call() -> None:
    """Much of its text may be a client's own, and there may be 10,000 of them."""
    failure = status.to_failure(InvalidRequest("TOO_LONG", WIDE * 1000, value=WIDE * 1000, count=3))

    assert failure.reason == "TOO_LONG"
    assert len(failure.message.encode()) <= 1024
    assert len(failure.metadata["value"].encode()) <= 256
    assert failure.metadata["count"] == "3"
