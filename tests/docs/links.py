"""Where the pages link to, as GitHub resolves it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
_FENCE = re.compile(r"^(```|~~~).*?^\1$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)
_ELSEWHERE = ("https://", "http://", "mailto:")


def anchors(page: str) -> set[str]:
    """Name the anchors of a page: one for each heading, with a number if there are several of one name."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number, name = 0, slug
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found.add(name)
    return found


def broken(page: Path) -> Iterator[str]:
    """List the links of a page that lead nowhere, but for those to other hosts."""
    text = _FENCE.sub("", page.read_text())
    for link in _LINK.findall(_CODE.sub("`", text)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if link.startswith(_ELSEWHERE):
            continue
        if not target.exists():
            yield f"{link}: there is no such file"
        elif ROOT not in (target.resolve(), *target.resolve().parents):
            yield f"{link}: it is outside of the repository"
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target.read_text())):
            yield f"{link}: there is no such heading"
