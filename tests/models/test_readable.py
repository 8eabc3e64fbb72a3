from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from vllmd.errors import NotPossible
from vllmd.models import readable

AS_NOBODY = """
import os, pathlib, sys
from vllmd.errors import NotPossible
from vllmd.models import files, readable
import asyncio, vllmd.models.checkpoint, vllmd.tasks  # while they can be read
if os.geteuid() == 0:
    os.setgroups([]); os.setegid(65534); os.seteuid(65534)
try:
    asyncio.run(files.check(sys.argv[1]))
except NotPossible as error:
    print(error.reason, error.metadata["file"], error.metadata["files"], error.metadata["user"] == readable.user())
else:
    print("readable")
"""


CLOSED = 0o600 if os.geteuid() == 0 else 0
"""To a user other than root: tests may run as one already."""


def seen_by_nobody(model: pathlib.Path) -> str:
    """What a user without rights is told of a model."""
    program = [sys.executable, "-c", AS_NOBODY, str(model)]
    return subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@pytest.fixture
def model() -> Iterator[pathlib.Path]:
    """A model that all may read, as far as names go; pytest's own directories are closed to others."""
    with tempfile.TemporaryDirectory(prefix="vd-") as directory:
        path = pathlib.Path(directory)
        path.chmod(0o755)
        for name in ("config.json", "model-1.safetensors", "model-2.safetensors", "notes.txt"):
            (path / name).write_text("{}")
            (path / name).chmod(0o644)
        yield path


def test_the_error_names_the_file_and_who_has_to_be_let_in() -> None:
    """And says what to do; of several files the first is enough."""
    one = readable.refusal("/m", [pathlib.Path("/m/model.safetensors")], "vllmd")
    two = readable.refusal("/m", [pathlib.Path("/m/a.bin"), pathlib.Path("/m/b.bin")], "vllmd")
    whole = readable.refusal("/m", [pathlib.Path("/m")], "vllmd")

    assert one.reason == "MODEL_UNREADABLE"
    assert one.message.startswith("/m/model.safetensors can't be read by vllmd, the user that engines run as.")
    assert one.message.endswith("setfacl -R -m u:vllmd:rX /m.")
    assert one.metadata == {"model": "/m", "file": "/m/model.safetensors", "user": "vllmd", "files": "1"}
    assert two.message.startswith("/m/a.bin and 1 more can't be read")
    assert whole.message.endswith("u:vllmd:rX /m.")


def test_what_is_not_there_is_not_unreadable(tmp_path: pathlib.Path) -> None:
    """Others say what that means; nothing hangs at a pipe, and a name that can't be one is none."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()

    readable.check("m", [tmp_path, tmp_path / "file", tmp_path / "none", tmp_path / "pipe", pathlib.Path("a\0b")])


def test_a_model_that_anybody_may_read_is_fine(model: pathlib.Path) -> None:
    """What belongs to no model may be closed."""
    (model / "notes.txt").chmod(0)

    assert seen_by_nobody(model) == "readable"


@pytest.mark.parametrize(("closed", "files"), [("config.json", 1), ("model-1.safetensors", 1), ("model-*", 2)])
def test_a_file_of_another_user_that_is_closed_is_named(model: pathlib.Path, closed: str, files: int) -> None:
    """A configuration or weights: each before any start."""
    paths = sorted(model.glob(closed))
    for path in paths:
        path.chmod(CLOSED)

    assert seen_by_nobody(model) == f"MODEL_UNREADABLE {paths[0]} {files} True"


def test_a_directory_that_is_closed_is_named(model: pathlib.Path) -> None:
    """What is in it nobody can say, and so not that there is no model."""
    model.chmod(CLOSED)
    told = seen_by_nobody(model)
    model.chmod(0o755)

    assert told.startswith(f"MODEL_UNREADABLE {model} ")


def test_a_closed_file_is_refused_with_its_own_type(tmp_path: pathlib.Path) -> None:
    """As one that has to be put right on the host, and not in the request."""
    assert isinstance(readable.refusal("/m", [tmp_path], readable.user()), NotPossible)
