from __future__ import annotations

import pytest
import typer

from vllmd.cli.options.settings import parse_settings, spelled
from vllmd.client.requests import argument_name


def test_values_are_json_or_text() -> None:
    """A value is JSON if it parses, else a string, and numbers keep their type."""
    items = [
        "max_model_len=8192",
        "x=0.5",
        "eager=true",
        "none=null",
        "dtype=bfloat16",
        "list=[1]",
        "eq=a=b",
        "nan=NaN",
    ]

    settings = parse_settings(items, "--set")

    assert settings == {
        "max_model_len": 8192,
        "x": 0.5,
        "eager": True,
        "none": None,
        "dtype": "bfloat16",
        "list": [1],
        "eq": "a=b",
        "nan": "NaN",
    }
    assert isinstance(settings["max_model_len"], int)


def test_spelling_of_the_command_line_of_vllm() -> None:
    """A name may be written as vLLM's own options are."""
    assert parse_settings(["--max-model-len=1"], "--set") == {"max_model_len": 1}


@pytest.mark.parametrize("name", ["--max-model-len", "max_model_len", "--seed", "dtype", "-x"])
def test_spelling_of_the_client(name: str) -> None:
    """The client has it once more, behind gRPC, and both say the same."""
    assert spelled(name) == argument_name(name)


@pytest.mark.parametrize("items", [["x"], ["=1"], ["a=1", "a=2"], ["a-b=1", "a_b=2"]])
def test_misuse(items: list[str]) -> None:
    """No key, no value, or one key twice is misuse."""
    with pytest.raises(typer.BadParameter):
        parse_settings(items, "--set")
