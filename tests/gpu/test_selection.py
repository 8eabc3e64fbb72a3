from __future__ import annotations

import dataclasses

import pytest

from tests.fakes.fake_gpus import gpu
from vllmd.gpu.selection import select

GPUS = tuple(
    dataclasses.replace(gpu(), index=index, uuid=uuid) for index, uuid in enumerate(["GPU-aa1", "GPU-aa2", "GPU-b"])
)


CUT = (
    dataclasses.replace(gpu(), index=0, uuid="MIG-a1", mig_parent="GPU-a"),
    dataclasses.replace(gpu(), index=0, uuid="MIG-a2", mig_parent="GPU-a"),
    dataclasses.replace(gpu(), index=0, uuid="MIG-b", mig_parent="GPU-a"),
    dataclasses.replace(gpu(), index=1, uuid="GPU-b"),
)


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, [0, 1, 2]),
        ("0,2", [0, 2]),
        ("2, 0", [0, 2]),
        ("1,1", [1]),
        ("GPU-b", [2]),
        ("GPU-aa2,0", [0, 1]),
        # A beginning that two share names neither, and what names none ends the list, as CUDA has it.
        ("GPU-aa", []),
        ("0,7,1", [0]),
        ("-1", []),
        ("", []),
        ("MIG-3f", []),
        ("nonsense", []),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(visible: str | None, indices: list[int]) -> None:
    """Who hides GPUs from CUDA hides them from the daemon."""
    assert [chosen.index for chosen in select(GPUS, visible)] == indices


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, ["MIG-a1", "MIG-a2", "MIG-b", "GPU-b"]),
        ("MIG-a2", ["MIG-a2"]),
        ("MIG-b,1", ["MIG-b", "GPU-b"]),
        ("MIG-a", []),
        ("MIG-c,1", []),
        # The name of a GPU that is cut up is that of all its slices.
        ("0", ["MIG-a1", "MIG-a2", "MIG-b"]),
        ("GPU-a", ["MIG-a1", "MIG-a2", "MIG-b"]),
        ("GPU-", []),
    ],
)
def test_slices_are_named_by_themselves_or_with_their_gpu(visible: str | None, uuids: list[str]) -> None:
    """A beginning that several slices share names none of them, as it does with GPUs."""
    assert [chosen.uuid for chosen in select(CUT, visible)] == uuids
