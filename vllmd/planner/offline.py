"""Plans without a daemon: finds the model and the GPUs by itself, and says what it could not find.

The model is a folder or a hub id. What is in the hub's cache is read from there; what is not is asked for by a child
of this interpreter, as the daemon does, if huggingface_hub is installed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import functools
import importlib.util
import os
import pathlib
import sys
import threading
from collections.abc import Mapping
from typing import Any

from vllmd.errors import InvalidRequest, Unavailable
from vllmd.gpu import products
from vllmd.gpu.inventory import Inventory
from vllmd.gpu.nvml import Nvml
from vllmd.interpreter import Interpreter
from vllmd.models import files
from vllmd.models.facts import ModelFacts
from vllmd.models.layers import Kind
from vllmd.planner import describe, remedies
from vllmd.planner.choice import Infeasible, gib
from vllmd.planner.host_gpus import HostGpus
from vllmd.planner.planning import Plan
from vllmd.planner.request import Program, Request

_asking = threading.Lock()
"""Asks of the hub share what they learn, within one event loop at a time."""

_OTHER_GPUS = "to plan for others, name them: {}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it, and from what."""

    found: Plan | Infeasible
    model: str
    """A hub id, or an absolute path."""
    facts: ModelFacts | None
    gpus: HostGpus
    use_case: str | None
    notes: tuple[str, ...] = ()
    """What is to be known beside the choices."""

    @property
    def reasons(self) -> list[str]:
        """Why it is so, one text each."""
        return describe.reasons(self.found, self.notes)

    def document(self) -> dict[str, Any]:
        """Put all of it into one object for JSON."""
        return describe.document(
            self.found,
            model=self.model,
            facts=self.facts,
            use_case=self.use_case,
            gpus=self.gpus.inventory.gpus,
            hardware=str(self.gpus),
            notes=self.notes,
        )


def work_out(
    model: str,
    engine_args: Mapping[str, Any],
    *,
    revision: str = "",
    use_case: str | None = None,
    gpus: HostGpus | None = None,
    auto: bool = True,
    program: Program = "engine",
    otherwise: str = "gpus=",
) -> Outcome:
    """Plan one engine.

    Args:
        model: a folder or a hub id.
        engine_args: what is set.
        revision: of a hub id; empty for the default.
        use_case: what for.
        gpus: where; `None` for those of this host.
        auto: whether to choose what is left open.
        program: who is to start vLLM.
        otherwise: how a caller names other GPUs, for the text that says that there are none.

    Raises:
        InvalidRequest: it is no model, or its configuration is none.
        NotFound: there is no such model.
        Denied: the hub does not let us have it.
        Unavailable: NVML does not say which GPUs there are.
    """
    notes = []
    if gpus is None:
        gpus = detect()
        if not gpus:
            notes.append(f"{_none(gpus)}, so this is for the CPU; {_OTHER_GPUS.format(otherwise + '2xRTX3090')}")
    named = name_of(model)
    facts, unknown = find(named, revision)
    notes += [unknown] if unknown else []
    if facts is not None and facts.weights_note:
        counted = ", so they are counted from config.json" if facts.parameters else ""
        notes.append(f"weights: {facts.weights_note}{counted}")
    missing = _not_said(facts) if facts is not None else []
    if missing:
        notes.append(
            f"the model's configuration does not say {', '.join(missing)}: what fits is not known before a load"
        )
    request = Request(
        client=engine_args,
        use_case=use_case,
        facts=facts,
        gpus=gpus.inventory.gpus,
        links=gpus.inventory.links,
        auto=auto,
        program=program,
    )
    found = remedies.plan(request)
    notes += _tight(found)
    if isinstance(found, Plan) and found.left_open and facts is not None:
        left = " and ".join(f"{name} ({value})" for name, value in found.left_open.items())
        notes.append(f"left to vLLM: {left}, by its defaults")
    return Outcome(found=found, model=named, facts=facts, gpus=gpus, use_case=use_case, notes=tuple(notes))


def detect() -> HostGpus:
    """Ask NVML for this host's GPUs, those that `CUDA_VISIBLE_DEVICES` leaves, with what is free now."""
    nvml = Nvml(os.environ.get("CUDA_VISIBLE_DEVICES"))
    try:
        return HostGpus(_certain(nvml.snapshot()))
    finally:
        nvml.close()


def parse(text: str) -> HostGpus:
    """Make the GPUs that a text such as `2xRTX3090` names.

    Raises:
        InvalidRequest: it is no such text, or there is no such product; the nearest is named.
    """
    try:
        return HostGpus(products.inventory(text))
    except ValueError as error:
        raise InvalidRequest("INVALID_GPUS", f"{error}.", gpus=text) from error


def name_of(model: str) -> str:
    """Make a path that a person typed absolute, and leave a hub id as it is."""
    path = pathlib.Path(model).expanduser()
    is_path = model.startswith(("/", "./", "../", "~")) or model in (".", "..") or model.count("/") > 1
    if is_path or path.is_dir() or (path.suffix == ".gguf" and path.exists()):
        return os.path.abspath(path)
    return model


def find(model: str, revision: str = "") -> tuple[ModelFacts | None, str]:
    """Read a model's facts; without them, say in a phrase why.

    Raises:
        InvalidRequest: it is no model, or its configuration is none.
        NotFound: there is no such model.
        Denied: the hub does not let us have it.
    """
    directory = files.locate(model, revision)
    if directory is not None:
        return files.read_facts(directory), ""
    unknown = f"{model} is not in the hub's cache, so nothing is known of it"
    if importlib.util.find_spec("huggingface_hub") is None:
        return None, f"{unknown}; with huggingface_hub installed here it would be asked for"
    this = Interpreter(pathlib.Path(sys.executable), ("*",))
    ask = functools.partial(files.facts_of, model, revision, this)
    with _asking, concurrent.futures.ThreadPoolExecutor(1) as thread:  # the caller's may have an event loop already
        facts = thread.submit(lambda: asyncio.run(ask())).result()
    return facts, "" if facts is not None else f"{unknown}, and the hub was not asked or did not answer"


def _not_said(facts: ModelFacts) -> list[str]:
    """Name the fields without which nothing can be worked out and that a model's configuration lacks."""
    read = {
        "num_hidden_layers": facts.layers,
        "hidden_size": facts.hidden_size,
        "num_attention_heads": facts.attention_heads or facts.counted[Kind.STATE],
        "vocab_size": facts.vocabulary,
    }
    return [name for name, value in read.items() if not value]


def _tight(found: Plan | Infeasible) -> list[str]:
    """Warn where what was set comes to more than the GPU has: what is on top of a share is an estimate."""
    memory = found.memory if isinstance(found, Plan) else None
    if memory is None or memory.free >= 0:
        return []
    return [f"this may run out of memory: it comes to {gib(-memory.free)} more than the fullest GPU has"]


def _certain(inventory: Inventory) -> Inventory:
    """Refuse to take GPUs that can't be read for none: what follows is for the CPU then."""
    if not inventory.available:
        raise Unavailable("NVML_UNAVAILABLE", f"The GPUs can't be asked for: {inventory.error}.")
    if inventory.unread and not inventory.gpus:
        raise Unavailable("GPU_LOST", f"None of this host's GPUs can be read: {inventory.unread[0].error}.")
    return inventory


def _none(gpus: HostGpus) -> str:
    return f"no GPU on this host ({gpus.inventory.error or 'NVML finds none'})"
