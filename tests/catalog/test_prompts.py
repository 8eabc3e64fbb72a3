from __future__ import annotations

from vllmd.catalog import prompts


def test_nothing_that_is_wrong_with_a_prompt_passes_by_itself() -> None:
    """The same request would be refused again."""
    assert [entry.reason for entry in prompts.ENTRIES if entry.may_pass] == []


def test_what_an_engine_can_not_do_takes_another_engine() -> None:
    """Each such reason says which, so that a program may load it."""
    impossible = [entry for entry in prompts.ENTRIES if entry.error.__name__ == "NotPossible"]

    assert len(impossible) > 3
    assert all("oad" in entry.remedy for entry in impossible)
