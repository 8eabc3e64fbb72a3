from __future__ import annotations

import pytest

from vllmd.worker.causes import causes, named, text_of


@pytest.mark.parametrize(
    ("error", "text", "name"),
    [
        (ValueError("the dtype is unknown"), "the dtype is unknown", "ValueError: the dtype is unknown"),
        (FileNotFoundError(2, "No such file"), "[Errno 2] No such file", "FileNotFoundError: [Errno 2] No such file"),
        (TimeoutError(), "TimeoutError, which says no more", "TimeoutError, which says no more"),
        (AssertionError(" \n"), "AssertionError, which says no more", "AssertionError, which says no more"),
    ],
)
def test_no_exception_becomes_an_empty_text(error: Exception, text: str, name: str) -> None:
    """What has nothing to say is told by its type."""
    assert (text_of(error), named(error)) == (text, name)


def test_an_exception_is_told_with_what_caused_it() -> None:
    """Outermost first, and none twice."""

    def fail() -> None:
        try:
            raise TimeoutError
        except TimeoutError as error:
            raise RuntimeError("the core did not come up") from error

    with pytest.raises(RuntimeError) as failed:
        fail()

    assert causes(failed.value) == ("RuntimeError: the core did not come up", "TimeoutError, which says no more")
