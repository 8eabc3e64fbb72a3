"""What the daemon's answers mean to who asked. Pure."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Generic, TypeVar

import grpc

from vllmd.client.errors import VllmdError
from vllmd.client.generation import Generation
from vllmd.client.requests import engine_name
from vllmd.client.translation import from_failure
from vllmd.v1 import engine_pb2, event_pb2, host_service_pb2
from vllmd.v1 import engine_service_pb2 as pb

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one prompt of a batch."""

    index: int
    """Which of the prompts, from 0."""
    outcome: Generation | VllmdError
    """What was generated from it, or why nothing was."""

    @property
    def generation(self) -> Generation:
        """What was generated; raises the `VllmdError` that the prompt failed with."""
        if isinstance(self.outcome, VllmdError):
            raise copy.copy(self.outcome)
        return self.outcome


class InOrder(Generic[Item]):
    """Puts results that come in any order where their indexes say."""

    def __init__(self, count: int) -> None:
        self._items: dict[int, Item] = {}
        self._count = count

    def put(self, index: int, item: Item) -> None:
        """Take in the next one."""
        self._items[index] = item

    def whole(self) -> list[Item]:
        """Return them all, the first one first; raises `VllmdError` if the daemon has left any out."""
        missing = next((index for index in range(self._count) if index not in self._items), None)
        if missing is not None:
            raise broken(f"the daemon ended the stream without a result for number {missing}")
        return [self._items[index] for index in range(self._count)]


class Arrivals:
    """Takes events out of responses, and counts those that did not come."""

    def __init__(self) -> None:
        self.missed_count = 0

    def events(self, response: host_service_pb2.WatchEventsResponse) -> Sequence[event_pb2.Event]:
        """List the events of the next response, before which some may have been missed."""
        self.missed_count += response.missed_count
        return response.events


def batch_result(response: pb.GenerateBatchResponse) -> BatchResult:
    """Read what became of one prompt."""
    match response.WhichOneof("outcome"):
        case "generated":
            return BatchResult(response.prompt_index, Generation.of(response.generated))
        case "failure":
            return BatchResult(response.prompt_index, from_failure(response.failure))
        case _:
            return BatchResult(response.prompt_index, broken("the daemon sent a result of a kind that is unknown here"))


def vector(response: pb.EmbedResponse) -> list[float]:
    """Read the vector of one input; raises the `VllmdError` that it failed with."""
    match response.WhichOneof("outcome"):
        case "embedding":
            return list(response.embedding.values)
        case "failure":
            raise from_failure(response.failure)
        case _:
            raise broken("the daemon sent a result of a kind that is unknown here")


def gone_before(error: VllmdError, reason: str, name: str = "") -> engine_pb2.Engine:
    """Take what is not there for gone by an earlier try that got through; raise *error* if there was none such."""
    if error.reason != reason or error.earlier is None:
        raise error
    engine = error.earlier.metadata.get("engine", "")
    return engine_pb2.Engine(name=name or (engine_name(engine) if engine else ""))


def broken(message: str) -> VllmdError:
    """Say that the daemon did not keep to the protocol."""
    return VllmdError(grpc.StatusCode.INTERNAL, "INTERNAL", message)
