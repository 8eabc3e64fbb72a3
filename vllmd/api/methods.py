"""What all parts of `EngineService` have."""

from __future__ import annotations

import time
from typing import Any

import grpc

from vllmd.api import callers, convert
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.scheduler import Scheduler
from vllmd.scheduler.wish import Wish
from vllmd.v1 import engine_pb2

Context = grpc.aio.ServicerContext[Any, Any]


class Methods:
    """Some of the service's methods.

    Args:
        scheduler: whom they ask.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def _engine(self, entry: Entry, brief: bool = False) -> engine_pb2.Engine:
        count = self._scheduler.leases.count(entry.supervisor.id)
        return convert.engine(entry, count, time.time(), brief or not callers.may_read_logs())

    def _entry_of(self, lease_id: str, engine_id: str) -> Entry:
        return self._scheduler.engines.get(self._scheduler.lease(lease_id).engine_id if lease_id else engine_id)

    def _model_of(self, lease_id: str, engine_id: str) -> str:
        return self._entry_of(lease_id, engine_id).wish.model

    def _check_wish(self, wish: Wish) -> None:
        """Check that whoever calls may use a model and its LoRA adapters, each by its path; raises `Denied`."""
        for model in (wish.model, *wish.lora.values()):
            callers.check_model(lambda model=model: model)  # type: ignore[misc]

    def _check_adapter(self, lease_id: str, engine_id: str, name: str) -> None:
        """Check that whoever calls may use a LoRA adapter by its name, if there is one; a token is for some paths.

        Raises:
            NotFound: there is none, or no such lease or engine.
            NotPossible: the engine is of an earlier vllmd.
            Denied: it is none of the token's.
        """
        if name:
            entry = self._entry_of(lease_id, engine_id)
            entry.check_adapter(name)
            callers.check_model(lambda: entry.wish.lora[name])
