"""What a plan is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from vllmd.gpu.inventory import Gpu, GpuLink
from vllmd.models.facts import ModelFacts
from vllmd.planner.lora import NONE, Adapters
from vllmd.planner.profile import Lookup, nothing_known

Program = Literal["engine", "llm"]
"""Who starts vLLM, which decides its defaults: an embedded `AsyncLLM`, as a worker here, or the class `vllm.LLM`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tenant:
    """An engine that has memory on some GPUs, and could leave."""

    name: str
    used_bytes: Mapping[str, int]
    """By the GPU's UUID."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One engine to plan, and what is known for it."""

    client: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Engine arguments that the caller set, by vLLM's names: honored or refused, never changed."""
    host: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Those that this host's configuration sets where the caller does not."""
    use_case: str | None = None
    """One of `use_cases.USE_CASES`."""
    facts: ModelFacts | None = None
    """The model; `None` if it has yet to be fetched."""
    gpus: tuple[Gpu, ...] = ()
    """Those that may be used, with what is free now; none means the CPU."""
    links: tuple[GpuLink, ...] = ()
    auto: bool = True
    """Whether to choose what is left open."""
    program: Program = "engine"
    profiles: Lookup = nothing_known
    tenants: tuple[Tenant, ...] = ()
    adapters: Adapters = NONE
    """LoRA adapters that it is to have."""

    @property
    def wanted(self) -> dict[str, Any]:
        """What caller and host set, together."""
        return {**self.host, **self.client}
