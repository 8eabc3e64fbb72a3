from __future__ import annotations

from pathlib import Path

import pytest
import typer

from vllmd.cli.options import inputs


def test_files(tmp_path: Path) -> None:
    """Text is as it is; JSON is read."""
    path = tmp_path / "x"
    path.write_text('{"a": "ü"}\n')

    assert inputs.read_file(path, "--x") == '{"a": "ü"}\n'
    assert inputs.read_json(path, "--x") == {"a": "ü"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "no UTF-8 text"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'"\\ud800"', "no JSON"),
        (None, "No such file"),
    ],
)
def test_what_can_not_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    """It is misuse, and says which file and why."""
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(typer.BadParameter, match=message) as refusal:
        inputs.read_json(path, "--x")

    assert str(path) in str(refusal.value)


def test_size_is_bounded(tmp_path: Path) -> None:
    """What no message holds is refused unread."""
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(inputs.LARGEST_BYTES + 1)

    with pytest.raises(typer.BadParameter, match="more than 64 MiB"):
        inputs.read_file(path, "--x")


@pytest.mark.parametrize(("text", "kept"), [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("", "")])
def test_one_line_end_is_left_out(text: str, kept: str) -> None:
    """The one that `echo` adds."""
    assert inputs.without_line_end(text) == kept
