"""What is checked and put right in a client's arguments before vLLM sees them; knows values and type hints only."""

from __future__ import annotations

import difflib
import math
import re
import signal
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from .backend import Impossible, InvalidRequest
from .causes import text_of

_MSGSPEC_PATH = re.compile(r"^(.*) - at (?:`(?:key|value)` in )?`\$\.?(.*)`$", re.DOTALL)
_MOST_SHOWN = 8

CLIENT_ERRORS = {"VLLMClientError", "ValueError", "TypeError", "ValidationError"}
"""What vLLM raises for a request that it refuses: the first since 0.27, the rest before and beside it."""


def refuse_unknown(given: Iterable[str], known: Collection[str], kind: str) -> None:
    """Refuse names that are not *known*, with those that come closest; *kind* says what they name.

    Raises:
        ValueError: some are unknown.
    """
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"no such {kind}: " + "; ".join(_with_closest(name, known) for name in unknown))


def _with_closest(name: str, known: Collection[str]) -> str:
    closest = difflib.get_close_matches(name, known, n=3)
    return f"{name!r} (did you mean {' or '.join(map(repr, closest))}?)" if closest else repr(name)


def integral(values: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Turn whole floats into ints where the hint of that name asks for ints: protobuf's `Struct` has floats only."""
    return {name: _integral(value, hints.get(name)) for name, value in values.items()}


def _integral(value: Any, hint: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and takes_int(hint):
        return int(value)
    if isinstance(value, list) and value:
        element = next((arg for option in _options(hint) for arg in typing.get_args(option)), None)
        return [_integral(item, element) for item in value]
    return value


def takes_int(hint: Any) -> bool:
    """Tell whether *hint* takes an int, but no float and no bool."""
    options = _options(hint)
    return float not in options and any(_is_int(option) for option in options)


def _options(hint: Any) -> tuple[Any, ...]:
    """Split a union into its members; anything else is its own only one."""
    if typing.get_origin(hint) is typing.Annotated:
        return _options(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(member for arg in typing.get_args(hint) for member in _options(arg))
    return (hint,)


def _is_int(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Literal:
        return all(type(value) is int for value in typing.get_args(hint))
    return isinstance(hint, type) and issubclass(hint, int) and hint is not bool


def refuse_not_finite(values: Mapping[str, Any]) -> None:
    """Refuse NaN and infinities: older vLLM computes with them.

    Raises:
        ValueError: a value is not finite.
    """
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}: {value} is not a finite number")


def refuse_foreign_tokens(name: str, token_ids: Sequence[int], vocab_size: int) -> None:
    """Refuse token ids that the model's embedding has no row for.

    Raises:
        InvalidRequest: some are outside the vocabulary.
    """
    # min() and max() run in C: the prompt may have a million tokens, and this is the event loop.
    if token_ids and not (min(token_ids) >= 0 and max(token_ids) < vocab_size):
        foreign = [token for token in token_ids if not 0 <= token < vocab_size]
        shown = ", ".join(map(str, foreign[:_MOST_SHOWN])) + (", …" if len(foreign) > _MOST_SHOWN else "")
        message = f"{name}: token ids outside the model's vocabulary of {vocab_size}: {shown}"
        raise InvalidRequest(message, "TOKEN_OUT_OF_VOCABULARY", field=name, token_id=foreign[0], vocab_size=vocab_size)


def refuse_priority(priority: int, policy: str) -> None:
    """Refuse a priority that vLLM takes and ignores, as it does unless its scheduling policy is to heed it.

    Raises:
        Impossible: that is not its *policy*.
    """
    if priority and policy != "priority":
        message = (
            f"priority: the engine's scheduling_policy is {policy}: load the model with scheduling_policy priority"
        )
        raise Impossible(message, "PRIORITY_UNSUPPORTED", priority=priority, scheduling_policy=policy)


def is_a(error: BaseException, names: Collection[str]) -> bool:
    """Tell whether a class of *error* has one of *names*: where vLLM keeps its classes differs by version."""
    return any(kind.__name__ in names for kind in type(error).__mro__)


def client_text(error: BaseException) -> str:
    """Say what is wrong with a request, from the exception that refused it."""
    # Of vLLM's own the text alone, without the value that it quotes, which may be all of a prompt.
    text = str(error.args[0]) if hasattr(error, "parameter") and error.args else text_of(error)
    if found := _MSGSPEC_PATH.match(text):
        said, path = found.groups()
        return f"{path}: {said[:1].lower()}{said[1:]}"
    return text


def describe_exit(name: str, code: int) -> str:
    """Say how a process ended, from `multiprocessing`'s exit code (negative: the signal)."""
    if code >= 0:
        return f"{name} ended with exit code {code}; the engine's log has the cause"
    try:
        return f"{name} was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"{name} was killed by signal {-code}"
