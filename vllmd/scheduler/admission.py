"""What is refused before anything is made for it: models that are not there, and arguments that no client may set."""

from __future__ import annotations

import functools

from vllmd.config import Live
from vllmd.models import adapters, files, roots
from vllmd.planner import arguments
from vllmd.scheduler.wish import Wish
from vllmd.tasks import in_thread
from vllmd.worker.spec import Backend

_PATIENCE_SECONDS = 10.0
"""What a file system gets to answer: one of the network may hang for ever."""


class Admission:
    """Looks at wishes.

    Args:
        backend: what engines are; the fake one knows no models, and arguments of its own.
        live: names the engine arguments that clients may set beyond the harmless ones, and where models may lie.
    """

    def __init__(self, backend: Backend, live: Live) -> None:
        self._backend = backend
        self._live = live

    async def look_for(self, wish: Wish) -> None:
        """Say before any start that there is no such model.

        Raises:
            Denied: it, or a LoRA adapter, is in a directory that this host loads nothing from.
            InvalidRequest: its name or revision can't be one, or an adapter is none.
            NotFound: it, or an adapter, is a directory that is not there.
            NotPossible: it is there, and the user that engines run as can't read it.
            Unavailable: its files do not answer.
        """
        allowed = self._live.rules.model_roots
        for path in filter(roots.is_path, (wish.model, *wish.lora.values())):  # of all, before anything is told of any
            if allowed:
                look = functools.partial(roots.check, path, allowed)
                await in_thread(f"looking where {path} is", look, _PATIENCE_SECONDS)
        if self._backend == "vllm":
            await files.check(wish.model, wish.revision)
            await adapters.largest_rank(wish.lora)

    def check(self, wish: Wish) -> None:
        """Refuse arguments that this host does not allow, and values that make no sense.

        Raises:
            InvalidRequest: with why, and the nearest that is allowed.
        """
        allowed = frozenset(self._live.rules.allowed_engine_args)
        if self._backend == "fake":  # its own are harmless where there is nothing but fake engines
            allowed |= {name for name in wish.engine_args if name.startswith("fake_")}
        arguments.check(wish.engine_args, allowed)
        arguments.check_values(wish.engine_args, allowed)
        files.check_revision(str(wish.engine_args.get("tokenizer_revision") or ""))
