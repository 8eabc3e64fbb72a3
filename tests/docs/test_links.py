from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.links import PAGES, ROOT, anchors, broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file that there is, and to a heading in it."""
    assert list(broken(page)) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    """The check checks: files, headings, and nothing that is code or elsewhere."""
    page = ROOT / "docs" / "not-there.md"
    lines = ["# One `two`", "[a](#one-two) [b](#two) [c](none.md) [d](https://x) `[e](f)`", "```", "[g](h)", "```"]
    text = "\n".join(lines)
    found = tmp_path / "page.md"
    found.write_text(text)

    assert not page.exists()
    assert list(broken(found)) == [
        "#one-two: it is outside of the repository",
        "#two: it is outside of the repository",
        "none.md: there is no such file",
    ]


def test_headings_of_one_name_are_told_apart() -> None:
    """As GitHub does it."""
    assert anchors("# A b\n## A b\n### `c.d`: e_f!\n") == {"a-b", "a-b-1", "cd-e_f"}


def test_the_index_has_every_page() -> None:
    """Who looks for something finds it there."""
    index = (ROOT / "docs" / "README.md").read_text()

    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index] == ["README.md"]
