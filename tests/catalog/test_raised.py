"""No reason is made up where it is raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.catalog.raised import OF_NO_CLASS, ROOT, Raised, raised
from vllmd import catalog

PLACES = list(raised())
PASSED_ON = {
    "engines/diagnosis.py:load_failure": "what a table of known errors says",
    "engines/diagnosis.py:to_error": "a failure's, as the class that the catalogue has",
    "api/status.py:abort": "an error's, without its log",
    "scheduler/prospects.py:plan": "an error's, as the engine's failure",
    "scheduler/prospects.py:_failure": "an infeasible plan's",
    "engines/questions.py:refusal": "what the worker says of a request",
}
"""Functions that pass a reason on which was made elsewhere."""

WORKERS = (
    "PROMPT_TOO_LONG", "TOKEN_OUT_OF_VOCABULARY", "NO_CHAT_TEMPLATE", "INVALID_TEMPLATE", "NO_TOKENIZER",
    "PRIORITY_UNSUPPORTED", "WHITESPACE_UNSUPPORTED", "ANSWER_TOO_LARGE", "DIMENSIONS_UNSUPPORTED",
    "INVALID_PROMPT_OR_PARAMS",
)  # fmt: skip
UNSEEN = {
    "INVALID_HOST_ARG": "takes the place of INVALID_ENGINE_ARG in planner/planning.py:plan",
    **dict.fromkeys(WORKERS, "a worker's, by engines/questions.py:refusal"),
}
"""Reasons that only such functions make."""


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.where)
def test_each_is_in_the_catalogue_as_what_it_is_raised(place: Raised) -> None:
    """The class decides the code, so a reason has one."""
    entries = [catalog.find(reason) for reason in place.reasons]

    assert place.reasons or place.function in PASSED_ON
    assert None not in entries
    if place.kind not in OF_NO_CLASS:
        assert {entry.error.__name__ for entry in entries if entry is not None} <= {place.kind}


def test_nothing_stands_in_the_catalogue_that_nobody_raises() -> None:
    """What has gone from the source goes from there, and from the clients' documentation."""
    made = {reason for place in PLACES for reason in place.reasons} | set(UNSEEN)

    assert sorted(entry.reason for entry in catalog.ALL if entry.reason not in made) == []
    assert len(PLACES) > 100


def test_whoever_passes_reasons_on_is_there() -> None:
    """An exception that is over is taken out."""
    assert set(PASSED_ON) <= {place.function for place in PLACES if not place.reasons}
    assert all((Path(ROOT) / function.partition(":")[0]).exists() for function in PASSED_ON)


def test_the_command_line_advises_on_reasons_that_there_are() -> None:
    """Its next commands hang on them."""
    from vllmd.cli import failures

    assert [reason for reason in failures._NEXT if catalog.find(reason) is None] == []
