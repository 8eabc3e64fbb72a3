from __future__ import annotations

from pathlib import Path

import pytest

from tests.configuration.reference import PAGE, page
from vllmd.config import Settings
from vllmd.daemon.options import flag

README = Path(__file__).parents[2] / "README.md"


def test_the_page_is_what_the_settings_are() -> None:
    """Renew it with `python -m tests.configuration.reference`."""
    assert PAGE.read_text() == page(PAGE.read_text())


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_on_the_page(name: str) -> None:
    """With its flag."""
    assert f"| `{name}` `{flag(name)}` |" in PAGE.read_text()


def test_the_readme_leads_there() -> None:
    """It has the short of it."""
    text = README.read_text()

    assert "docs/configuration.md" in text
    assert "vllmd config check" in text
