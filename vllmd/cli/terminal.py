"""Writing to stdout and stderr: text for people, JSON for programs, and what a pipe's reader may do to us."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import IO, TYPE_CHECKING, Any, NoReturn, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from google.protobuf.message import Message
    from rich.console import Console
    from rich.table import Table

WIDE = 100
"""From this many columns on, tables have all that they can show on one line."""

# Escape sequences first, so that no letters of theirs stay; then what moves the cursor, rings, or turns text round.
_TURNS = r"\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(
    rf"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f{_TURNS}]"
)
_NOT_IN_JSON = re.compile(rf"[\x7f-\x9f{_TURNS}]")
"""What JSON has as it is, and a terminal obeys."""

_TRAILING = re.compile(r" +(?=\n)")


def stdout() -> Console:
    """Console for results."""
    return _console(sys.stdout, stderr=False)


def stderr() -> Console:
    """Console for progress, summaries and errors."""
    return _console(sys.stderr, stderr=True)


def json_line(message: Message, *, without: Collection[str] = ()) -> None:
    """Print a message as one line of JSON, less the fields *without*."""
    kept = {name: value for name, value in fields(message).items() if name not in without}
    print(_as_json(kept), flush=True)


def json_document(message: Message) -> None:
    """Print a message as indented JSON."""
    json_object(fields(message))


def json_object(values: Mapping[str, Any]) -> None:
    """Print what is no message of its own as indented JSON."""
    print(_as_json(values, indent=2))


def fields(message: Message) -> dict[str, Any]:
    """Name the fields as the proto does, and give zeros and empty lists too: `.gpus[]` of no GPUs is no error."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def write(text: str) -> None:
    """Write to stdout at once; on a terminal without what could command it, since a model or a log wrote this."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _as_json(values: Any, **options: Any) -> str:
    text = json.dumps(values, ensure_ascii=False, **options)
    return _NOT_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable(text: str) -> str:
    """Leave out escape sequences and control characters other than tab and newline."""
    return _CONTROL.sub("", text)


def table(*columns: str) -> Table:
    """Make a borderless table; a column whose heading begins with `>` is aligned to the right."""
    from rich.table import Table

    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        heading = column.removeprefix(">")
        result.add_column(heading, justify="right" if column != heading else "left", overflow="fold")
    return result


def heading(console: Console, text: str) -> None:
    """Print what comes next, below an empty line."""
    from rich.text import Text

    console.print(Text(f"\n{text}", "bold cyan"))


def print_command(console: Console, command: str) -> None:
    """Print a command to copy, which the terminal may wrap but we may not."""
    console.print(f"  {command}", soft_wrap=True)


def open_what_is_closed() -> None:
    """Put /dev/null in the place of standard streams that whoever started this has closed, as `<&-` does.

    Python has `None` for them. The next file or socket would get their number, and what is written to them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - it is for the whole process


def mute(stream: TextIO) -> None:
    """Send what is still buffered for a reader that has gone to nowhere, or Python complains about it at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        pass  # a stream that is no file descriptor has no reader that could go away


class _WithoutTrailingBlanks:
    """A stream that leaves out the blanks at line ends with which rich fills up a table's last column."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(_TRAILING.sub("", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _console(stream: TextIO, *, stderr: bool) -> Console:
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> NoReturn:
            # rich would end the process with status 1; `failures` decides about that.
            raise BrokenPipeError

    # Nobody looks at a pipe's width: without this, rich cuts tables at 80 columns there.
    width = None if stream.isatty() or "COLUMNS" in os.environ else 1000
    file = None if stream.isatty() else cast("IO[str]", _WithoutTrailingBlanks(stream))
    return _Console(stderr=stderr, file=file, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)
