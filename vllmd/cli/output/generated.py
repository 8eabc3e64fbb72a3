"""What a generation brings, as it comes: text for people, a line for each response for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vllmd.cli import human, terminal
from vllmd.cli.session import Format

if TYPE_CHECKING:
    from vllmd.client import Generation
    from vllmd.v1.engine_service_pb2 import GenerateResponse
    from vllmd.v1.generation_pb2 import Usage

# Only the last response says how it ended: the lines of all the tokens before would each be three times as long
# with FINISH_REASON_UNSPECIFIED in it. `text` stays even where it is empty, for `jq -j .text`.
_OF_THE_END = ("finish_reason", "stop_reason")
_WHERE_ASKED_FOR = ("logprobs", "prompt_logprobs")


class InOrder:
    """Completions of one prompt, written one after the other although they come at once.

    Args:
        count: how many there are; more than one get a heading each.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting: dict[int, str] = {}
        self._ended: set[int] = set()
        self._turn = -1
        self._at_line_start = True

    def add(self, response: GenerateResponse) -> None:
        """Write what it is the turn of, and keep the rest for later."""
        self._waiting[response.index] = self._waiting.get(response.index, "") + response.text
        if response.finish_reason:
            self._ended.add(response.index)
        if self._turn < 0:
            self._next()
        self._put(self._waiting.pop(self._turn, ""))
        while self._turn in self._ended and self._turn + 1 < self._count:
            self._next()

    def close(self) -> None:
        """Write what still waits, as the generation has ended or was interrupted."""
        while any(index > self._turn and text for index, text in self._waiting.items()):
            self._next()
        if (sys.stdout.isatty() or self._count > 1) and not self._at_line_start:
            self._put("\n")

    def _next(self) -> None:
        self._turn += 1
        if self._count > 1:
            self._put(f"{'' if self._at_line_start else chr(10)}── {self._turn + 1} of {self._count} ──\n")
        self._put(self._waiting.pop(self._turn, ""))

    def _put(self, text: str) -> None:
        if text:
            # Before it is written: Ctrl-C comes also right after, and what follows then begins a line.
            self._at_line_start = text.endswith("\n")
            terminal.write(text)


def show(responses: Iterator[GenerateResponse], output: Format, count: int = 1) -> Generation:
    """Print responses as they come, and return what they add up to."""
    from vllmd.client import Generation

    generation, texts = Generation(), InOrder(count)
    try:
        for response in responses:
            generation.add(response)
            if output is Format.JSON:
                terminal.json_line(response, without=_silent(response, count))
            else:
                texts.add(response)
    finally:
        if output is Format.TEXT:
            texts.close()
    return generation


def summary(generation: Generation) -> str:
    """Say how many tokens, how fast, and why it ended."""
    parts = []
    if generation.usage is not None:
        usage = generation.usage
        parts.append(f"{human.count(usage.completion_tokens, 'token')} ({_prompt(usage)})")
    if generation.total_time is not None and generation.time_to_first_token is not None:
        parts.append(f"first {human.duration(generation.time_to_first_token)}")
        parts.append(f"total {human.duration(generation.total_time)}")
    if (speed := generation.tokens_per_second) is not None:
        parts.append(f"{speed:.1f} tok/s")
    parts.append(generation.finish_reason or "no end")
    return " · ".join(parts)


def print_summary(generation: Generation) -> None:
    """Print that on stderr."""
    from rich.text import Text

    terminal.stderr().print(Text(summary(generation), "dim"))


def _silent(response: GenerateResponse, count: int) -> list[str]:
    """Name the fields that say nothing."""
    unset = [name for name in _WHERE_ASKED_FOR if not getattr(response, name)]
    return [*unset, *([] if response.finish_reason else _OF_THE_END), *(["index"] if count == 1 else [])]


def _prompt(usage: Usage) -> str:
    cached = f", {usage.cached_tokens} of them cached" if usage.cached_tokens else ""
    return f"{usage.prompt_tokens} in the prompt{cached}"
