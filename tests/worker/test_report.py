from __future__ import annotations

import msgspec
import pytest

from vllmd.worker.report import EngineInfo, Measured


def test_a_report_survives_the_wire() -> None:
    """With what was measured, or without."""
    for measured in (None, Measured(weights_bytes=7, max_num_seqs=3)):
        info = EngineInfo("0.25.1", 4096, 9, "bfloat16", 1000, measured, "pooling")

        assert msgspec.msgpack.decode(msgspec.msgpack.encode(info), type=EngineInfo) == info


@pytest.mark.parametrize("size", [-1, 1 << 63])
def test_a_size_that_can_be_none_is_refused(size: int) -> None:
    """Others could not be told of it."""
    with pytest.raises(msgspec.DecodeError):
        msgspec.msgpack.decode(msgspec.msgpack.encode([size]), type=Measured)
