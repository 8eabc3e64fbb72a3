from __future__ import annotations

import pytest

from tests.docs import client, documented
from tests.docs.api import described
from tests.docs.pages import DOCS, MADE
from vllmd import catalog


@pytest.mark.parametrize("name", MADE)
def test_a_page_that_is_made_is_what_the_source_says(name: str) -> None:
    """Renew it with `make docs`."""
    assert (DOCS / name).read_text() == MADE[name](), f"docs/{name} is out of date: make docs"


def test_every_rpc_message_and_value_has_its_words() -> None:
    """On the page of the API, none of them empty."""
    page = (DOCS / "api.md").read_text()
    files = [file for file in described().file if file.package == "vllmd.v1"]
    methods = [
        f"{service.name}.{method.name}" for file in files for service in file.service for method in service.method
    ]
    messages = [message.name for file in files for message in file.message_type]

    assert [name for name in (*methods, *messages) if f"### {name}\n" not in page] == []
    assert len(methods) > 15
    assert not [line for line in page.splitlines() if line.startswith("| `") and line.endswith("|  |")]


def test_every_reason_has_its_heading() -> None:
    """So that it can be linked to."""
    page = (DOCS / "errors.md").read_text()

    assert [entry.reason for entry in catalog.SENT if f"### {entry.reason}\n" not in page] == []
    assert [entry.reason for entry in catalog.ALL if entry.reason not in page] == []


def test_whatever_the_client_exports_is_on_its_page() -> None:
    """By the name that it is imported by."""
    import vllmd.client

    page = (DOCS / "client-reference.md").read_text()

    assert [name for name in vllmd.client.__all__ if f"# {name}\n" not in page] == []


def test_a_docstring_becomes_markdown() -> None:
    """Signatures one parameter a line where they are long, sections as lists, attributes as a table."""

    page = client.page(documented)

    assert "A thing.\n\n**Args**\n\n* `size`: in bytes,\n  or more.\n" in page
    assert "| `weight` | `int` | In GiB \\| or so. |" in page
    assert "async call(\n    first: int,\n    /,\n    *,\n    second: str = 'a default" in page
    assert "    third: int,\n) -> bool\n" in page
    assert "### Thing.colour\n\nIts colour.\n" in page
    assert "## thing_of\n\n```\nthing_of(*names: Name) -> Thing\n```\n" in page
    assert page.index("## Errors\n") < page.index("### Broken\n") < page.index("### Name\n")
    assert "_own" not in page
