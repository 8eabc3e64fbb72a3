"""The examples of docs/client.md, run one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.batches import embedded, generated
from tests.fakes.fake_daemon import FakeDaemon, Hang
from tests.fakes.samples import loaded
from tests.host.running import RunningDaemon, home
from vllmd.v1 import engine_service_pb2 as pb

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
SCRIPTED = {"Batches", "Embeddings", "Tokens"}
"""These are about what models say and not about the daemon, which plays a script."""

_BLOCK = re.compile(r"^## (?P<title>[^\n]*)$|^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


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


def of(*titles: str, but: set[str] | None = None) -> list[Any]:
    """The examples under some headings, or under all but some."""
    return [
        pytest.param(title, code, id=f"{title} {number}")
        for number, (title, code) in enumerate(examples())
        if title in titles or (but is not None and title not in but)
    ]


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with home("--backend", "fake") as place:
        yield place.start(environment={"HF_HUB_OFFLINE": "1"})


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as daemon:
        daemon.load = [loaded(), Hang()]
        daemon.batch = [generated(1, "God created"), generated(0, "there was")]
        daemon.embed = [embedded(1, 0.0, 1.0), embedded(0, 1.0, 0.0)]
        daemon.tokenize = pb.TokenizeResponse(token_ids=[1, 2], token_texts=["Once", " upon"], max_model_len=8192)
        daemon.detokenize = pb.DetokenizeResponse(text="Once upon")
        yield daemon


@pytest.mark.parametrize(("title", "code"), of(but=SCRIPTED))
def test_examples_run(
    daemon: RunningDaemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    title: str,
    code: str,
) -> None:
    """Each as it stands, against a daemon with fake engines, and leaves none loaded."""
    monkeypatch.setenv("VLLMD_ADDRESS", str(daemon.users_socket))
    run(title, code)

    assert capsys.readouterr().out or title == "The host"
    assert not daemon.status().engines


@pytest.mark.parametrize(("title", "code"), of(*SCRIPTED))
def test_examples_with_answers_run(
    scripted: FakeDaemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    title: str,
    code: str,
) -> None:
    """Each as it stands, and shows what the daemon answers."""
    monkeypatch.setenv("VLLMD_ADDRESS", scripted.target)
    run(title, code)

    expected = {
        "Batches": "1 God created\n0 there was\nthere was God created\n",
        "Embeddings": "2 0.0\n",
        "Tokens": "[1, 2] ['Once', ' upon'] 8192\nOnce upon\n",
    }
    assert capsys.readouterr().out == expected[title]


def test_every_part_has_an_example() -> None:
    """None is left out by a heading that was renamed, or by a block of another kind."""
    assert {title for title, _ in examples()} >= {*SCRIPTED, "Loading", "Generating", "With asyncio", "Errors"}
    assert len(list(examples())) == PAGE.read_text().count("```python")
