"""What a client asks for, and whether an engine is that."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from vllmd.planner.arguments import SIZING


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """A model and how the client wants it."""

    model: str
    revision: str = ""
    engine_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """By vLLM's names; kept or refused, never changed."""
    auto_config: bool = True
    use_case: str = ""
    """What for; empty for nothing in particular."""
    lora: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """LoRA adapters that requests may name: their directories, by name."""

    @property
    def wanted_args(self) -> dict[str, Any]:
        """The client's arguments, with the revision among them."""
        return dict(self.engine_args) | ({"revision": self.revision} if self.revision else {})


def satisfies(made_for: Wish, effective: Mapping[str, Any] | None, wish: Wish) -> bool:
    """Tell whether an engine is what *wish* asks for.

    Args:
        made_for: the wish that the engine was started for.
        effective: its engine arguments; `None` before it has a plan.
        wish: what is wanted now. A use case that it names must be the engine's. What it leaves open may have any value
            that the plan chose, or that another client set if that is a matter of size alone: nobody is answered by a
            model that somebody else has altered. LoRA adapters that others asked for alter nothing for who names none.
    """
    if (made_for.model, made_for.revision) != (wish.model, wish.revision):
        return False
    if wish.use_case and wish.use_case != made_for.use_case:
        return False
    if not wish.lora.items() <= made_for.lora.items():
        return False
    if _canonical(made_for.wanted_args) == _canonical(wish.wanted_args) and made_for.auto_config == wish.auto_config:
        return True
    if not wish.auto_config or not made_for.auto_config:
        return False
    if not made_for.wanted_args.keys() - SIZING <= wish.wanted_args.keys():
        return False
    have = dict(effective or made_for.wanted_args)
    return all(name in have and _canonical(have[name]) == _canonical(value) for name, value in wish.wanted_args.items())


def make_id(model: str, taken: set[str]) -> str:
    """Make up an engine id from a model's name: at most 20 of `a-z0-9-`, such as `qwen3-8b-3f2a`."""
    name = re.sub(r"[^a-z0-9]+", "-", model.rstrip("/").rpartition("/")[2].lower()).strip("-")[:15].strip("-")
    while True:
        engine_id = f"{name or 'engine'}-{secrets.token_hex(2)}"
        if engine_id not in taken:
            return engine_id


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
