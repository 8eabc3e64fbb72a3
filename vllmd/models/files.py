"""Finds a model's files on this host: a directory, or a snapshot in the Hugging Face cache.

Nothing is fetched here: vLLM fetches what is missing, in the engine's processes.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Mapping

from vllmd.errors import InvalidRequest, NotFound
from vllmd.models import facts, plain, safetensors
from vllmd.tasks import in_thread

_MAX_CONFIG_BYTES = 1 << 20
"""The longest that are known have some 100 kB, of names for classes."""

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
    """Say at once that there can be no such model here; raises as `locate` does, and `Unavailable`."""
    await in_thread(f"looking for {model}", functools.partial(locate, model, revision), _PATIENCE_SECONDS)


async def facts_of(model: str, revision: str = "") -> facts.ModelFacts | None:
    """Find a model and read its facts, however slow its files are; `None` if it has yet to be fetched.

    Raises:
        InvalidRequest: what `locate` and `read_facts` raise it for.
        NotFound: likewise.
        Unavailable: its files do not answer.
    """

    def find() -> facts.ModelFacts | None:
        directory = locate(model, revision)
        return None if directory is None else read_facts(directory)

    return await in_thread(f"reading {model}", find, _PATIENCE_SECONDS)


def locate(model: str, revision: str = "", cache: pathlib.Path | None = None) -> pathlib.Path | None:
    """Find the directory that holds the model's `config.json`; `None` if it has yet to be fetched.

    Raises:
        InvalidRequest: the name is neither an absolute path nor a hub id, or the revision is a path.
        NotFound: it is a path, and there is no model there.
    """
    if model.startswith("/"):
        directory = pathlib.Path(model)
        if not _is_file(directory / "config.json"):
            raise NotFound("MODEL_NOT_FOUND", f"{model} holds no config.json that this daemon can read.", model=model)
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
    if _plain(revision or "main") and _is_file(reference):
        commit = reference.read_text().strip()
    snapshot = repository / "snapshots" / commit
    return snapshot if commit and _plain(commit) and _is_file(snapshot / "config.json") else None


def check_revision(revision: str) -> None:
    """Refuse a revision that leads elsewhere: vLLM gets it as it is, and huggingface_hub makes a path of it.

    Raises:
        InvalidRequest: `INVALID_REVISION`.
    """
    if revision and not all(part.strip(".") for part in revision.split("/")):
        raise InvalidRequest("INVALID_REVISION", f"{revision!r} is not a branch, tag or commit.", revision=revision)


def read_facts(directory: pathlib.Path) -> facts.ModelFacts:
    """Read the facts of the model in *directory*.

    Raises:
        InvalidRequest: its `config.json` is not one.
    """
    path = directory / "config.json"
    try:
        config = json.loads(plain.read(path, _MAX_CONFIG_BYTES))
        if not isinstance(config, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest("INVALID_MODEL", f"{path} can't be read: {error}.", model=directory) from error
    found = facts.read(config)
    return dataclasses.replace(found, weight_bytes=_weight_bytes(directory, found.layers))


def _weight_bytes(directory: pathlib.Path, layers: int | None) -> int | None:
    """Sum up what the safetensors files hold, or the size of the PyTorch ones where there are none of these."""
    found = safetensors.loaded_bytes(directory, layers)
    try:
        return found or sum(path.stat().st_size for path in directory.glob("*.bin")) or None
    except OSError:
        return None  # a link to a file that was not fetched


def _plain(part: str) -> bool:
    """Tell whether something is a name in a directory: neither a path nor `.` or `..`."""
    return bool(part.strip(".")) and all(character.isalnum() or character in "-_." for character in part)


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False  # the name is too long for one, or it is in a directory that we may not enter
