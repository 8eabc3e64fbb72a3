from __future__ import annotations

import json
from typing import Any

import pytest

from vllmd.api.parse_structured import structured_outputs
from vllmd.errors import InvalidRequest
from vllmd.v1.generation_pb2 import Choice, StructuredOutputs


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"json": '{"type": "object"}'}, {"json": '{"type": "object"}'}),
        ({"json_object": True, "disable_any_whitespace": True}, {"json_object": True, "disable_any_whitespace": True}),
        ({"regex": "[ab]+"}, {"regex": "[ab]+"}),
        ({"choice": Choice(texts=["yes", "no"])}, {"choice": ["yes", "no"]}),
        ({"grammar": 'root ::= "a"'}, {"grammar": 'root ::= "a"'}),
        ({"structural_tag": '{"type": "structural_tag"}'}, {"structural_tag": '{"type": "structural_tag"}'}),
    ],
)
def test_each_constraint_has_vllms_name(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """One of them, and what goes with it."""
    assert structured_outputs(StructuredOutputs(**given)) == expected


def properties(count: int) -> str:
    """A schema of an object with so many properties."""
    return json.dumps({"type": "object", "properties": {f"p{number}": {} for number in range(count)}})


def test_an_object_may_be_large() -> None:
    """But not so large that its compiler takes minutes."""
    assert structured_outputs(StructuredOutputs(json=properties(256))) == {"json": properties(256)}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "constraint"),
        ({"json": ""}, "json"),
        ({"json": '{"type": '}, "json"),
        ({"json": "[]"}, "json"),
        ({"json": '{"minimum": NaN}'}, "json"),
        ({"json": "[" * 30_000}, "json"),
        ({"json": json.dumps({"enum": ["x" * (64 << 10)]})}, "json"),
        ({"json": "1" * 10_000}, "json"),
        ({"json_object": False}, "json_object"),
        ({"regex": ""}, "regex"),
        ({"regex": "a\0"}, "regex"),
        ({"regex": "a" * (16 << 10)}, "regex"),
        ({"choice": Choice()}, "choice.texts"),
        ({"choice": Choice(texts=["a", ""])}, "choice.texts"),
        ({"choice": Choice(texts=["a"] * 1025)}, "choice.texts"),
        ({"grammar": " \n"}, "grammar"),
        ({"structural_tag": "<tag>"}, "structural_tag"),
        ({"json": "true"}, "json"),
        ({"json": properties(257)}, "json"),
        ({"json": json.dumps({"anyOf": [json.loads(properties(250))] * 5})}, "json"),
        ({"structural_tag": json.dumps({"structures": [{"schema": json.loads(properties(257))}]})}, "structural_tag"),
    ],
)
def test_what_is_no_constraint_is_refused_before_any_compiler_sees_it(given: dict[str, Any], field: str) -> None:
    """Nothing, no JSON, or more than any compiler should be asked for."""
    with pytest.raises(InvalidRequest) as refused:
        structured_outputs(StructuredOutputs(**given))

    assert refused.value.reason == "INVALID_STRUCTURED_OUTPUTS"
    assert refused.value.metadata["field"] == f"sampling_params.structured_outputs.{field}"
    assert len(refused.value.message) < 300
