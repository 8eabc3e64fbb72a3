from __future__ import annotations

from pathlib import Path

import pytest

from vllmd import catalog
from vllmd.catalog import engines
from vllmd.errors import Unavailable

TABLE = Path(__file__).parents[1] / "engines" / "vllm_errors.tsv"
LINES = [line.split("\t")[1] for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("reason", sorted(set(LINES)))
def test_whatever_vllm_says_is_in_the_catalogue(reason: str) -> None:
    """Each of its errors that is known here has an entry, which owns that it quotes vLLM where it has no numbers."""
    assert catalog.find(reason) in catalog.SENT


def test_what_an_engine_failed_of_says_when_to_try_again() -> None:
    """Of all that may pass by itself, but for what is not told of a failure."""
    passing = [entry for entry in engines.ENTRIES if entry.error is Unavailable and entry.retry_seconds is None]

    assert [entry.reason for entry in passing] == ["ENGINE_RESTARTING", "ENGINE_STOPPED"]
