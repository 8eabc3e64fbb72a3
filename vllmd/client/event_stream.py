"""The daemon's events as they come."""

from __future__ import annotations

from vllmd.client.answers import Arrivals
from vllmd.client.connection import Stream
from vllmd.v1 import event_pb2, host_service_pb2


class EventStream(Stream[event_pb2.Event]):
    """What `Client.events` brings: one event after the other; `missed_count` tells whether any did not come."""

    def __init__(self, responses: Stream[host_service_pb2.WatchEventsResponse]) -> None:
        # The stream's functions know this and not the stream, so that one which nobody refers to any more ends at once.
        self._arrivals = Arrivals()
        events = responses.flat(self._arrivals.events)
        super().__init__(events.__next__, events.close)

    @property
    def missed_count(self) -> int:
        """How many were missed before the last one that came, since they are read more slowly than they happen."""
        return self._arrivals.missed_count
