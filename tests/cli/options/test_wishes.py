from __future__ import annotations

import pytest
import typer

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from vllmd.cli.options.wishes import parse_adapters
from vllmd.v1.engine_pb2 import LoraAdapter


def test_adapters() -> None:
    """A path may hold what a name may not."""
    assert parse_adapters(["a=/x", "b=/y=z"]) == {"a": "/x", "b": "/y=z"}


@pytest.mark.parametrize("items", [["a"], ["=x"], ["a="], ["a=x", "a=y"]])
def test_misuse(items: list[str]) -> None:
    """No name, no path, or one name twice."""
    with pytest.raises(typer.BadParameter):
        parse_adapters(items)


def test_a_load_with_adapters(daemon: FakeDaemon, run: Run) -> None:
    """They go with the request, beside all else that is wished."""
    run("load", "m", "--lora", "sql=/x", "--lora", "law=/y", "--set", "seed=1", "--revision", "r", "--no-auto-config")

    (sent,) = daemon.requests
    assert list(sent.lora_adapters) == [LoraAdapter(name="sql", path="/x"), LoraAdapter(name="law", path="/y")]
    assert (sent.revision, sent.disable_auto_config, sent.engine_args["seed"]) == ("r", True, 1)
