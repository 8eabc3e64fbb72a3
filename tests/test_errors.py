from __future__ import annotations

import pytest

from vllmd.errors import EngineFailed, Unavailable, VllmdError

CLASSES = VllmdError.__subclasses__()


@pytest.mark.parametrize("kind", [VllmdError, *CLASSES])
def test_an_error_has_words_for_people_and_for_programs(kind: type[VllmdError]) -> None:
    """The message is its text; numbers are kept as text beside the reason."""
    error = kind("SOME_REASON", "Something happened: do this.", free_bytes=7, gpu=None)

    assert str(error) == error.message == "Something happened: do this."
    assert error.reason == "SOME_REASON"
    assert error.metadata == {"free_bytes": "7", "gpu": "None"}


def test_every_error_has_one_root() -> None:
    """Who catches `VllmdError` catches all that a client may see, and the tree is one level deep."""
    assert len(CLASSES) == 9
    assert not any(kind.__subclasses__() for kind in CLASSES)


def test_what_is_unavailable_says_for_how_long() -> None:
    """Another try is worth it after a second, unless said otherwise."""
    assert Unavailable("X", "x").retry_seconds == 1.0
    assert Unavailable("X", "x", 10.0, engine="e").retry_seconds == 10.0
    assert Unavailable("X", "x", engine="e").metadata == {"engine": "e"}


def test_an_engine_that_failed_brings_the_end_of_its_log() -> None:
    """The lines are kept as they were at that moment."""
    lines = ["a", "b"]
    error = EngineFailed("X", "x", lines)
    lines.append("c")

    assert error.log_lines == ("a", "b")
