from __future__ import annotations

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon


def test_how_a_request_is_treated(daemon: FakeDaemon, run: Run) -> None:
    """Adapter, priority and salt go with the request."""
    run("generate", "e", "hi", "--lora", "sql", "--priority", "-3", "--cache-salt", "mine")

    sent = daemon.requests[-1]
    assert (sent.lora, sent.priority, sent.cache_salt) == ("sql", -3, "mine")
