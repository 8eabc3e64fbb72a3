"""Many prompts from a file, and their results: in their order for people, as they come for programs."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vllmd.cli import human, terminal
from vllmd.cli.options.inputs import from_json, read_file
from vllmd.cli.options.prompts import Given, messages_of
from vllmd.cli.session import Format

if TYPE_CHECKING:
    from vllmd.v1.engine_pb2 import Failure
    from vllmd.v1.engine_service_pb2 import GenerateBatchResponse
    from vllmd.v1.generation_pb2 import Prompt

HINT = "--batch"

Batch = Annotated[
    pathlib.Path | None,
    typer.Option(
        HINT,
        metavar="FILE",
        help="Take all of the prompts in this file, `-` for stdin: one a line, or JSON lines with `prompt`, `messages` "
        "or `token_ids`. Results are tagged by the prompt's number, from 0; empty lines don't count.",
        show_default=False,
    ),
]

_HEADING_WIDTH = 60
_TEXT_KEYS = ("prompt", "text", "input")


def read_prompts(path: pathlib.Path, given: Given) -> list[Prompt]:
    """Read the prompts of a file: JSON lines if the first begins with a brace, else one a line.

    Raises:
        typer.BadParameter: there are none, or a line is not what it should be.
    """
    lines = [(number, line) for number, line in enumerate(read_file(path, HINT).split("\n"), 1) if line.strip()]
    if not lines:
        raise typer.BadParameter(f"{path} has no prompts", param_hint=HINT)
    if not lines[0][1].lstrip().startswith("{"):
        return [given.of_text(line.removesuffix("\r")) for _, line in lines]
    return [_of_object(_object(line, path, number), given, f"{path}:{number}") for number, line in lines]


@dataclasses.dataclass(slots=True)
class Tally:
    """What a batch has come to so far."""

    wanted: int
    begun: float = dataclasses.field(default_factory=time.monotonic)
    served: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    tokens: int = 0

    def text(self) -> str:
        """Say it in a line."""
        seconds = time.monotonic() - self.begun
        parts = [f"{self.served} of {self.wanted} done"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if missing := self.wanted - self.served - self.failed:
            parts.append(f"{missing} without an answer")
        if self.tokens:
            parts.append(f"{human.count(self.tokens, 'token')} ({self.prompt_tokens} in the prompts)")
        parts.append(f"total {human.duration(seconds)}")
        if self.tokens and seconds > 0:
            parts.append(f"{self.tokens / seconds:.1f} tok/s")
        return " · ".join(parts)


class InTurn:
    """Results that come in any order, written in the order of what they are of.

    Args:
        write: takes the index and the result of each.
    """

    def __init__(self, write: Callable[[int, Any], None]) -> None:
        self._write = write
        self._waiting: dict[int, Any] = {}
        self._next = 0

    def add(self, index: int, result: Any) -> None:
        """Take a result, and write those that it is the turn of."""
        self._waiting[index] = result
        while self._next in self._waiting:
            self._write(self._next, self._waiting.pop(self._next))
            self._next += 1

    def close(self) -> None:
        """Write what waits for results that will not come any more."""
        for index in sorted(self._waiting):
            self._write(index, self._waiting.pop(index))


def show_batch(
    responses: Iterator[GenerateBatchResponse], prompts: Sequence[Prompt], output: Format, *, quiet: bool = False
) -> Tally:
    """Print results, and on stderr what they come to; failures are counted and told."""
    tally = Tally(len(prompts))

    def write(index: int, response: GenerateBatchResponse) -> None:
        if response.HasField("failure"):
            print_failure(index, response.failure)
        else:
            _print_result(index, response, prompts[index])

    turns = InTurn(write)
    try:
        for response in responses:
            if response.HasField("failure"):
                tally.failed += 1
            else:
                tally.served += 1
                tally.prompt_tokens += response.generated.usage.prompt_tokens
                tally.tokens += response.generated.usage.completion_tokens
            if output is Format.JSON:
                terminal.json_line(response)
            else:
                turns.add(response.prompt_index, response)
    finally:
        turns.close()
        if not quiet:
            print_tally(tally)
    return tally


def print_failure(index: int, failure: Failure) -> None:
    """Print on stderr why there is no result for a prompt."""
    from rich.text import Text

    message = terminal.printable(failure.message)
    terminal.stderr().print(Text.assemble((f"[{index}] Error: ", "bold red"), message, (f" ({failure.reason})", "dim")))


def print_tally(tally: Tally) -> None:
    """Print on stderr what a batch came to."""
    from rich.text import Text

    terminal.stderr().print(Text(tally.text(), "dim"))


def title(prompt: Prompt) -> str:
    """The beginning of a prompt, on one line."""
    kind = prompt.WhichOneof("content")
    if kind == "tokens":
        return human.count(len(prompt.tokens.token_ids), "token id")
    text = prompt.text if kind == "text" else prompt.chat.messages[-1].content
    line = " ".join(terminal.printable(text[: 4 * _HEADING_WIDTH]).split())
    return line if len(line) <= _HEADING_WIDTH else f"{line[: _HEADING_WIDTH - 1]}…"


def _print_result(index: int, response: GenerateBatchResponse, prompt: Prompt) -> None:
    completions = response.generated.completions
    for number, completion in enumerate(completions, 1):
        which = f", {number} of {len(completions)}" if len(completions) > 1 else ""
        text = completion.text if completion.text.endswith("\n") else f"{completion.text}\n"
        terminal.write(f"── [{index}{which}] {title(prompt)}\n{text}")


def _object(line: str, path: pathlib.Path, number: int) -> dict[str, Any]:
    try:
        found = from_json(line)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{path}:{number} is no JSON: {error}", param_hint=HINT) from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{path}:{number} is no JSON object", param_hint=HINT)
    return found


def _of_object(found: dict[str, Any], given: Given, where: str) -> Prompt:
    from vllmd.v1.generation_pb2 import Prompt, TokenPrompt

    keys = [key for key in (*_TEXT_KEYS, "messages", "token_ids") if key in found]
    if len(keys) != 1:
        raise typer.BadParameter(f"{where} has not one of `prompt`, `messages` and `token_ids`", param_hint=HINT)
    if unknown := sorted(found.keys() - set(keys)):
        raise typer.BadParameter(
            f"{where}: there is no `{unknown[0]}`: a line has `prompt`, `messages` or `token_ids`, and no more; "
            "options on the command line are for all of them",
            param_hint=HINT,
        )
    value = found[keys[0]]
    if keys[0] == "messages":
        return given.of_messages(messages_of(value, f"{HINT} ({where})"))
    if keys[0] in _TEXT_KEYS and isinstance(value, str):
        return given.of_text(value)
    if keys[0] == "token_ids" and isinstance(value, list):
        try:
            return Prompt(tokens=TokenPrompt(token_ids=value))
        except (TypeError, ValueError):
            pass  # said below
    raise typer.BadParameter(f"{where}: `{keys[0]}` is of another type", param_hint=HINT)
