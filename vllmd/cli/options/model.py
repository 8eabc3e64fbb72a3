"""A model or an adapter as it was typed: an id of the hub, or a directory."""

from __future__ import annotations

import os

_PATHS = ("./", "../", "~/")

HELP = (
    "A Hugging Face id, or a directory on the daemon's host; one that begins with `./`, `../` or `~/` is meant as seen "
    "from here."
)


def absolute(name: str) -> str:
    """Make a path absolute that says to be one of here: the daemon has another working directory and another home."""
    return os.path.abspath(os.path.expanduser(name)) if name.startswith(_PATHS) or name in (".", "..") else name
