from __future__ import annotations

import logging
from typing import Any

import pytest

from vllmd.api import audit
from vllmd.api.access import Role
from vllmd.api.callers import Caller
from vllmd.errors import Denied
from vllmd.v1 import host_service_pb2 as pb

METHOD = "/vllmd.v1.HostService/StopEngine"


class Context:
    """As much of gRPC's as the audit needs, of a caller without a certificate."""

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}


CONTEXT: Any = Context()
WHO = Caller(role=Role.OPERATOR, way="admin.sock")


def test_a_line_tells_what_was_done_to_what_by_which_way(caplog: pytest.LogCaptureFixture) -> None:
    """And how it ended, and how long it took; whatever the log's level is."""
    caplog.set_level(logging.ERROR)  # until the end of this test, unlike a level that we set ourselves
    caplog.handler.setLevel(logging.NOTSET)
    audit.Record(METHOD, pb.StopEngineRequest(name="engines/a", force=True), WHO, CONTEXT).write("OK")
    (record,) = caplog.records

    assert record.name == "vllmd.audit"
    assert record.getMessage().startswith(
        'StopEngine name="engines/a" force=true, operator by admin.sock: OK after 0.0'
    )


def test_a_line_stays_one(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a client writes, it can forge no other, and none without end."""
    audit.Record(METHOD, pb.StopEngineRequest(name="a\nStopEngine" + "b" * 1000), WHO, CONTEXT).write("OK")
    message = caplog.records[0].getMessage()

    assert "\n" not in message
    assert len(message) < 300


def test_who_is_denied_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason, as a warning."""
    audit.Record(METHOD, pb.StopEngineRequest(), "tcp", CONTEXT).denied(Denied("OPERATOR_NEEDED", "no"))

    assert caplog.records[0].levelname == "WARNING"
    assert caplog.records[0].getMessage() == "StopEngine, tcp: OPERATOR_NEEDED"


def test_what_is_no_message_has_no_fields() -> None:
    """Such as the iterator of a call that streams its requests."""
    audit.Record(METHOD, iter(()), WHO, CONTEXT).write("OK")
