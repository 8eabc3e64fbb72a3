"""What `EngineService` shows: engines as they change, and what a load would come to."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from google.protobuf import duration_pb2

from vllmd.api import changes, convert, parse
from vllmd.api.board import Board
from vllmd.api.changes import Sent
from vllmd.api.methods import Context, Methods
from vllmd.api.status import raising, streaming
from vllmd.errors import InvalidRequest
from vllmd.scheduler import outlook
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.scheduler import Scheduler
from vllmd.v1 import engine_service_pb2 as pb

_INTERVAL_SECONDS = 0.1
_MAX_INTERVAL_SECONDS = 60.0
_PATIENCE_SECONDS = 2.0
"""How long a watcher waits for the board, which tells something each second: in case that it does not."""


class OutlookMethods(Methods):
    """WatchEngines and PlanModel."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self._board = Board(scheduler)

    @streaming
    async def WatchEngines(
        self, request: pb.WatchEnginesRequest, context: Context
    ) -> AsyncIterator[pb.WatchEnginesResponse]:
        """Stream engines as they change, until the one that is watched has ended, or all have and the daemon with them.

        What has changed is worked out anew once gRPC has taken the response before, so there is no backlog here. How
        much a client's gRPC takes on before it is read is the client's to say: of 750 responses of 800 bytes all, by
        default, and 6 with `grpc.http2.bdp_probe` 0 and `grpc.http2.lookahead_bytes` 4096.
        """
        interval = _interval(request)
        entry = self._scheduler.engines.get(parse.id_of(request.name, "engines")) if request.name else None
        sent: dict[str, Sent] = {}
        is_first = True
        with self._board.watched():
            while True:
                self._scheduler.refuse_if_upgrading()
                is_last = self._is_leaving() or (entry is not None and entry.supervisor.state.ended)
                if is_last:
                    self._board.look()  # whatever comes after that, the end has been sent
                responses = self._news(entry, sent, is_first)
                for response in responses:
                    yield response
                is_first = False
                if is_last:
                    return
                if responses:
                    await self._pause(interval)
                else:
                    await self._board.changed.wait(_PATIENCE_SECONDS)

    def _news(self, entry: Entry | None, sent: dict[str, Sent], is_first: bool) -> tuple[pb.WatchEnginesResponse, ...]:
        """Make what a reader is to be sent now, and note that it is."""
        marks = self._board.marks
        if entry is not None:
            marks = {key: mark for key, mark in marks.items() if key == entry.supervisor.id}
        news = changes.news(sent, marks, self._board.beat)
        for key in news.changed:
            sent[key] = Sent(marks[key], self._board.beat)
        for key in news.forgotten:
            del sent[key]
        if not news and not is_first:
            return ()
        # One that is watched alone is shown as GetEngine shows it, which may depend on who asks.
        return (
            self._board.responses(news) if entry is None else (pb.WatchEnginesResponse(engines=[self._engine(entry)]),)
        )

    async def _pause(self, seconds: float) -> None:
        """Let some time pass between two responses, unless the daemon ends."""
        due = time.monotonic() + seconds
        while (left := due - time.monotonic()) > 0 and not self._scheduler.upgrading and not self._is_leaving():
            await self._board.changed.wait(left)

    def _is_leaving(self) -> bool:
        return self._scheduler.draining and not self._scheduler.living()

    @raising
    async def PlanModel(self, request: pb.PlanModelRequest, context: Context) -> pb.PlanModelResponse:
        """Plan, and start nothing."""
        wish = parse.wish(request)
        self._check_wish(wish)
        await self._scheduler.admission.look_for(wish)
        found = await outlook.look(self._scheduler, wish)
        response = pb.PlanModelResponse(
            effective_args=[convert.argument(choice) for choice in found.plan.choices],
            gpus=[f"gpus/{gpu.uuid}" for gpu in found.plan.gpus],
            shared_engine=f"engines/{found.shared}" if found.shared else "",
            blocking_engines=[f"engines/{engine_id}" for engine_id in found.blocking],
        )
        if found.plan.memory is not None:
            response.planned_memory.CopyFrom(convert.planned_memory(found.plan.memory))
        return response


def _interval(request: pb.WatchEnginesRequest) -> float:
    """Read the least time between two responses; raises `InvalidRequest` if it is over a minute, or negative."""
    if not request.HasField("min_interval"):
        return _INTERVAL_SECONDS
    value: duration_pb2.Duration = request.min_interval
    seconds = value.seconds + value.nanos * 1e-9
    if not 0 <= seconds <= _MAX_INTERVAL_SECONDS:
        message = f"min_interval is 0 to {_MAX_INTERVAL_SECONDS:g} s; {seconds:g} s was asked for."
        raise InvalidRequest("INVALID_FIELD", message, field="min_interval", seconds=seconds)
    return seconds
