from __future__ import annotations

import grpc
import pytest

from vllmd.client.errors import DaemonUnreachable, VllmdError
from vllmd.client.retries import pause

ABSENT = DaemonUnreachable("unix:/a.sock", "no daemon answers", request_sent=False)
BROKEN = DaemonUnreachable("unix:/a.sock", "the connection broke", request_sent=True, was_there=True)
UPGRADING = VllmdError(grpc.StatusCode.UNAVAILABLE, "UPGRADING", "", retry_after=1.0)
UNAVAILABLE = VllmdError(grpc.StatusCode.UNAVAILABLE, "ENGINE_DIED", "")
EXHAUSTED = VllmdError(grpc.StatusCode.RESOURCE_EXHAUSTED, "GPU_MEMORY_EXHAUSTED", "", retry_after=5.0)
NOT_FOUND = VllmdError(grpc.StatusCode.NOT_FOUND, "LEASE_NOT_FOUND", "")


@pytest.mark.parametrize(
    ("failure", "again", "once"),
    [
        (ABSENT, 0.0, 0.0),
        (BROKEN, 0.0, None),
        (UPGRADING, 1.0, None),
        (UNAVAILABLE, None, None),
        (EXHAUSTED, None, None),
        (NOT_FOUND, None, None),
    ],
)
def test_what_is_made_again_and_when(failure: VllmdError, again: float | None, once: float | None) -> None:
    """When the daemon says when, or is not there; what must not be done twice, only if it can't have been heard."""
    assert (pause(failure, False), pause(failure, True)) == (again, once)
