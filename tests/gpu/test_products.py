from __future__ import annotations

import pytest

from vllmd.gpu.inventory import Gpu, Path
from vllmd.gpu.products import PRODUCTS, inventory, parse, uuid_of

MIB = 1 << 20
Pair = tuple[int, int]


def linked(text: str) -> dict[Pair, int | None]:
    """The pairs of a host that have NVLinks between them, by index."""
    found = inventory(text)
    index = {gpu.uuid: gpu.index for gpu in found.gpus}
    return {(index[link.first], index[link.second]): link.nvlinks for link in found.links if link.nvlinks}


def test_a_gpu_is_as_nvml_reports_it_when_nobody_uses_it() -> None:
    """With its full name, all its bytes, and some that the driver has taken already."""
    assert parse("2xRTX3090")[1] == Gpu(
        uuid="GPU-SIM-0001-0000-0000-000000000000",
        index=1,
        product="NVIDIA GeForce RTX 3090",
        total_bytes=24576 * MIB,
        used_bytes=317 * MIB,
        free_bytes=24259 * MIB,
        compute_capability=(8, 6),
        reserved_bytes=317 * MIB,
    )


@pytest.mark.parametrize(
    ("text", "products"),
    [
        ("1xH100", ["NVIDIA H100 80GB HBM3"]),
        ("1xH200,2xRTX4090", ["NVIDIA H200", "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090"]),
        (" 1 x rtx-3090 , 1XNVIDIA L4", ["NVIDIA GeForce RTX 3090", "NVIDIA L4"]),
        ("1xNVIDIA GeForce RTX 3090", ["NVIDIA GeForce RTX 3090"]),
        ("1xA100,1xa100-40gb", ["NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-40GB"]),
        ("16xB200", ["NVIDIA B200"] * 16),
    ],
)
def test_a_host_is_what_the_text_lists(text: str, products: list[str]) -> None:
    """In that order, with products by their short name or NVML's, however they are written."""
    gpus = parse(text)

    assert [gpu.product for gpu in gpus] == products
    assert [gpu.index for gpu in gpus] == list(range(len(products)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not of the form COUNTxPRODUCT, such as 2xRTX3090"),
        ("H100", "'H100' is not of the form"),
        ("2x", "'2x' is not of the form"),
        ("1xH100,,1xH100", "'' is not of the form"),
        ("0xH100", "0xH100 is 0 GPUs, and a host has 1 to 16"),
        ("17xH100", "17xH100 is 17 GPUs, and a host has 1 to 16"),
        ("9xH100,8xL4", "9xH100,8xL4 is 17 GPUs, and a host has 1 to 16"),
        ("1xRTX3091", "no GPU called RTX3091 is known; the nearest is RTX3090, and there are T4, V100, "),
        ("2xL4+nvlink", "2xL4\\+nvlink: there is no bridge for NVIDIA L4: it has no NVLink"),
        ("8xH100+nvlink", "8xH100\\+nvlink: there is no bridge for NVIDIA H100 80GB HBM3: its NVLinks are built in"),
        ("1xRTX3090+nvlink", "1xRTX3090\\+nvlink: a bridge joins two GPUs"),
        ("2xRTX3090+nv", "no GPU called RTX3090\\+nv is known"),
        ("1x?", "no GPU called \\? is known; the nearest is "),
    ],
)
def test_what_makes_no_host_is_refused(text: str, message: str) -> None:
    """With what would, and for a product with all that there are."""
    with pytest.raises(ValueError, match=f"^{message}"):
        parse(text)


def test_every_product_is_found_by_each_of_its_names() -> None:
    """And has room left beside what the driver takes."""
    for short, product in PRODUCTS.items():
        by_short, by_name = parse(f"1x{short},1x{product.name}")

        assert by_short.product == by_name.product == product.name
        assert 0 < by_short.used_bytes < by_short.total_bytes / 20


def test_a_uuid_is_named_by_its_beginning() -> None:
    """No GPU's number is the beginning of another's, as `CUDA_VISIBLE_DEVICES` may hold beginnings."""
    uuids = [uuid_of(index) for index in range(16)]

    assert len({uuid[: len("GPU-SIM-0000")] for uuid in uuids}) == 16


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2xRTX3090", {}),
        ("2xRTX3090+nvlink", {(0, 1): 4}),
        ("5xrtx-3090 + NVLink", {(0, 1): 4, (2, 3): 4}),
        ("1xL4,2xA100-PCIE-40GB+nvlink,2xA100-PCIE-40GB+nvlink", {(1, 2): 12, (3, 4): 12}),
        ("2xH100-NVL", {}),
        ("2xH200,1xRTX4090,1xH200", {(0, 1): 18, (0, 3): 18, (1, 3): 18}),
        ("3xA100", {(0, 1): 12, (0, 2): 12, (1, 2): 12}),
        ("4xL40S", {}),
        ("2xGH200", {}),
    ],
)
def test_nvlinks_are_those_that_a_product_is_built_with_or_a_bridge_has(text: str, expected: dict[Pair, int]) -> None:
    """A bridge joins two, and one that is left over has none."""
    assert linked(text) == expected


def test_a_product_without_a_switch_is_linked_within_a_board() -> None:
    """Eight V100 are two boards of four."""
    assert set(linked("8xV100")) == {
        (first, second)
        for board in (0, 4)
        for first in range(board, board + 4)
        for second in range(first + 1, board + 4)
    }


@pytest.mark.parametrize(
    ("text", "peer_access"),
    [("2xRTX3090", False), ("2xRTX3090+nvlink", True), ("2xL40S", True), ("2xH100", True), ("1xH200,1xRTX4090", None)],
)
def test_whether_two_gpus_reach_each_others_memory(text: str, peer_access: bool | None) -> None:
    """Cards for games do so by NVLink only; of two different products it is unknown."""
    assert [link.peer_access for link in inventory(text).links] == [peer_access]


def test_large_hosts_have_two_cpus() -> None:
    """Every pair has a way over PCIe."""
    small, large = inventory("4xL4").links, inventory("8xL4").links

    assert [link.path for link in small] == [Path.PHB] * 6
    assert [link.path for link in large].count(Path.SYS) == 16
    assert len(large) == 28


def test_no_product_has_both_kinds_of_links() -> None:
    """What is built with NVLinks takes no bridge."""
    assert not [product.name for product in PRODUCTS.values() if product.nvlinks and product.bridge]
