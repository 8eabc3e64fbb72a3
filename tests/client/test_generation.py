from __future__ import annotations

import pytest

from tests.fakes.samples import tokens
from vllmd.client import Generation
from vllmd.client.generation import finish_reason_text
from vllmd.v1 import generation_pb2


def test_collects_the_whole_stream() -> None:
    """Text and tokens add up, and the last response brings reason, usage and timings."""
    generation = Generation.collect(tokens())

    assert generation.text == "Once upon a time"
    assert generation.token_ids == [1, 2, 3, 4]
    assert generation.finish_reason == "length"
    assert generation.usage is not None
    assert generation.usage.completion_tokens == 4
    assert generation.time_to_first_token == pytest.approx(0.085)
    assert generation.tokens_per_second == pytest.approx(10.0)


def test_broken_off_stream_has_no_end() -> None:
    """What has come stays, and what has not is None."""
    generation = Generation.collect(tokens()[:2])

    assert generation.text == "Once upon a"
    assert generation.finish_reason is None
    assert generation.tokens_per_second is None


def test_newer_finish_reason_is_its_number() -> None:
    """A value that this client has no name for is shown, not an error."""
    assert finish_reason_text(generation_pb2.FINISH_REASON_STOP) == "stop"
    assert finish_reason_text(99) == "99"  # type: ignore[arg-type]
