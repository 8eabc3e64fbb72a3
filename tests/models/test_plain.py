from __future__ import annotations

import os
from pathlib import Path

import pytest

from vllmd.models import plain


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    """One byte more is too much."""
    (tmp_path / "file").write_bytes(b"12345")

    assert plain.read(tmp_path / "file", 5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        plain.read(tmp_path / "file", 4)


def test_what_is_no_plain_file_holds_nobody_up(tmp_path: Path) -> None:
    """A pipe that nobody writes into, or a directory."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ValueError, match="no plain file"):
        plain.read(tmp_path / "pipe", 10)
    with pytest.raises(ValueError, match="no plain file"):
        plain.opened(tmp_path)
