"""Whether engines may read a model's files: vLLM finds out after a minute, and says of some that they do not exist.

Engines run as the daemon's own user, so what opens here opens there.
"""

from __future__ import annotations

import os
import pathlib
import pwd
from collections.abc import Iterable, Sequence

from vllmd.errors import NotPossible


def check(model: str, paths: Iterable[pathlib.Path]) -> None:
    """Check that files can be read, as far as they exist.

    Raises:
        NotPossible: `MODEL_UNREADABLE`, with the first that can't be and who has to be let read it.
    """
    unreadable = [path for path in paths if not _is_ours(path)]
    if unreadable:
        raise refusal(model, unreadable, user())


def refusal(model: str, unreadable: Sequence[pathlib.Path], who: str) -> NotPossible:
    """Make an error of the files that a user may not read. Pure.

    Args:
        model: a path, or a hub id.
        unreadable: the files, at least one, or directories that can't be listed or entered.
        who: the user's name.
    """
    file, count = unreadable[0], len(unreadable)
    more = f" and {count - 1} more can't be" if count > 1 else " can't be"
    message = (
        f"{file}{more} read by {who}, the user that engines run as. Let it read the model's files and enter their "
        f"directories, such as by: setfacl -R -m u:{who}:rX {file.parent if file.suffix else file}."
    )
    return NotPossible("MODEL_UNREADABLE", message, model=model, file=file, user=who, files=count)


def user() -> str:
    """Name the user that this process, and so each engine, runs as."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # as in containers that are given a number
        return str(uid)


def _is_ours(path: pathlib.Path) -> bool:
    """Tell whether a file is not kept from us by its mode, its access list or those of its directories.

    It is opened, since neither mode nor `access` tell what a file system of the network will do.
    """
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
    except PermissionError:
        return False
    except (OSError, ValueError):
        return True  # not there, or no file: others say what that means
    return True
