"""The examples of docs/client.md, run one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.running import RunningDaemon, home

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
_BLOCK = re.compile(r"^## (?P<title>[^\n]*)$|^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)

FOR_OPERATORS = "The host"


def examples() -> Iterator[tuple[str, str]]:
    """Each block of Python, with the heading that it stands under."""
    title = "The Python client"
    for found in _BLOCK.finditer(PAGE.read_text()):
        title = found["title"] or title
        if found["code"]:
            yield title, found["code"]


def run(title: str, code: str) -> None:
    """Run an example as a program of its own would."""
    exec(compile(code, f"{PAGE.name}: {title}", "exec"), {"__name__": "__main__"})


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with home("--backend", "fake") as place:
        yield place.start(environment={"HF_HUB_OFFLINE": "1"})


@pytest.mark.parametrize(
    ("title", "code"),
    [pytest.param(*example, id=f"{example[0]} {number}") for number, example in enumerate(examples())],
)
def test_examples_run(
    daemon: RunningDaemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    title: str,
    code: str,
) -> None:
    """Each as it stands, against a daemon with fake engines, and leaves none loaded."""
    socket = daemon.socket if title == FOR_OPERATORS else daemon.users_socket
    monkeypatch.setenv("VLLMD_ADDRESS", str(socket))
    run(title, code)

    assert capsys.readouterr().out
    assert not daemon.status().engines


def test_every_part_has_an_example() -> None:
    """None is left out by a heading that was renamed, or by a block of another kind."""
    assert {title for title, _ in examples()} >= {
        "Loading",
        "Generating",
        "Batches",
        "Embeddings",
        "Tokens",
        "With asyncio",
        "Errors",
    }
    assert len(list(examples())) == PAGE.read_text().count("```python")
