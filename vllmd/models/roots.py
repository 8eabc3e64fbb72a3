"""Whether a path may be a model's: it lies below a directory that this host names, after all links.

A client's path is looked at before anything else is told about it, so that it can't be found out what is where. Whoever
can write below a root can put a link there once the look is over: roots are for those to fill who may read all that the
daemon can.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from vllmd.errors import Denied


def is_path(model: str) -> bool:
    """Tell a path from the name of a model on the hub, as `files.locate` does."""
    return model.startswith("/")


def check(model: str, roots: Sequence[pathlib.Path]) -> None:
    """Check that a path lies below one of the roots; without any root all may be read.

    Raises:
        Denied: it does not.
    """
    if not roots:
        return
    try:
        found = pathlib.Path(model).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, or no path at all, is below no root
        found = None
    if found is None or not any(found.is_relative_to(root.resolve()) for root in roots):
        names = ", ".join(map(str, roots))
        message = f"{model} is outside of what this host loads models from (model_roots): {names}."
        raise Denied("MODEL_PATH_NOT_ALLOWED", message, model=model, model_roots=names)
