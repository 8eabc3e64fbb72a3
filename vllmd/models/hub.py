"""Has the hub asked for a model that is not here, by a short-lived child under the engine's interpreter.

The daemon itself imports nothing for it and opens no connection. The child gets what engines get of the daemon's
environment, the hub's address and token among it, and a model's name as argument; what it prints is believed as little
as a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import pathlib
import selectors
import signal
import subprocess
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar

from vllmd.errors import Denied, InvalidRequest, NotFound, Unavailable, VllmdError
from vllmd.interpreter import Interpreter
from vllmd.models import checkpoint
from vllmd.models.checkpoint import Listing
from vllmd.tasks import in_thread, spawn

PATIENCE_SECONDS = 20.0
"""What a fetch may take: the start of an engine waits for it."""

RETRY_SECONDS = 60.0
"""How long a failure is taken for the answer to the next ask too, so that plans made anew do not wait again."""

_PROGRAM = pathlib.Path(__file__).with_name("hub_fetch.py")
_AT_ONCE = 3
_KEPT = 200
_MOST_WORDS = 200
_MOST_BYTES = 1 << 60
_MOST_OUTPUT_BYTES = 4 << 20
"""Of 2000 files."""
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
_OFF = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_USE_MODELSCOPE")
_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
_HALF_BYTES = {
    "F64": 16, "I64": 16, "U64": 16, "F32": 8, "I32": 8, "U32": 8, "F16": 4, "BF16": 4, "I16": 4, "U16": 4,
    "F8_E4M3": 2, "F8_E5M2": 2, "F8_E8M0": 2, "I8": 2, "U8": 2, "BOOL": 2, "F4": 1, "I4": 1, "U4": 1,
}  # fmt: skip

V = TypeVar("V")  # the PEP 695 form needs Python 3.12

_log = logging.getLogger(__name__)

Key = tuple[str, str]
"""A model's id and its revision."""

_asked: dict[Key, asyncio.Task[bool | VllmdError]] = {}
_listings: OrderedDict[Key, Listing] = OrderedDict()
_failed: OrderedDict[Key, float] = OrderedDict()
"""When."""
_places = asyncio.Semaphore(_AT_ONCE)


