"""Python values as the protos have them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

Seconds = float | timedelta


def duration(value: Seconds | None) -> Duration | None:
    """Seconds as the protos have them."""
    if value is None:
        return None
    result = Duration()
    result.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    return result


def struct(values: Mapping[str, Any]) -> Struct:
    """Values by name, as JSON has them."""
    result = Struct()
    result.update(dict(values))
    return result
