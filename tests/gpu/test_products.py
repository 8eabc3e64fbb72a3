from __future__ import annotations

import pytest

from vllmd.gpu.inventory import Gpu
from vllmd.gpu.products import PRODUCTS, parse, uuid_of

MIB = 1 << 20


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
