"""Why an engine failed, read from its log.

EngineCore's real error exists only there: the process that embeds vLLM is told that "engine core
initialization failed" and no more.
"""

from __future__ import annotations

import dataclasses
import errno
import pathlib
import re
from collections.abc import Sequence

from vllmd import catalog
from vllmd.engines.known_errors import recognize
from vllmd.errors import EngineFailed, VllmdError

READ_LINES = 2000
"""How many of a log are read: an mp worker's traceback alone may take some hundred, and the first error counts."""
QUOTED_LINES = 20
_QUOTED_AFTER = 3
_LAST_WORDS = 300
"""How many lines before a death can be about it; errors before these were some request's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why an engine failed, for programs and for people."""

    reason: str
    message: str
    log_lines: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    invalid: bool = False
    """True if the request was wrong, so that another try can't help."""


_ERROR = re.compile(r"(?:^|\s)((?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|NotFound)): (.+)")
_PYDANTIC = re.compile(r"validation errors? for \w+\n\s*Value error, (.*?)(?: \[type=|\n|$)")
_PYDANTIC_LINK = re.compile(r"\s*For further information visit https://errors\.pydantic\.dev/\S+")
_WRAPPER = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|Worker failed with error|"
    r"EngineCore encountered an issue|EngineDeadError|process group has NOT been destroyed"
)
_HOW = re.compile(r"killed by signal (?P<signal>\d+)|exited with status (?P<exit_status>\d+)")
_HARMLESS = re.compile(r"(?:^|\) )(?:DEBUG|INFO|WARNING) ")
"""Before what vLLM can do without."""


def root_cause(lines: Sequence[str]) -> str | None:
    """Find the error that started it all: the first one that is not vLLM's word for another's."""
    serious = (line for line in lines if not _WRAPPER.search(line) and not _HARMLESS.search(line))
    return next((match[0].strip() for line in serious if (match := _ERROR.search(line))), None)


def load_failure(lines: Sequence[str], errors: Sequence[str], ended: str) -> Failure:
    """Explain a start that failed.

    Args:
        lines: the end of the engine's log.
        errors: what the worker raised and what caused that, outermost first; nothing if it could not say.
        ended: how the worker ended, such as `was killed by signal 9`.
    """
    # What the worker itself raised is the cause, unless that is vLLM's word for something in EngineCore.
    own = [_plain(error) for error in errors if not _WRAPPER.search(error)]
    cause = own[0] if own and len(own) == len(errors) else root_cause(lines) or (own[0] if own else None)
    quoted = _quote(lines, cause)
    if cause is None:
        return Failure("ENGINE_EXITED", f"The engine's worker {ended} while it was starting.", quoted, _how(ended))
    known = recognize(cause, "\n".join((*errors, *lines)))
    if known is None:
        return Failure("ENGINE_START_FAILED", _sentence(cause), quoted)
    message = " ".join(filter(None, (_sentence(cause), known.hint)))
    return Failure(known.reason, message, quoted, known.numbers, known.invalid)


def _quote(lines: Sequence[str], cause: str | None) -> tuple[str, ...]:
    """Quote the lines around the cause, or the last ones: vLLM logs hundreds of lines after a cause."""
    found = next((index for index, line in enumerate(lines) if cause is not None and cause in line), len(lines))
    end = min(len(lines), found + _QUOTED_AFTER)
    return tuple(lines[max(0, end - QUOTED_LINES) : end])


def _plain(error: str) -> str:
    """Take vLLM's own words out of pydantic's, which validates its configuration."""
    match = _PYDANTIC.search(error)
    return match[1] if match else _PYDANTIC_LINK.sub("", error)


def not_spawned(error: OSError, root: pathlib.Path) -> Failure:
    """Explain why no worker could be started; *root* is the directory of engines' directories."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"There is no room left for the engine's own files: make some on the disk of {root}."
        return Failure("DISK_FULL", message, metadata=(("path", str(root)),))
    return Failure("SPAWN_FAILED", f"The engine's worker can't be started: {error}.")


def death(lines: Sequence[str], what: str) -> Failure:
    """Explain the death of an engine that was ready; *what* says what was seen of it."""
    cause = root_cause(lines[-_LAST_WORDS:])
    message = f"The engine died: {what}." + (f" Its log says: {_sentence(cause)}" if cause else "")
    return Failure("ENGINE_DIED", message, tuple(lines[-QUOTED_LINES:]), _how(what))


def late(lines: Sequence[str], seconds: float, phase: str) -> Failure:
    """Explain a start that took too long; *phase* says what it was busy with."""
    message = f"The engine was not ready after {seconds:g} s ({phase}). Raise --load-timeout."
    return Failure("START_TIMEOUT", message, tuple(lines), (("seconds", f"{seconds:g}"), ("phase", phase)))


def stall(lines: Sequence[str], why: str) -> Failure:
    """Explain the end of an engine that hung, as *why* says."""
    return Failure("ENGINE_STALLED", f"The engine hung and was killed: {why}.", tuple(lines), (("error", why),))


def gpu_lost(which: str, how: str, advice: str) -> Failure:
    """Explain the end of an engine by that of its GPU.

    Args:
        which: the GPU.
        how: how that is known.
        advice: what an operator can do.
    """
    return Failure(
        "GPU_LOST", f"{which} fell off the bus ({how}): {advice}.", metadata=(("gpu", which), ("error", how))
    )


def to_error(failure: Failure, engine_id: str = "", *, final: bool = False) -> VllmdError:
    """Make of a failure the error that a client gets: of the class that its reason has in the catalogue.

    Args:
        failure: it.
        engine_id: whose; empty for an engine that would fail.
        final: whether that engine stays as it is, whatever passes.
    """
    metadata = dict(failure.metadata) | ({"engine": engine_id} if engine_id else {})
    entry = catalog.find(failure.reason)
    if entry is None or entry.error is EngineFailed:
        return EngineFailed(failure.reason, failure.message, failure.log_lines, **metadata)
    error = entry.error(failure.reason, failure.message, **metadata)
    if final:
        error.retry_seconds = None
    elif entry.retry_seconds is not None:
        error.retry_seconds = entry.retry_seconds
    return error


def _how(ended: str) -> tuple[tuple[str, str], ...]:
    """Take the number out of how a worker ended."""
    match = _HOW.search(ended)
    return tuple((name, number) for name, number in match.groupdict().items() if number) if match else ()


def _sentence(cause: str) -> str:
    cause = cause if len(cause) <= 600 else cause[:597] + "…"
    return cause if cause.endswith((".", "…", "!")) else cause + "."
