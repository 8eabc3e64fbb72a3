from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from vllmd.cli.options.spread import spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    width: Annotated[int, typer.Option(help="How wide.")] = 1
    height: Annotated[int | None, typer.Option("--tall", help="How high.")] = None


seen: list[Any] = []


@spread
def paint(name: Annotated[str, typer.Argument()], *, before: bool = False, size: Size, colour: str = "red") -> None:
    """Paint it."""
    seen.append((name, before, size, colour))


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(paint)
    return app


def test_fields_are_options(app: typer.Typer) -> None:
    """The command gets them as the one value that it asked for; what is not given is as the dataclass has it."""
    CliRunner().invoke(app, ["x", "--tall", "3", "--colour", "blue"], catch_exceptions=False)

    assert seen.pop() == ("x", False, Size(width=1, height=3), "blue")


def test_help_shows_them_in_their_place(app: typer.Typer) -> None:
    """Between the options around them, and with their own help."""
    out = CliRunner().invoke(app, ["--help"]).stdout

    assert out.index("--before") < out.index("--width") < out.index("--tall") < out.index("--colour")
    assert "How high." in out
    assert "--size" not in out


def test_the_command_is_otherwise_as_it_was() -> None:
    """Its name and its words."""
    assert (paint.__name__, paint.__doc__) == ("paint", "Paint it.")
