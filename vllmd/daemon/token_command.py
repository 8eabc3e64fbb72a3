"""`vllmd token`: makes a token, shows it once, and says what belongs into the file of tokens."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

_DESCRIPTION = """\
Makes bearer tokens for those who come by TCP. The daemon has only hashes, in the file that the setting token_file
names; a token is withdrawn by taking its line out. Both count for the next call, without a reload.
"""
_EPILOG = """\
examples:
  vllmd token new alice
        the token, which is shown this once, and below it the line for the file
  vllmd token new ci --max-requests 4 --model 'Qwen/*'
        one that generates four texts at once at most, of these models alone
  vllmd token new ops --role operator
        one that may stop engines and read logs, too

who has one:
  VLLMD_ADDRESS=tls://HOST:PORT VLLMD_TOKEN=vllmd_… vllmd-cli status
"""


def parser() -> argparse.ArgumentParser:
    """Make the command line's parser."""
    result = argparse.ArgumentParser(
        "vllmd token", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    new = result.add_subparsers(dest="command", required=True, metavar="{new}").add_parser("new", help="make a token")
    new.add_argument("name", metavar="NAME", type=_name, help="whose it is, as the audit says")
    new.add_argument("--role", choices=("user", "operator"), default="user", help="what it may (default: user)")
    new.add_argument("--max-requests", type=_count, metavar="N", help="how many generations may run at once")
    new.add_argument(
        "--model", action="append", default=[], metavar="PATTERN", help="a model it is for; may be repeated"
    )
    return result


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    from vllmd.api import tokens  # only now, so that --help answers at once

    namespace = parser().parse_args(argv)
    token = tokens.new()
    line = tokens.line(namespace.name, token, namespace.role, namespace.max_requests, tuple(namespace.model))
    sys.stdout.write(f"{token}\n{line}\n")
    sys.stderr.write("The first line is the token, shown this once; the second belongs into the file of tokens.\n")
    return 0


def _name(text: str) -> str:
    from vllmd.api.tokens import is_name

    if not is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name: letters, digits, - and _, at most 64")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
