from __future__ import annotations

import re

import pytest
from google.rpc import code_pb2

from vllmd import catalog
from vllmd.catalog import Entry
from vllmd.errors import Exhausted, InvalidRequest, NotPossible, Unavailable, VllmdError

SENTENCE = re.compile(r"(?:[A-Z`]|vLLM).+\.", re.DOTALL)


def test_each_reason_stands_there_once() -> None:
    """Whoever looks one up finds all of it."""
    reasons = [entry.reason for entry in catalog.ALL]

    assert len(set(reasons)) == len(reasons)
    assert all(catalog.find(entry.reason) is entry for entry in catalog.ALL)
    assert catalog.find("NO_SUCH_REASON") is None


@pytest.mark.parametrize("entry", catalog.ALL, ids=lambda entry: entry.reason)
def test_an_entry_is_whole(entry: Entry) -> None:
    """A name as Google's API design guide has it, a class, two sentences, and a code that gRPC knows."""
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{2,62}", entry.reason)
    assert entry.error in VllmdError.__subclasses__()
    assert SENTENCE.fullmatch(entry.means)
    assert SENTENCE.fullmatch(entry.remedy)
    assert not entry.code or entry.code in code_pb2.Code.keys()  # noqa: SIM118 - an enum's wrapper is no dict


@pytest.mark.parametrize(
    ("error", "may_pass"), [(InvalidRequest, False), (NotPossible, False), (Exhausted, True), (Unavailable, True)]
)
def test_what_may_pass_by_itself(error: type[VllmdError], may_pass: bool) -> None:
    """It follows from the class, as the time to try again does."""
    entry = Entry("X_Y", error, "It happened.", "Do this.")

    assert entry.may_pass is may_pass
    assert (error("X_Y", "It happened.").retry_seconds is not None) is may_pass
