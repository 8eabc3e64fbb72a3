"""The tables of docs/configuration.md, made of the settings; `python -m tests.configuration.reference` renews them."""

from __future__ import annotations

from pathlib import Path

from vllmd.configuration import show
from vllmd.configuration.catalog import BY_RESTART, BY_UPGRADE, SECTIONS
from vllmd.configuration.shapes import allowed
from vllmd.daemon.options import flag

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
BEGIN = "<!-- The tables from here on are made: python -m tests.configuration.reference -->\n"


def tables() -> str:
    """Write one table for each section."""
    return "\n".join(f"### {section}\n\n{_table(names)}" for section, names in SECTIONS.items())


def _table(names: tuple[str, ...]) -> str:
    rows = [
        "| setting, flag | what it is, and why it is so | may be | default | change |",
        "|---|---|---|---|---|",
        *map(_row, names),
    ]
    return "\n".join(rows) + "\n"


def _row(name: str) -> str:
    how = "restart" if name in BY_RESTART else "upgrade" if name in BY_UPGRADE else "reload"
    default = show.default(name)
    shown = default if " " in default else f"`{default}`"
    cells = [f"`{name}` `{flag(name)}`", f"{show.summary(name)} {show.reason(name)}", allowed(name), shown, how]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page(now: str) -> str:
    """Put the tables where they belong."""
    before, begin, _ = now.partition(BEGIN)
    assert begin, f"{PAGE} has no line that says where the tables begin"
    return f"{before}{BEGIN}\n{tables()}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
