"""Whether a call that failed is made again, and after how long. Pure."""

from __future__ import annotations

import grpc

from vllmd.client.errors import DaemonUnreachable, VllmdError


def pause(failure: VllmdError, once: bool) -> float | None:
    """Say after how many seconds a call that failed may be made again; `None` if it may not.

    Args:
        failure: what it failed with.
        once: whether it must not be made again if the daemon may have heard it.
    """
    if once and failure.request_sent:
        return None
    if isinstance(failure, DaemonUnreachable):
        return 0.0
    # RESOURCE_EXHAUSTED may come with a time as well, but whether to wait for room is for people to decide.
    return failure.retry_after if failure.code is grpc.StatusCode.UNAVAILABLE else None
