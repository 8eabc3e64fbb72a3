"""Fetches what a plan needs to know of a model into the hub's cache, and no weights: a program of its own.

    PYTHON hub_fetch.py SECONDS REPOSITORY [REVISION]

It is run by path under the engine's interpreter, which has huggingface_hub since vLLM brings it, and imports nothing
else of vllmd. Where the cache is, the hub's address and its token come from the environment, as for vLLM. On standard
output it prints one line of JSON: `files` with their sizes and `parameters` by dtype, as the hub tells them, or
`failure` (gated, missing, revision, denied, other) and `why`, without the exception's text, which may quote what was
sent.
"""

from __future__ import annotations

import json
import pathlib
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

WANTED = {
    "config.json": 1 << 20,
    "params.json": 1 << 20,
    "tokenizer_config.json": 16 << 20,
    "sentence_bert_config.json": 1 << 20,
    "modules.json": 1 << 20,
    "model.safetensors.index.json": 32 << 20,
}
"""What is fetched, and up to which size in bytes."""

_BY_ERROR = {
    "GatedRepoError": "gated",
    "RepositoryNotFoundError": "missing",
    "RevisionNotFoundError": "revision",
}
"""By the names of huggingface_hub's errors; a gated repository's is a kind of one that is not found."""
_MOST_FILES = 2000
_UNAUTHORIZED = 401


def fetch(
    info_of: Callable[..., Any], download: Callable[..., object], repository: str, revision: str
) -> dict[str, Any]:
    """Fetch what is wanted of what there is, and tell what else there is.

    Args:
        info_of: `HfApi.model_info`.
        download: `hf_hub_download`.
        repository: its id.
        revision: branch, tag or commit; empty for the default.
    """
    info = info_of(repository, revision=revision or None, files_metadata=True)
    files = {one.rfilename: one.size for one in info.siblings or () if "/" not in one.rfilename}
    for name, most_bytes in WANTED.items():
        if name in files and (files[name] or 0) <= most_bytes:
            # By the branch's name, not the commit's: only then does the cache learn which commit the branch is at.
            download(repository, name, revision=revision or None)
    found = getattr(info, "safetensors", None)
    parameters = getattr(found, "parameters", None) if found is not None else None
    return {
        "files": dict(list(files.items())[:_MOST_FILES]),
        "parameters": dict(parameters) if isinstance(parameters, Mapping) else {},
    }


def explain(error: BaseException) -> dict[str, str]:
    """Name a failure by its kind."""
    names = [kind.__name__ for kind in type(error).__mro__]
    failure = next((_BY_ERROR[name] for name in names if name in _BY_ERROR), "other")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if failure == "other" and status == _UNAUTHORIZED:
        failure = "denied"
    why = names[0] if status is None else f"{names[0]}, status {status}"
    # An import's names a module and nothing else.
    return {"failure": failure, "why": f"{why}: {error}" if isinstance(error, ImportError) else why}


def main(arguments: Sequence[str]) -> None:
    """Fetch, and print what came of it."""
    signal.alarm(int(arguments[0]))  # whoever started this may be gone by then
    try:
        from huggingface_hub import HfApi, hf_hub_download

        answer = fetch(HfApi().model_info, hf_hub_download, arguments[1], "".join(arguments[2:]))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told to who asked
        answer = explain(error)
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    # The directory of a program comes first where modules are looked for, and this one has a safetensors.py.
    here = pathlib.Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if pathlib.Path(path).resolve() != here]
    main(sys.argv[1:])
