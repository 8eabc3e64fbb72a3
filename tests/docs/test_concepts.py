from __future__ import annotations

import pytest

from tests.docs.pages import DOCS
from vllmd.v1.engine_pb2 import Engine, EngineArg
from vllmd.v1.gpu_pb2 import ProcessVerdict

PAGE = (DOCS / "concepts.md").read_text()
SENT = [
    name
    for values in (Engine.State, EngineArg.Source, ProcessVerdict.Verdict)
    for name in values.keys()  # noqa: SIM118 - an enum's wrapper is no dict
    if not name.endswith("_UNSPECIFIED")
]


@pytest.mark.parametrize("name", SENT)
def test_every_state_source_and_verdict_is_explained(name: str) -> None:
    """As a row of its own."""
    assert f"\n| `{name}` | " in PAGE
