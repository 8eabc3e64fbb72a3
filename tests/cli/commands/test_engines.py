from __future__ import annotations

import json

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import failed, ready, starting


def test_list(daemon: FakeDaemon, run: Run) -> None:
    """Every engine has a row, those that failed included."""
    daemon.engines = [starting(), failed(), ready()]

    out = run("engines").stdout

    assert [line.split()[0] for line in out.splitlines()[:4]] == [
        "ENGINE",
        "llama-3.1-8b-instruct-91bc",
        "mistral-7b-77aa",
        "qwen3-8b-3f2a",
    ]


def test_empty_list_says_how_to_load(run: Run) -> None:
    """Without engines, the next command is shown."""
    assert "vllmd-cli load MODEL" in run("engines").stdout


def test_json(daemon: FakeDaemon, run: Run) -> None:
    """List and single engine are the answers of their RPCs."""
    daemon.engines = [ready()]

    assert json.loads(run("engines", "-o", "json").stdout)["engines"][0]["name"] == "engines/qwen3-8b-3f2a"
    assert json.loads(run("engines", "qwen3-8b-3f2a", "-o", "json").stdout)["engine"]["pid"] == 4711


def test_json_of_no_engines_is_an_empty_list(run: Run) -> None:
    """`jq -r '.engines[].name'` of the help prints nothing where there are none, instead of failing over null."""
    assert json.loads(run("engines", "-o", "json").stdout)["engines"] == []
