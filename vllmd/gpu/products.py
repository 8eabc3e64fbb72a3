"""The GPUs that can be simulated, as NVML reports them, and the words that ask for them.

    2xRTX3090              two of a kind
    8xH100                 eight of another
    1xH200,1xRTX4090       a mixed host, in the order of the bus
    2xRTX3099              refused: no such product, and the nearest one is named
    0xH100                 refused: a host has 1 to 16 GPUs

Total bytes are what `nvidia-smi` shows. What the driver keeps for itself moves with its version and with ECC; these
are typical figures, rounded.
"""

from __future__ import annotations

import dataclasses
import difflib
import re

from vllmd.gpu.inventory import Gpu

MOST_GPUS = 16
"""The largest single hosts have as many."""

_MIB = 1 << 20
_PART = re.compile(r"\s*(\d+)\s*[xX]\s*(\S.*?)\s*")


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """One product of NVIDIA."""

    name: str
    """NVML's."""
    total_mib: int
    reserved_mib: int
    """In use although nobody uses the GPU: the driver's own."""
    compute_capability: tuple[int, int]


_A100 = Product("NVIDIA A100-SXM4-80GB", 81920, 763, (8, 0))
PRODUCTS = {
    "T4": Product("Tesla T4", 15360, 450, (7, 5)),
    "V100": Product("Tesla V100-SXM2-32GB", 32768, 300, (7, 0)),
    "RTX3060": Product("NVIDIA GeForce RTX 3060", 12288, 240, (8, 6)),
    "RTX3090": Product("NVIDIA GeForce RTX 3090", 24576, 317, (8, 6)),
    "RTX4080": Product("NVIDIA GeForce RTX 4080", 16376, 300, (8, 9)),
    "RTX4090": Product("NVIDIA GeForce RTX 4090", 24564, 354, (8, 9)),
    "RTX5090": Product("NVIDIA GeForce RTX 5090", 32607, 480, (12, 0)),
    "RTXA6000": Product("NVIDIA RTX A6000", 49140, 450, (8, 6)),
    "RTX6000ADA": Product("NVIDIA RTX 6000 Ada Generation", 49140, 500, (8, 9)),
    "RTXPRO6000": Product("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, 640, (12, 0)),
    "A10": Product("NVIDIA A10", 23028, 490, (8, 6)),
    "A10G": Product("NVIDIA A10G", 23028, 490, (8, 6)),
    "A40": Product("NVIDIA A40", 46068, 600, (8, 6)),
    "L4": Product("NVIDIA L4", 23034, 490, (8, 9)),
    "L40S": Product("NVIDIA L40S", 46068, 599, (8, 9)),
    "A100-40GB": Product("NVIDIA A100-SXM4-40GB", 40960, 570, (8, 0)),
    "A100-80GB": _A100,
    "A100": _A100,
    "H100": Product("NVIDIA H100 80GB HBM3", 81559, 551, (9, 0)),
    "H200": Product("NVIDIA H200", 143771, 700, (9, 0)),
    "B200": Product("NVIDIA B200", 183359, 900, (10, 0)),
}
"""By the short name that asks for it; the bare name of a product that comes in two sizes is the larger."""


def parse(text: str) -> tuple[Gpu, ...]:
    """Make the GPUs that a text such as `2xRTX3090` or `1xH200,1xRTX4090` asks for, with nobody on them.

    Raises:
        ValueError: it is no such text, or names a product that nobody knows of here.
    """
    products = [product for part in text.split(",") for product in _parse_part(part)]
    if len(products) > MOST_GPUS:
        raise ValueError(f"{text} is {len(products)} GPUs, and a host has 1 to {MOST_GPUS}")
    return tuple(_gpu(index, product) for index, product in enumerate(products))


def uuid_of(index: int) -> str:
    """Name the GPU at an index the same way in every simulation; its beginning is nobody else's."""
    return f"GPU-SIM-{index:04d}-0000-0000-000000000000"


def _parse_part(part: str) -> list[Product]:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"{part.strip()!r} is not of the form COUNTxPRODUCT, such as 2xRTX3090")
    count, product = int(match[1]), _find(match[2])
    if not 1 <= count <= MOST_GPUS:
        raise ValueError(f"{part.strip()} is {count} GPUs, and a host has 1 to {MOST_GPUS}")
    return [product] * count


def _find(name: str) -> Product:
    """Find a product by its short name or by NVML's, however it is spaced."""
    known = {_plain(key): key for key in PRODUCTS}
    key = {_plain(product.name): key for key, product in PRODUCTS.items()} | known
    wanted = _plain(name)
    if wanted in key:
        return PRODUCTS[key[wanted]]
    nearest = known[difflib.get_close_matches(wanted, known, n=1, cutoff=0.0)[0]]
    raise ValueError(f"no GPU called {name} is known; the nearest is {nearest}, and there are {', '.join(PRODUCTS)}")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).upper()


def _gpu(index: int, product: Product) -> Gpu:
    total, reserved = product.total_mib * _MIB, product.reserved_mib * _MIB
    return Gpu(
        uuid=uuid_of(index),
        index=index,
        product=product.name,
        total_bytes=total,
        used_bytes=reserved,
        free_bytes=total - reserved,
        compute_capability=product.compute_capability,
    )
