"""Real models, by the configurations in `tests/data/models`, and requests to plan one of them on a host."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from vllmd.gpu import products
from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts, read
from vllmd.planner.planning import Plan, plan
from vllmd.planner.request import Request

_MODELS = pathlib.Path(__file__).parents[1] / "data" / "models"


@functools.cache
def facts(name: str) -> ModelFacts:
    """What is known of a model."""
    return read(json.loads((_MODELS / name / "config.json").read_text()))


def held(gpu: Gpu, share: float) -> Gpu:
    """A GPU of which others hold a share of what was free."""
    taken = int(gpu.free_bytes * share)
    return dataclasses.replace(gpu, used_bytes=gpu.used_bytes + taken, free_bytes=gpu.free_bytes - taken)


def asked(
    there: str, model: str | None = "llama-3.1-8b", /, taken: Mapping[int, float] | None = None, **request: Any
) -> Request:
    """Ask for a plan on a host such as `2xRTX3090`; *taken* is the share of each GPU that others hold, by index."""
    host = products.inventory(there)
    gpus = tuple(held(gpu, (taken or {}).get(gpu.index, 0.0)) for gpu in host.gpus)
    known = facts(model) if model is not None else None
    return Request(**{"facts": known, "gpus": gpus, "links": host.links, **request})


def planned(request: Request) -> Plan:
    """Make a plan that has to be possible."""
    found = plan(request)
    assert isinstance(found, Plan), found
    return found
