"""What the README and docs/ show to be typed, and which of it can't be run here, each with why.

A new example is run as it stands there. One that can't be gets a line in `NOT_RUN`; its flags are looked up as well.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator

from tests.docs.links import PAGES, ROOT

_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|&& |\| |sudo )((?:\S*/)?(?:vllmd|vllmd-cli)(?=\s|$)[^|&#]*|make [a-z-]+)")

NOT_RUN = {
    "make demo": "takes real vLLM, and is run by hand",
    "make test": "is what this runs in",
    "make deb": "downloads an environment; the tests under systemd build and install it",
    "apt install": "needs root, and a package; the tests under systemd do it",
    "python3 -m venv": "installs from a package index; the tests under systemd do it",
    "pip install": "installs vLLM from a package index",
    "/opt/vllmd/bin/vllmd": "is of an installation in /opt",
    "~/.local/share/vllmd/bin/vllmd install": "changes the user's own systemd; the tests under systemd do it",
    "systemctl": "needs a running systemd; the tests under systemd do it",
    "journalctl": "needs a running systemd; the tests under systemd do it",
    "vllmd --simulate 2xRTX3090": "is how the daemon of these tests was started",
    "vllmd\n": "runs until it is stopped, and takes vLLM",
    "sudo ": "needs root",
    "vllmd-cli doctor -o json | jq": "jq is not on every host",
    "VLLMD_ADDRESS=tls://": "needs a host with a certificate",
    "vllmd-cli chat Qwen/Qwen3-0.6B  ": "takes a terminal; tests/cli/test_chat.py has one",
    "vllmd-cli embed ENGINE": "takes an embedding model; tests/cli/test_embed.py has one",
}
"""Lines that begin so, and why they are not run."""

ENDLESS = ("vllmd-cli logs ENGINE -f", "vllmd-cli events -f", "vllmd-cli watch")
"""Run until they have said something, and then ended."""
_ENDED = 128 + 15
_UNTIL_IT_SAYS_SOMETHING = """\
{line} > said & pid=$!
for _ in {{1..300}}; do [ -s said ] && break; sleep 0.1; done
[ -s said ] && kill -TERM $pid
rm said
wait $pid
"""

STATUS = {
    "vllmd-cli plan tests/data/models/llama-3.3-70b": (1,),
    "vllmd-cli verify": (0, 1),
    "vllmd-cli doctor": (0, 1),
    "vllmd config check": (0, 1),
}
"""Exit statuses of those that do not simply work: what does not fit, and what depends on the host."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Some lines to type, or a program."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def lines(self) -> list[str]:
        """What is typed, line by line, each with its line end."""
        return [line for line in self.text.splitlines(keepends=True) if line.strip() and not line.startswith("#")]


def blocks() -> Iterator[Block]:
    """List all, page by page."""
    for page in PAGES:
        text = page.read_text()
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Block(str(page.relative_to(ROOT)), line, match[1], match[2])


def why_not_run(line: str) -> str | None:
    """Say why a line is not run; `None` if it is."""
    return next((why for start, why in NOT_RUN.items() if line.startswith(start)), None)


def commands(line: str) -> list[list[str]]:
    """List the commands of a line that are ours, in words, without the directory that they are in."""
    found = []
    for match in _COMMAND.finditer(line.partition("  #")[0]):
        words = shlex.split(match[1])
        found.append([words[0].rpartition("/")[2], *words[1:]])
    return found


def script(block: Block) -> str:
    """Make a script of the lines that are run, each of which has to end with its status."""
    parts = []
    for line in block.lines():
        if why_not_run(line) is not None:
            continue
        statuses = next((some for start, some in STATUS.items() if line.startswith(start)), (0,))
        run = line
        if line.startswith(ENDLESS):
            run, statuses = _UNTIL_IT_SAYS_SOMETHING.format(line=line.partition("  #")[0].strip()), (_ENDED,)
        expected = " || ".join(f"[ $status = {status} ]" for status in statuses)
        said = shlex.quote(line.partition("  #")[0].strip())
        parts.append(f"{run}status=$?\n{expected} || {{ echo {said}: $status >&2; exit 99; }}\n")
    return "".join(parts)
