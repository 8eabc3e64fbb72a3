"""Finds a model's files on this host: a directory, or a snapshot in the Hugging Face cache.

What is missing of a configuration `hub` fetches, if it may; vLLM fetches the weights, in the engine's processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence

from vllmd.errors import InvalidRequest, NotFound, VllmdError
from vllmd.interpreter import Interpreter
from vllmd.models import checkpoint, facts, hub, mistral, plain, readable
from vllmd.models.checkpoint import Listing
from vllmd.models.lengths import Beside, pools
from vllmd.tasks import in_thread

_log = logging.getLogger(__name__)

_CONFIG = "config.json"
_MISTRAL_CONFIG = "params.json"

_CONFIGS = (_CONFIG, _MISTRAL_CONFIG)

_MAX_CONFIG_BYTES = 1 << 20
"""The longest that are known have some 100 kB, of names for classes."""

_MAX_BESIDE_BYTES = 16 << 20
"""A tokenizer's may list thousands of tokens."""

_MAX_REFERENCE_BYTES = 1000
"""It holds the name of a commit."""

_FINGERPRINT_DIGITS = 16

_PATIENCE_SECONDS = 10.0
"""What a file system gets to answer: one of the network may hang for ever."""


def hub_cache(environment: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Tell where huggingface_hub keeps its snapshots, by the variables that it documents."""
    if cache := environment.get("HF_HUB_CACHE"):
        return pathlib.Path(cache)
    home = environment.get("HF_HOME") or os.path.join(
        environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    return pathlib.Path(home) / "hub"


async def check(model: str, revision: str = "") -> None:
    """Say at once that there can be no such model here, or that engines can't read it.

    Raises as `locate` does, `NotPossible` for files that the daemon's user can't read, and `Unavailable`.
    """
    await in_thread(f"looking for {model}", functools.partial(_check, model, revision), _PATIENCE_SECONDS)


def _check(model: str, revision: str) -> None:
    directory = locate(model, revision)
    if directory is not None:
        readable.check(model, (directory, *(directory / name for name in _CONFIGS), *checkpoint.weights(directory)))


async def facts_of(model: str, revision: str = "", interpreter: Interpreter | None = None) -> facts.ModelFacts | None:
    """Find a model and read its facts, however slow its files are; `None` if it has yet to be fetched.

    Args:
        model: a directory, or a hub id.
        revision: of a hub id; empty for the default.
        interpreter: who fetches the configuration from the hub if it is not here; `None` to fetch
            nothing.

    Raises:
        InvalidRequest: what `locate` and `read_facts` raise it for.
        NotFound: likewise, and if the hub has no such model.
        Denied: the hub does not let us have it.
        Unavailable: its files do not answer.
    """

    def find() -> facts.ModelFacts | None:
        directory = locate(model, revision)
        return None if directory is None else read_facts(directory, hub.known(model, revision))

    found = await in_thread(f"reading {model}", find, _PATIENCE_SECONDS)
    if found is None and interpreter is not None and await hub.fetch(model, revision, interpreter):
        found = await in_thread(f"reading {model}", find, _PATIENCE_SECONDS)
    return found


def locate(model: str, revision: str = "", cache: pathlib.Path | None = None) -> pathlib.Path | None:
    """Find the directory that holds the model's `config.json`; `None` if it has yet to be fetched.

    Raises:
        InvalidRequest: the name is neither an absolute path nor a hub id, or the revision is a path.
        NotFound: it is a path, and there is no model there.
        NotPossible: it is a path, and can't be read.
    """
    if model.startswith("/"):
        directory = pathlib.Path(model)
        if not _has_config(directory):
            raise _no_model(model, directory)
        return directory
    parts = model.split("/")
    if len(parts) > 2 or not all(map(_plain, parts)):
        raise InvalidRequest(
            "INVALID_MODEL",
            f"{model!r} is neither an absolute path nor a Hugging Face id such as Qwen/Qwen3-8B.",
            model=model,
        )
    check_revision(revision)
    repository = (cache or hub_cache()) / ("models--" + "--".join(parts))
    reference = repository / "refs" / (revision or "main")
    commit = revision
    if all(map(_plain, (revision or "main").split("/"))) and _is_file(reference):
        with contextlib.suppress(OSError, ValueError):  # not for us, or nothing that huggingface_hub has written
            commit = plain.read(reference, _MAX_REFERENCE_BYTES).decode().strip()
    snapshot = repository / "snapshots" / commit
    return snapshot if commit and _plain(commit) and _has_config(snapshot) else None


def check_revision(revision: str) -> None:
    """Refuse a revision that leads elsewhere: vLLM gets it as it is, and huggingface_hub makes a path of it.

    Raises:
        InvalidRequest: `INVALID_REVISION`.
    """
    if revision and not all(part.strip(".") for part in revision.split("/")):
        raise InvalidRequest("INVALID_REVISION", f"{revision!r} is not a branch, tag or commit.", revision=revision)


def read_facts(directory: pathlib.Path, listing: Listing | None = None) -> facts.ModelFacts:
    """Read the facts of the model in *directory*.

    Args:
        directory: the model's.
        listing: what the hub says of files that are not there yet.

    Raises:
        InvalidRequest: its configuration is not one.
        NotPossible: it can't be read.
    """
    path = directory / _CONFIG
    if not _is_file(path):
        path = directory / _MISTRAL_CONFIG
    try:
        content = plain.read(path, _MAX_CONFIG_BYTES)
        config = json.loads(content)
        if not isinstance(config, dict):
            raise ValueError("it is not an object")
    except PermissionError as error:
        raise readable.refusal(str(directory), [path], readable.user()) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            "INVALID_MODEL", f"{path} can't be read: {error}.", model=directory, error=error
        ) from error
    if path.name == _MISTRAL_CONFIG:
        config = mistral.as_config(config)
    found = facts.read(config, beside=_beside(directory))
    weights = checkpoint.read(directory, found, listing)
    return dataclasses.replace(
        found,
        weight_bytes=weights.weight_bytes,
        bytes_by_dtype=weights.bytes_by_dtype,
        weights_note=weights.note,
        fingerprint=_fingerprint(content, weights.files),
    )


def _fingerprint(config: bytes, weights: Sequence[tuple[str, int]]) -> str:
    """Tell models apart: SHA-256 over the configuration and the names and sizes of the weight files, 64 bits of it.

    What the files come to once loaded follows from these, and may be known only after they were fetched.
    """
    digest = hashlib.sha256(config)
    for name, size in sorted(weights):
        digest.update(f"\0{name}\0{size}".encode(errors="surrogatepass"))
    return digest.hexdigest()[:_FINGERPRINT_DIGITS]


def _beside(directory: pathlib.Path) -> Beside:
    tokenizer, encoder = (_json(directory / name) for name in ("tokenizer_config.json", "sentence_bert_config.json"))
    return Beside(
        tokenizer=tokenizer if isinstance(tokenizer, dict) else {},
        encoder=encoder if isinstance(encoder, dict) else {},
        pools=pools(_json(directory / "modules.json")),
    )


def _json(path: pathlib.Path) -> object:
    """Read a file that a model may have; `None` if it has not, or not as JSON: it is no use to the plan then."""
    try:
        return json.loads(plain.read(path, _MAX_BESIDE_BYTES)) if _is_file(path) else None
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("%s can't be read and is left out: %s", path, error)
        return None


def _no_model(model: str, path: pathlib.Path) -> VllmdError:
    """Say what is there in place of a model.

    Raises:
        NotPossible: nobody can say, as it can't be read.
    """
    readable.check(model, (path, *(path / name for name in _CONFIGS)))
    if path.suffix == ".gguf":
        instead = checkpoint.why_no_model([path.name])
    else:
        try:
            instead = checkpoint.why_no_model(os.listdir(path))
        except (OSError, ValueError):
            instead = None  # that it is not there, or not for us, is what the error says
    if instead is None and not os.path.lexists(path):
        return NotFound("MODEL_NOT_FOUND", f"There is no {model}, as far as the daemon can see.", model=model)
    if instead is None:
        return NotFound("MODEL_NOT_FOUND", f"{model} holds no config.json that can be read here.", model=model)
    return InvalidRequest("MODEL_UNSUPPORTED", f"{model} is {instead}.", model=model)


def _has_config(directory: pathlib.Path) -> bool:
    return _is_file(directory / _CONFIG) or _is_file(directory / _MISTRAL_CONFIG)


def _plain(part: str) -> bool:
    """Tell whether something is a name in a directory: neither a path nor `.` or `..`."""
    return bool(part.strip(".")) and all(character.isalnum() or character in "-_." for character in part)


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False  # the name is too long for one, or it is in a directory that we may not enter
