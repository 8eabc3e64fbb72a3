"""Failures as sentences with a way out, and as exit codes."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from vllmd import errors
from vllmd.cli import human, terminal

if TYPE_CHECKING:
    from vllmd.client import VllmdError

FAILED = 1
MISUSE = 2
UNREACHABLE = 3
# As a shell reports a death by SIGINT and by SIGPIPE, which these are in all but name.
INTERRUPTED = 130
READER_GONE = 141

_UNIT_FILES = ("/etc/systemd/system/vllmd.service", "/lib/systemd/system/vllmd.service")
_SHOWN_LOG_LINES = 15
# Of an output that takes no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_OF_TYPER = ("install_completion", "show_completion")

# Plain words only. `max_tokens`, `dtype=`, `n:` and `Qwen/Qwen3-8B` are names, which nobody may rewrite.
_WORD = re.compile(r"[a-z][a-z']*,?(?=\s+[^\s=]|$)")

_NEXT = {
    "ENGINE_NOT_FOUND": "vllmd-cli engines",
    "LEASE_NOT_FOUND": "vllmd-cli load MODEL   (a lease ends when it is not used for its time)",
    "GPU_MEMORY_EXHAUSTED": "vllmd-cli status   (shows who holds the memory)",
    "GPU_QUARANTINED": "vllmd-cli verify   (shows what is stuck there)",
    "GPU_LOST": "vllmd-cli status   (shows which GPU is lost, and since when)",
    "PROCESS_NOT_FOUND": "vllmd-cli ps",
    "NOT_AN_ORPHAN": "vllmd-cli ps",
    "MODEL_TOO_LARGE": "vllmd-cli status   (shows the memory of each GPU)",
    "NOT_ENOUGH_GPUS": "vllmd-cli gpus",
    "KV_CACHE_TOO_SMALL": "vllmd-cli plan MODEL   (shows what would fit)",
    "ENGINE_NOT_READY": "vllmd-cli watch",
    "ENGINE_RESTARTING": "vllmd-cli watch   (shows when it is ready again)",
    "ENGINE_STOPPED": "vllmd-cli load MODEL",
    "ENGINE_OUTDATED": "vllmd-cli stop ENGINE   (and load it again)",
    "NOT_A_GENERATING_MODEL": "vllmd-cli embed ENGINE TEXT",
    "NOT_AN_EMBEDDING_MODEL": "vllmd-cli generate ENGINE PROMPT",
    "NO_CHAT_TEMPLATE": "vllmd-cli generate ENGINE PROMPT   (without --chat)",
    "TOKEN_OUT_OF_VOCABULARY": "vllmd-cli tokenize ENGINE PROMPT   (shows ids that there are)",
    "LORA_NOT_FOUND": "vllmd-cli load MODEL --lora NAME=PATH",
    "PRIORITY_UNSUPPORTED": "vllmd-cli load MODEL --set scheduling_policy=priority",
    "PROMPT_TOO_LONG": "vllmd-cli tokenize ENGINE PROMPT   (counts tokens)",
    "VLLM_NOT_INSTALLED": "vllmd-cli doctor",
}


class Commands(TyperGroup):
    """Commands whose expected failures end in a message and an exit code instead of a traceback."""

    def get_params(self, ctx: Any) -> Any:
        """Leave out typer's own `--show-completion`: `completion SHELL` takes its place.

        typer depends on shellingham, and with that its two options are flags without a value that guess the shell
        from the parent processes. They can't be switched off by `add_completion`, which also registers the shells.
        """
        return [param for param in super().get_params(ctx) if param.name not in _OF_TYPER]

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line, `--help` and misuse included."""
        _refuse_bytes()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if error.errno not in _FULL or error.filename is not None:
                raise
            _report_full(error)
            sys.exit(FAILED)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                # What can't be written any more is told below, in place of Python's own complaint at exit.
                sys.stdout.flush()
        except typer.BadParameter as error:
            _mention_variable(error)
            raise
        except BrokenPipeError:
            terminal.mute(sys.stdout)
            raise typer.Exit(READER_GONE) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except typer.Exit:
            raise
        except errors.VllmdError as error:  # of a command that asks no daemon
            report(error)
            raise typer.Exit(MISUSE if isinstance(error, errors.InvalidRequest) else FAILED) from None
        except Exception as error:
            if hasattr(error, "option_name"):
                _say_where_it_stands(error, ctx)
                raise
            from vllmd.client import VllmdError

            if not isinstance(error, VllmdError):
                raise
            report(error)
            raise typer.Exit(exit_code(error)) from None


def _refuse_bytes() -> None:
    """End the program if an argument or a variable of ours is no text: Python has half characters for such bytes."""
    given = {f"argument {number}": text for number, text in enumerate(sys.argv[1:], 1)}
    given |= {name: text for name, text in os.environ.items() if name.startswith("VLLMD_")}
    for name, text in given.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            print(f"Error: {name} is no UTF-8 text.", file=sys.stderr)
            sys.exit(MISUSE)


