from __future__ import annotations

from datetime import timedelta

from google.protobuf.json_format import MessageToDict

from vllmd.client.values import duration, struct


def test_duration_from_seconds_or_timedelta() -> None:
    """Seconds and timedelta mean the same; nothing stays unset."""
    assert duration(1.5) == duration(timedelta(seconds=1.5))
    assert duration(None) is None


def test_values_by_name() -> None:
    """As JSON has them, nested and null included."""
    assert dict(struct({"a": 1, "b": None, "c": True})) == {"a": 1.0, "b": None, "c": True}
    assert MessageToDict(struct({"a": {"b": ["c"]}})) == {"a": {"b": ["c"]}}
