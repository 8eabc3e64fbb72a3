"""Where nothing fits: what would make it fit. Each remedy is tried, by planning once more as if it had been taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vllmd.gpu.inventory import Gpu, GpuLink
from vllmd.planner import planning
from vllmd.planner.choice import PARALLEL_SIZES, Infeasible, Remedy
from vllmd.planner.planning import Plan
from vllmd.planner.request import Request, Tenant
from vllmd.planner.topology import Topology, alike

MOST = 5
"""How many remedies are named."""

_OF_MEMORY = frozenset({"GPU_MEMORY_EXHAUSTED", "KV_CACHE_TOO_SMALL", "MODEL_TOO_LARGE"})
_COUNTS = (2, 4, 8, 16)
"""Of GPUs, as hosts have them."""


def plan(request: Request) -> Plan | Infeasible:
    """Plan one engine, and where there is no plan say what would help."""
    found = planning.plan(request)
    if isinstance(found, Plan) or found.reason not in _OF_MEMORY:
        return found
    remedies = tuple(remedy for _, remedy in zip(range(MOST), _all(request), strict=False))
    return dataclasses.replace(found, remedies=remedies)


def _all(request: Request) -> Iterator[Remedy]:
    yield from _fewer_tokens(request)
    yield from _smaller_share(request)
    packed = [("kv_cache_dtype", "fp8"), ("quantization", "fp8"), ("enforce_eager", True)]
    possible = [(name, value) for name, value in packed if name not in request.wanted]
    helped = False
    for name, value in possible:
        for remedy in _with(request, {name: value}):
            helped = True
            yield remedy
    if not helped and len(possible) > 1:
        yield from _with(request, dict(possible))
    yield from _without_engines(request)
    yield from _more_gpus(request)


def _with(request: Request, arguments: Mapping[str, Any]) -> Iterator[Remedy]:
    """Try some arguments beside what is set."""
    found = planning.plan(dataclasses.replace(request, client={**request.client, **arguments}))
    if isinstance(found, Plan):
        text = " and ".join(f"{name}={str(value).lower()}" for name, value in arguments.items())
        length = found.engine_args.get("max_model_len")
        reach = f" (a context of {length})" if length and "max_model_len" not in request.wanted else ""
        yield Remedy(f"{text}{reach}", dict(arguments))


def _without(request: Request, name: str) -> Plan | None:
    """Try to leave an argument open that is set."""
    client = {other: value for other, value in request.client.items() if other != name}
    host = {other: value for other, value in request.host.items() if other != name}
    found = planning.plan(dataclasses.replace(request, client=client, host=host))
    return found if isinstance(found, Plan) else None


def _fewer_tokens(request: Request) -> Iterator[Remedy]:
    found = _without(request, "max_model_len") if "max_model_len" in request.wanted else None
    length = found.engine_args.get("max_model_len") if found is not None else None
    if isinstance(length, int) and length > 0:
        yield Remedy(f"max_model_len={length}", {"max_model_len": length})


def _smaller_share(request: Request) -> Iterator[Remedy]:
    name = "gpu_memory_utilization"
    found = _without(request, name) if name in request.wanted else None
    if found is not None:
        share = found.engine_args[name]
        yield Remedy(f"{name}={share:g}", {name: share})


def _without_engines(request: Request) -> Iterator[Remedy]:
    """Find the engine, or else the engines from the largest on, that would have to leave."""
    tenants = sorted(request.tenants, key=lambda tenant: sum(tenant.used_bytes.values()))
    for tenant in tenants:
        if isinstance(planning.plan(left(request, (tenant,))), Plan):
            yield Remedy(f"stopping engine {tenant.name}", engines=(tenant.name,))
            return
    leaving: tuple[Tenant, ...] = ()
    for tenant in reversed(tenants):
        leaving = (*leaving, tenant)
        if isinstance(planning.plan(left(request, leaving)), Plan):
            names = tuple(one.name for one in leaving)
            yield Remedy(f"stopping engines {', '.join(names)}", engines=names)
            return


def left(request: Request, tenants: Iterable[Tenant]) -> Request:
    """See the GPUs as they would be without some engines."""
    gone = tuple(tenants)
    return dataclasses.replace(request, gpus=tuple(_emptied(gpu, gone) for gpu in request.gpus))


def _emptied(gpu: Gpu, tenants: tuple[Tenant, ...]) -> Gpu:
    given = min(gpu.used_bytes, sum(tenant.used_bytes.get(gpu.uuid, 0) for tenant in tenants))
    return dataclasses.replace(gpu, used_bytes=gpu.used_bytes - given, free_bytes=gpu.free_bytes + given)


def _more_gpus(request: Request) -> Iterator[Remedy]:
    """Find how many GPUs like those of the best group would do, if they were all as free as the freest of them."""
    if any(name in request.wanted for name in PARALLEL_SIZES):
        return
    group = alike(request.gpus)[0]
    if group[0].mig_parent:
        return
    freest = max(group, key=lambda gpu: gpu.free_bytes)
    joined = Topology(request.links).all_joined(group)
    for count in (count for count in _COUNTS if count > len(group)):
        gpus = tuple(dataclasses.replace(freest, uuid=f"GPU-{n}", index=n) for n in range(count))
        links = _full_mesh(gpus) if joined else ()
        if isinstance(planning.plan(dataclasses.replace(request, gpus=gpus, links=links)), Plan):
            yield Remedy(f"{count} GPUs of this kind ({freest.product})")
            return


def _full_mesh(gpus: tuple[Gpu, ...]) -> tuple[GpuLink, ...]:
    return tuple(
        GpuLink(one.uuid, other.uuid, nvlinks=1) for index, one in enumerate(gpus) for other in gpus[index + 1 :]
    )