def is_offline(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the hub is not to be asked, by the variables that huggingface_hub and vLLM heed."""
    return any(environment.get(name, "").upper() in _TRUE for name in _OFF)


def known(model: str, revision: str = "") -> Listing | None:
    """Tell what the hub said of a model's files when it was asked last."""
    return _listings.get((model, revision))


async def fetch(model: str, revision: str, interpreter: Interpreter) -> bool:
    """Have a model's configuration fetched into the cache; asks for the same model share one child.

    Args:
        model: a hub id.
        revision: empty for the default.
        interpreter: one that has huggingface_hub.

    Returns:
        Whether it worked; why not is logged.

    Raises:
        InvalidRequest: it is no model that vLLM could load.
        NotFound: the hub has no such model, or no such revision of it.
        Denied: it is gated, or the token is no good.
    """
    key = (model, revision)
    if model.startswith("/") or is_offline() or _failed_lately(key):
        return False
    if key not in _asked:
        task = _asked[key] = spawn(f"fetch {model}", _fetch(key, interpreter))
        task.add_done_callback(lambda _: _asked.pop(key, None))
    answer = await asyncio.shield(_asked[key])  # one who is cancelled takes it from no other
    if isinstance(answer, VllmdError):
        raise answer
    return answer


def _failed_lately(key: Key) -> bool:
    return time.monotonic() - _failed.get(key, -RETRY_SECONDS) < RETRY_SECONDS


async def _fetch(key: Key, interpreter: Interpreter) -> bool | VllmdError:
    """Have it fetched; an error that is certain is returned, since several may wait for it."""
    model = key[0]
    try:
        async with _places:
            run = functools.partial(_run, key, interpreter)
            answer = await in_thread(f"asking the hub for {model}", run, 2 * PATIENCE_SECONDS)
        refusal = _refusal(key, str(answer.get("failure") or ""))
        if refusal is not None:
            return refusal
        if "failure" in answer:
            raise ValueError(str(answer.get("why"))[:_MOST_WORDS])
        listing = read_listing(answer)
    except (OSError, ValueError, RecursionError, Unavailable) as error:
        _log.warning("the configuration of %s can't be fetched from the hub: %s", model, error)
        _keep(_failed, key, time.monotonic())
        return False
    instead = checkpoint.why_no_model(listing.sizes)
    if instead is not None and not {"config.json", "params.json"} & set(listing.sizes):
        return InvalidRequest("MODEL_UNSUPPORTED", f"{model} is {instead}.", model=model)
    _keep(_listings, key, listing)
    _log.info("the configuration of %s was fetched from the hub", model)
    return True


def _run(key: Key, interpreter: Interpreter) -> Mapping[str, Any]:
    """Run the child, and read what it says.

    Raises:
        OSError: it can't be run.
        ValueError: it took too long, or said nothing that makes sense.
    """
    with subprocess.Popen(
        [str(interpreter.path), str(_PROGRAM), str(int(PATIENCE_SECONDS) + 5), *filter(None, key)],
        cwd="/",
        env=interpreter.environment() | _QUIET,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # Not for our log: an exception's text may quote what was sent. What matters is on standard output.
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            output = _output(process, time.monotonic() + PATIENCE_SECONDS)
        finally:
            if process.poll() is None:  # with all that it has started, since the interpreter may be a script
                os.killpg(process.pid, signal.SIGKILL)
    try:
        answer = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        raise ValueError(f"{interpreter.path} ended with status {process.returncode} and no answer") from None
    if not isinstance(answer, dict):
        raise ValueError(f"{interpreter.path} gave an answer that is none")
    return answer


def _output(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Read what a process prints, and wait for its end.

    Raises:
        ValueError: it takes too long, or prints more than makes sense.
    """
    assert process.stdout is not None
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(deadline - time.monotonic()):
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            output += chunk
            if len(output) > _MOST_OUTPUT_BYTES:
                raise ValueError(f"an answer of more than {_MOST_OUTPUT_BYTES} bytes")
            if not chunk:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
                    return output
                break
    raise ValueError(f"no answer for {PATIENCE_SECONDS:g} s")


def read_listing(answer: Mapping[str, Any]) -> Listing:
    """Read what the child says of a model's files, leaving out what makes no sense."""
    parameters = _numbers(answer.get("parameters"))
    by_dtype = {name: count * _HALF_BYTES[name] // 2 for name, count in parameters.items() if name in _HALF_BYTES}
    complete = by_dtype if len(by_dtype) == len(parameters) else {}
    return Listing(sizes=_numbers(answer.get("files")), bytes_by_dtype=complete)


def _numbers(value: object) -> dict[str, int]:
    items = value.items() if isinstance(value, dict) else ()
    return {name: size for name, size in items if type(size) is int and 0 <= size <= _MOST_BYTES and "/" not in name}


def _refusal(key: Key, failure: str) -> VllmdError | None:
    """Put a failure that is certain as an error; `None` for one that may pass, or matter to the hub alone."""
    model, revision = key
    page = "accept its license on its page, and start the daemon with an HF_TOKEN that may read it"
    match failure:
        case "gated":
            return Denied("MODEL_GATED", f"{model} is gated on the hub: {page}.", model=model)
        case "denied":
            message = f"The hub takes the daemon's HF_TOKEN for none, so {model} can't be read: give it a valid one."
            return Denied("MODEL_GATED", message, model=model)
        case "missing":
            message = f"The hub has no {model}, or it is private and the daemon has no HF_TOKEN that may read it."
            return NotFound("MODEL_NOT_FOUND", message, model=model)
        case "revision":
            message = f"{model} has no revision {revision or 'main'} on the hub."
            return NotFound("MODEL_NOT_FOUND", message, model=model, revision=revision)
        case _:
            return None


def _keep(kept: OrderedDict[Key, V], key: Key, value: V) -> None:
    """Keep a value for as many models as there may be of interest."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _KEPT:
        kept.popitem(last=False)
