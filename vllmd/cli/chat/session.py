"""A chat at a terminal: reads messages and commands, shows answers, and goes on whatever becomes of them."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

import typer

from vllmd.cli import failures, terminal
from vllmd.cli.chat import commands as chat_commands
from vllmd.cli.chat import parameters as chat_parameters
from vllmd.cli.chat.conversation import Conversation
from vllmd.cli.chat.draft import Draft
from vllmd.cli.chat.line_editor import Cleared
from vllmd.cli.chat.target import Target
from vllmd.cli.output.generated import print_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vllmd.client import Client, VllmdError

PROMPT = ">>> "
CONTINUED = "... "
_STRIKES = 2
"""So many Ctrl-C on empty lines, one after the other, end the chat."""


class ChatSession:
    """The chat.

    Args:
        client: of the daemon.
        target: whom it talks to.
        conversation: what was said so far.
        read: reads a line after a prompt; raises as `LineEditor.read` does.
        verbose: whether figures are shown after each answer.
    """

    def __init__(
        self, client: Client, target: Target, conversation: Conversation, read: Callable[[str], str], *, verbose: bool
    ) -> None:
        self._client = client
        self._target = target
        self._conversation = conversation
        self._read = read
        self._verbose = verbose
        self._draft = Draft()

    def run(self) -> None:
        """Go on until it is ended."""
        print(terminal.printable(f"{self._target.title}. /help lists commands; Ctrl-D ends."))
        strikes = 0
        while strikes < _STRIKES:
            try:
                if self._turn():
                    return
                strikes = 0
            except EOFError:
                print()
                return
            except Cleared:
                self._draft, strikes = Draft(), 0
                print()
            except KeyboardInterrupt:
                strikes = 0 if self._draft.is_open else strikes + 1
                self._draft = Draft()
                print("\nOnce more, or Ctrl-D, ends." if strikes == 1 else "")

    def _turn(self) -> bool:
        """Read a line and do what it says; true if that was to end."""
        line = self._read(CONTINUED if self._draft.is_open else PROMPT)
        if not self._draft.is_open and line.startswith("/"):
            return self._command(line)
        message = self._draft.add(line)
        if message is not None and message.strip():
            self._conversation.ask(message)
            self._answer()
        return False

    def _command(self, line: str) -> bool:
        try:
            outcome = chat_commands.perform(line, self._conversation)
        except chat_commands.Refused as error:
            terminal.stderr().print(terminal.printable(str(error)))
            return False
        if outcome.text:
            terminal.write(f"{outcome.text}\n")
        if outcome.verbose is not None:
            self._verbose = outcome.verbose
        if outcome.asks:
            self._answer()
        if outcome.reloads:
            self._reload()
        return outcome.ends

    def _answer(self) -> None:
        """Show the answer to the last question; Ctrl-C aborts it in the engine, and what came of it stays."""
        from vllmd.client import Generation, VllmdError

        generation = Generation()
        failure: VllmdError | None = None
        stopped = False
        try:
            parameters = self._conversation.parameters
            with self._client.generate(self._target.name, self._conversation.prompt(), **parameters) as responses:

                def stop(*_: object) -> None:
                    nonlocal stopped
                    stopped = True
                    responses.close()

                with _on_interrupt(stop):
                    for response in responses:
                        generation.add(response)
                        terminal.write(response.text)
        except KeyboardInterrupt:
            stopped = True
        except VllmdError as error:
            failure = error
        self._conversation.answer(generation.text, interrupted=stopped or failure is not None)
        if not generation.text.endswith("\n") and (generation.text or stopped):
            print()
        if stopped:
            terminal.stdout().print("[stopped]", style="dim")
        elif failure is not None:
            self._tell(failure, bool(generation.text))
        elif self._verbose:
            print_summary(generation)

    def _tell(self, failure: VllmdError, begun: bool) -> None:
        failures.report(failure, ways_out=self._ways_out(failure, begun))

    def _ways_out(self, failure: VllmdError, begun: bool) -> list[str]:
        again = "/regenerate asks once more"
        kept = f"What came of the answer stays; {again}." if begun else f"The conversation is kept: {again}."
        if failure.reason in _GONE and self._target.reload is not None:
            return [kept.replace(again, "/reload loads the model again, then /regenerate asks once more")]
        if failure.reason in _GONE:
            return [kept, "Where the engine is gone for good: /save FILE, and chat with another."]
        if failure.code.name == "INVALID_ARGUMENT":
            return ["The conversation is kept: /show shows it, /set changes a parameter, /clear begins anew."]
        return [kept]

    def _reload(self) -> None:
        from vllmd.client import VllmdError

        if self._target.reload is None:
            terminal.stderr().print("This chat has loaded no model: it uses an engine, or a lease, that was there.")
            return
        try:
            self._target.reload()
        except VllmdError as error:
            failures.report(error)
            return
        except typer.Exit:  # Ctrl-C cancelled the load, which has said so
            return
        print(terminal.printable(f"{self._target.title}."))


@contextlib.contextmanager
def _on_interrupt(handler: Callable[..., None]) -> Iterator[None]:
    """Have Ctrl-C call *handler*: an exception in the midst of gRPC's own code leaves a channel that hangs."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_GONE = (
    "DAEMON_UNREACHABLE",
    "ENGINE_DIED",
    "ENGINE_NOT_FOUND",
    "ENGINE_NOT_READY",
    "ENGINE_STALLED",
    "ENGINE_STOPPED",
    "LEASE_NOT_FOUND",
)
"""Reasons for which the model may have to be loaded again."""


def completions(line: str) -> list[str]:
    """List what a line that begins with a slash may become."""
    if line.startswith("/set "):
        return [f"/set {name} " for name in chat_parameters.names() if f"/set {name}".startswith(line)]
    return [f"/{name}" for name in chat_commands.NAMES if f"/{name}".startswith(line)] if line.startswith("/") else []
