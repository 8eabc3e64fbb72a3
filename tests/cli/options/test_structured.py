from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from vllmd.v1.generation_pb2 import Choice, StructuredOutputs


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"type": "object"}, indent=2))
    return path


def sent(daemon: FakeDaemon) -> StructuredOutputs:
    found = daemon.requests[-1].sampling_params.structured_outputs
    assert isinstance(found, StructuredOutputs)
    return found


@pytest.mark.parametrize(
    ("options", "wish"),
    [
        (["--json-object"], StructuredOutputs(json_object=True)),
        (
            ["--json-object", "--disable-any-whitespace"],
            StructuredOutputs(json_object=True, disable_any_whitespace=True),
        ),
        (["--regex", "a+"], StructuredOutputs(regex="a+")),
        (["--choice", "yes", "--choice", "no"], StructuredOutputs(choice=Choice(texts=["yes", "no"]))),
        (["--grammar", "root ::= 'x'"], StructuredOutputs(grammar="root ::= 'x'")),
    ],
)
def test_constraints(daemon: FakeDaemon, run: Run, options: list[str], wish: StructuredOutputs) -> None:
    """Each goes as the daemon has it."""
    run("generate", "e", "hi", *options)

    assert sent(daemon) == wish


def test_constraints_from_files(daemon: FakeDaemon, run: Run, schema: Path) -> None:
    """A schema and a structural tag are read, and a grammar where it begins with an at sign."""
    run("generate", "e", "hi", "--json-schema", str(schema))
    assert sent(daemon) == StructuredOutputs(json='{"type": "object"}')
    run("generate", "e", "hi", "--structural-tag", str(schema))
    assert sent(daemon) == StructuredOutputs(structural_tag='{"type": "object"}')
    run("generate", "e", "hi", "--grammar", f"@{schema}")

    assert sent(daemon).grammar == schema.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--regex", "a", "--json-object"], "can't be given together with --json-object"),
        (["--disable-any-whitespace"], "is for --json-schema"),
        (["--json-schema", "/nowhere"], "No such file"),
        (["--json-schema", "Makefile"], "is no JSON"),
    ],
)
def test_misuse(daemon: FakeDaemon, run: Run, options: list[str], message: str) -> None:
    """It is refused before anything is sent."""
    result = run("generate", "e", "hi", *options)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", "").split())
    assert daemon.requests == []
