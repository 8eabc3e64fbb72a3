"""All pages that are made; `make docs` renews them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.configuration import reference
from tests.docs import api, client, errors

DOCS = Path(__file__).parents[2] / "docs"
MADE: dict[str, Callable[[], str]] = {
    "api.md": api.page,
    "client-reference.md": client.page,
    "configuration.md": lambda: reference.page(reference.PAGE.read_text()),
    "errors.md": errors.page,
}
