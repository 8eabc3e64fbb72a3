from __future__ import annotations

import pytest
from google.rpc import code_pb2

from vllmd import catalog
from vllmd.api import codes
from vllmd.errors import EngineFailed, InvalidRequest, VllmdError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("INVALID_FIELD", "no"), code_pb2.INVALID_ARGUMENT),
        (EngineFailed("START_TIMEOUT", "no"), code_pb2.DEADLINE_EXCEEDED),
        (EngineFailed("FROM_THE_FUTURE", "no"), code_pb2.INTERNAL),
    ],
)
def test_an_error_goes_by_its_reason_and_else_by_its_class(error: VllmdError, code: int) -> None:
    """An engine of another vllmd may know reasons that this one doesn't."""
    assert codes.of_error(error) == code


def test_a_reason_has_the_code_that_its_error_travels_with() -> None:
    """Whether it is told as a call's end or as what became of an engine."""
    assert all(
        codes.of_reason(one.reason) == codes.of_entry(one) == codes.of_error(one.error(one.reason, ""))
        for one in catalog.ALL
    )
    assert codes.of_reason("FROM_THE_FUTURE") == code_pb2.UNKNOWN
