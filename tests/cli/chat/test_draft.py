from __future__ import annotations

import pytest

from vllmd.cli.chat.draft import Draft


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["one"], "one"),
        ([""], ""),
        (["one\\", "two\\", "three"], "one\ntwo\nthree"),
        (['"""one"""'], "one"),
        (['"""', "one", '"""'], "one"),
        (['"""one', "", 'two"""'], "one\n\ntwo"),
        (['  """one\\', 'two"""  '], "one\\\ntwo"),
        (['say """x"""'], 'say """x"""'),
    ],
)
def test_lines_make_a_message(lines: list[str], message: str) -> None:
    """A line is one, unless it goes on; quotes are quotes only at the beginning."""
    draft = Draft()
    results = []
    for line in lines:
        results.append(draft.add(line))
        assert draft.is_open is (results[-1] is None)

    assert results == [*([None] * (len(lines) - 1)), message]
    assert draft == Draft()