def _report_full(error: OSError) -> None:
    """Say that what was to be printed can't be written, if that can be."""
    terminal.mute(sys.stdout)
    try:
        print(f"Error: can't write the output: {error.strerror}.", file=sys.stderr, flush=True)
    except OSError:  # it was stderr that is full
        terminal.mute(sys.stderr)


def _mention_variable(error: Any) -> None:
    """Say of an argument that is missing where else it is read from; only what is missing has no message."""
    variable = getattr(error.param, "envvar", None)
    if not error.message and isinstance(variable, str):
        error.message = f"Name one, or put a lease in {variable}: `vllmd-cli load MODEL` prints how."


def _say_where_it_stands(error: Any, context: Any) -> None:
    """Say of an option that a command does not have, but all of them together do, that it comes first."""
    option = next((one for one in context.command.get_params(context) if error.option_name in one.opts), None)
    if option is not None:
        value = "" if option.is_flag else f" {option.metavar}"
        command = f"{context.command_path} {error.option_name}{value} {context.invoked_subcommand} …"
        error.message, error.possibilities = f"{error.message}. It stands before the command: {command}", None


def exit_code(error: VllmdError) -> int:
    """Tell a daemon that is not there, or does not answer, from one that failed, or refuses what was typed."""
    from vllmd.client import DaemonUnreachable

    # The commands set deadlines only on questions that a daemon in order answers at once.
    if isinstance(error, DaemonUnreachable) or error.code.name == "DEADLINE_EXCEEDED":
        return UNREACHABLE
    # Wrong whatever the state of the host, like an option that does not exist; only the daemon knows all of vLLM's.
    return MISUSE if error.code.name == "INVALID_ARGUMENT" else FAILED


def report(error: VllmdError | errors.VllmdError, *, ways_out: Sequence[str] | None = None) -> None:
    """Print a failure on stderr, and below it *ways_out* in place of the commands that a shell would take.

    What was found out about this one failure, its notes, says more than what helps in general.
    """
    from rich.text import Text

    console = terminal.stderr()
    message = terminal.printable(as_sentence(error.message))
    console.print(Text.assemble(("Error: ", "bold red"), message, (f" ({error.reason})", "dim")))
    if isinstance(error, errors.VllmdError):
        return
    for field, description in error.violations:
        console.print(Text.assemble("  ", (field, "bold"), f": {description}"))
    print_log_lines(console, error.log_lines)
    for line in _ways_out(error) if ways_out is None else [*_when_to_retry(error), *ways_out]:
        console.print(line, soft_wrap=True)


def as_sentence(message: str) -> str:
    """Begin with a capital letter, unless the first word is a name."""
    return message[:1].upper() + message[1:] if _WORD.match(message) else message


def print_log_lines(console: Any, lines: Sequence[str]) -> None:
    """Print the end of an engine's log, set off from our own words."""
    from rich.text import Text

    if lines:
        console.print(Text("The end of its log:", "dim"))
    for line in lines[-_SHOWN_LOG_LINES:]:
        console.print(Text.assemble(("  │ ", "dim"), terminal.printable(line)))


def how_to_start(*, is_root: bool, unit_installed: bool) -> list[str]:
    """Say how a daemon is started on this host."""
    lines = ["Start one in another terminal:   vllmd"]
    if unit_installed:
        lines.append(f"Or as a service:                 {'' if is_root else 'sudo '}systemctl start vllmd")
    lines.append("Or say where one listens:        vllmd-cli --address PATH status")
    return lines


def how_to_look(*, unit_installed: bool) -> list[str]:
    """Say what tells why a daemon went away that was there."""
    state, log = "vllmd-cli status", "on the terminal that it ran in, or where that was sent"
    if unit_installed:
        state, log = "systemctl status vllmd", "journalctl -u vllmd -n 50"
    return ["The daemon went away in the middle of it.", f"See if it is back:   {state}", f"See why in its log:  {log}"]


def _ways_out(error: VllmdError) -> list[str]:
    from vllmd.client import DaemonUnreachable

    if isinstance(error, DaemonUnreachable):
        unit_installed = any(os.path.exists(path) for path in _UNIT_FILES)
        if error.was_there:
            return how_to_look(unit_installed=unit_installed)
        return how_to_start(is_root=os.geteuid() == 0, unit_installed=unit_installed)
    lines = _when_to_retry(error)
    if notes := getattr(error, "__notes__", None):
        return [*lines, *notes]
    if command := _NEXT.get(error.reason):
        lines.append(f"Try: {command}")
    elif error.log_lines and (engine := error.metadata.get("engine")):
        lines.append(f"Try: vllmd-cli logs {human.short(engine)} -n 200")
    return lines


def _when_to_retry(error: VllmdError) -> list[str]:
    return [] if error.retry_after is None else [f"Try again in {human.duration(error.retry_after)}."]
