"""What a wish would come to at this moment: reads what a plan needs, and plans."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from vllmd.engines.diagnosis import Failure
from vllmd.engines.ground import Ground
from vllmd.errors import Denied, InvalidRequest, NotFound, NotPossible, VllmdError
from vllmd.gpu.inventory import Gpu, GpuLink, Inventory
from vllmd.gpu.quarantine import Quarantines
from vllmd.models import adapters, files
from vllmd.models.facts import ModelFacts
from vllmd.planner.choice import Infeasible
from vllmd.planner.lora import Adapters
from vllmd.planner.planning import Plan
from vllmd.planner.profile import nothing_known
from vllmd.planner.remedies import left, plan
from vllmd.planner.request import Request, Tenant
from vllmd.scheduler.entry import Entry, owners
from vllmd.scheduler.wish import Wish

_FETCHED_OTHERWISE = frozenset({"hf_token", "download_dir"})
"""Engine arguments by which a model comes from elsewhere than the hub's cache, or with other rights."""


class Prospects:
    """Plans engines with what is free now.

    Args:
        ground: what engines share.
        quarantines: GPUs on which nothing is placed.
    """

    def __init__(self, ground: Ground, quarantines: Quarantines) -> None:
        self._ground = ground
        self._quarantines = quarantines

    async def plan(
        self,
        wish: Wish,
        busy: Collection[str] | None,
        engines: Sequence[Entry],
        gone: Collection[str] = (),
    ) -> Plan | Failure:
        """Plan an engine.

        Args:
            wish: what is wanted.
            busy: UUIDs of the GPUs on which an engine starts or ends, where a look tells nothing for long; `None` to
                learn nothing from the look, as nothing may come of it.
            engines: those that have not ended, and could make room.
            gone: ids of engines that are seen as if they had left already.
        """
        try:  # before the GPUs are looked at, since the hub may take its time
            facts = await self._facts_of(wish)
            rank = await self._rank_of(wish)
        except VllmdError as error:
            invalid = isinstance(error, InvalidRequest | NotFound | NotPossible | Denied)
            return Failure(error.reason, error.message, (), tuple(error.metadata.items()), invalid)
        inventory = await self._ground.monitor.snapshot()
        if not inventory.available:
            message = f"The GPUs can't be asked for: {inventory.error}."
            return Failure("NVML_UNAVAILABLE", message, (), (("error", inventory.error),))
        for gpu in inventory.gpus:
            if busy is not None and gpu.uuid not in busy and gpu.uuid not in self._quarantines:
                self._ground.ledger.observe(gpu)
        lost = frozenset(loss.uuid for loss in self._ground.losses.all())
        free = [gpu for gpu in inventory.gpus if gpu.uuid not in self._quarantines and gpu.uuid not in lost]
        if not free and (lost or self._ground.losses.is_incomplete(inventory)):  # or it would start on the CPU
            return Failure("GPU_LOST", "Every GPU of this host is lost or in quarantine: vllmd-cli status says why.")
        if inventory.gpus and not free:
            return Failure("GPU_QUARANTINED", "Every GPU of this host is in quarantine: vllmd-cli status says why.")
        await self._ground.profiles.prepare()  # for lookups, which plans can't wait for
        request = self._request(wish, facts, Adapters(wish.lora, rank), free, inventory.links, engines)
        result = plan(left(request, (one for one in request.tenants if one.name in gone)))
        return result if isinstance(result, Plan) else self._failure(result, inventory, free, lost)

    def _failure(self, result: Infeasible, inventory: Inventory, free: Sequence[Gpu], lost: frozenset[str]) -> Failure:
        numbers = tuple((name, str(number)) for name, number in result.numbers.items())
        away = len(inventory.gpus) - len(free) + len(lost - {gpu.uuid for gpu in inventory.gpus})
        if result.reason == "NOT_ENOUGH_GPUS" and away:
            reason = "GPU_LOST" if lost else "GPU_QUARANTINED"
            message = f"{result.message} {away} more are lost or in quarantine: see vllmd-cli status."
            return Failure(reason, message, (), (*numbers, ("gpus_away", str(away))))
        remedies = (("remedies", result.help),) if result.remedies else ()
        return Failure(result.reason, result.advice, (), (*numbers, *remedies), result.invalid)

    async def _facts_of(self, wish: Wish) -> ModelFacts | None:
        if self._ground.backend != "vllm":
            try:  # a fake engine needs no model, and plans are as for the real one where there is one
                return await files.facts_of(wish.model, wish.revision)
            except VllmdError:
                return None
        set_here = {*wish.engine_args, *(self._ground.rules.engine_args if wish.auto_config else ())}
        interpreter = None if _FETCHED_OTHERWISE & set_here else self._ground.interpreter
        return await files.facts_of(wish.model, wish.revision, interpreter)

    async def _rank_of(self, wish: Wish) -> int | None:
        try:
            return await adapters.largest_rank(wish.lora) or None
        except VllmdError:
            if self._ground.backend == "vllm":
                raise
            return None  # a fake engine needs no adapters either

    def _request(
        self,
        wish: Wish,
        facts: ModelFacts | None,
        lora: Adapters,
        free: Sequence[Gpu],
        links: tuple[GpuLink, ...],
        engines: Sequence[Entry],
    ) -> Request:
        return Request(
            client=wish.wanted_args,
            host=self._ground.rules.engine_args if wish.auto_config else {},
            use_case=wish.use_case or self._ground.rules.use_case or "",
            facts=facts,
            gpus=_with_names(free, engines),
            links=links,
            auto=wish.auto_config,
            profiles=self._ground.profiles.lookup if self._ground.backend == "vllm" else nothing_known,
            tenants=self._tenants(engines, free),
            adapters=lora,
        )

    def _tenants(self, engines: Sequence[Entry], gpus: Sequence[Gpu]) -> tuple[Tenant, ...]:
        """Say which engines hold what, so that a plan can name those that are in the way.

        Where the driver does not say what processes hold, by what was seen to be taken when they were loaded.
        """
        tenants = []
        for one in (entry.supervisor for entry in engines):
            seen = self._ground.ledger.holding(one.id)
            held = {gpu.uuid: gpu.held_by(one.known_pids, seen.get(gpu.uuid, 0)) for gpu in gpus}
            if any(held.values()):
                tenants.append(Tenant(one.id, held))
        return tuple(tenants)


def _with_names(gpus: Sequence[Gpu], engines: Sequence[Entry]) -> tuple[Gpu, ...]:
    """Say of the processes on GPUs which engine they are of: nobody knows the pids of these."""
    names = owners(engines)
    return tuple(
        dataclasses.replace(
            gpu, processes=tuple(dataclasses.replace(one, engine=names.get(one.pid, "")) for one in gpu.processes)
        )
        for gpu in gpus
    )
