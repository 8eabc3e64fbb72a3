"""The GPUs that can be simulated, as NVML reports them, and the words that ask for them.

    2xRTX3090              two of a kind
    2xRTX3090+nvlink       joined by an NVLink bridge; of more, each two: the first with the second, and so on
    8xH100                 eight of another, with the NVLinks that they are built with
    1xH200,1xRTX4090       a mixed host, in the order of the bus
    2xRTX3099              refused: no such product, and the nearest one is named
    2xL4+nvlink            refused: there is no bridge for it
    0xH100                 refused: a host has 1 to 16 GPUs

Total bytes are what `nvidia-smi` shows. What the driver keeps for itself moves with its version and with ECC; these
are typical figures, rounded.

NVLinks are counted as `nvidia-smi topo -m` does. The numbers are NVIDIA's bandwidth of a GPU over that of a link, both
from its data sheets: A100 600/50, H100 and H20 900/50, B200 and B300 1800/100 GB/s, all over NVSwitches; by a bridge
RTX 3090, A5000, A6000 and A40 112.5/28, and A100, H100 PCIe and H100 NVL, with all three bridges, 600/50. Where they
are plugged in is a guess: up to four GPUs at one CPU, more at two.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import re

from vllmd.gpu.inventory import Gpu, GpuLink, Inventory, Path

MOST_GPUS = 16
"""The largest single hosts have as many."""

_GPUS_AT_A_CPU = 4
_MIB = 1 << 20
_PART = re.compile(r"\s*(\d+)\s*x\s*(\S.*?)\s*(\+\s*nvlink)?\s*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """One product of NVIDIA."""

    name: str
    """NVML's."""
    total_mib: int
    reserved_mib: int
    """In use although nobody uses the GPU: the driver's own."""
    compute_capability: tuple[int, int]
    nvlinks: int = 0
    """Between every two of them as they are built in; 0 if they are plugged into PCIe only."""
    board: int = MOST_GPUS
    """How many of them are linked so, each with each."""
    bridge: int = 0
    """NVLinks between two of them with a bridge over them; 0 if there is none for it."""

    @property
    def peers_over_pcie(self) -> bool:
        """Whether the driver lets two of them read each other's memory without NVLink: of the cards for games, not."""
        return "GeForce" not in self.name


_A100 = Product("NVIDIA A100-SXM4-80GB", 81920, 763, (8, 0), nvlinks=12)
PRODUCTS = {
    "T4": Product("Tesla T4", 15360, 450, (7, 5)),
    # Six links of its own, without a switch: two to each of three others. A second board of four is linked to the first
    # by some of its GPUs only, which is left out.
    "V100": Product("Tesla V100-SXM2-32GB", 32768, 300, (7, 0), nvlinks=2, board=4),
    "RTX3060": Product("NVIDIA GeForce RTX 3060", 12288, 240, (8, 6)),
    "RTX3090": Product("NVIDIA GeForce RTX 3090", 24576, 317, (8, 6), bridge=4),
    "RTX4080": Product("NVIDIA GeForce RTX 4080", 16376, 300, (8, 9)),
    "RTX4090": Product("NVIDIA GeForce RTX 4090", 24564, 354, (8, 9)),
    "RTX5090": Product("NVIDIA GeForce RTX 5090", 32607, 480, (12, 0)),
    "RTXA5000": Product("NVIDIA RTX A5000", 24564, 430, (8, 6), bridge=4),
    "RTXA6000": Product("NVIDIA RTX A6000", 49140, 450, (8, 6), bridge=4),
    "RTX4000ADA": Product("NVIDIA RTX 4000 Ada Generation", 20475, 380, (8, 9)),
    "RTX6000ADA": Product("NVIDIA RTX 6000 Ada Generation", 49140, 500, (8, 9)),
    "RTXPRO6000": Product("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, 640, (12, 0)),
    "A10": Product("NVIDIA A10", 23028, 490, (8, 6)),
    "A10G": Product("NVIDIA A10G", 23028, 490, (8, 6)),
    "A40": Product("NVIDIA A40", 46068, 600, (8, 6), bridge=4),
    "L4": Product("NVIDIA L4", 23034, 490, (8, 9)),
    "L40": Product("NVIDIA L40", 46068, 599, (8, 9)),
    "L40S": Product("NVIDIA L40S", 46068, 599, (8, 9)),
    "A100-PCIE-40GB": Product("NVIDIA A100-PCIE-40GB", 40960, 570, (8, 0), bridge=12),
    "A100-PCIE": Product("NVIDIA A100 80GB PCIe", 81920, 763, (8, 0), bridge=12),
    "A100-40GB": Product("NVIDIA A100-SXM4-40GB", 40960, 570, (8, 0), nvlinks=12),
    "A100-80GB": _A100,
    "A100": _A100,
    "H20": Product("NVIDIA H20", 97871, 640, (9, 0), nvlinks=18),
    "H100-PCIE": Product("NVIDIA H100 PCIe", 81559, 551, (9, 0), bridge=12),
    "H100-NVL": Product("NVIDIA H100 NVL", 95830, 640, (9, 0), bridge=12),
    "H100": Product("NVIDIA H100 80GB HBM3", 81559, 480, (9, 0), nvlinks=18),
    # Its NVLinks lead to its own CPU, or to other hosts.
    "GH200": Product("NVIDIA GH200 480GB", 97871, 640, (9, 0)),
    "H200": Product("NVIDIA H200", 143771, 700, (9, 0), nvlinks=18),
    "B200": Product("NVIDIA B200", 183359, 900, (10, 0), nvlinks=18),
    "B300": Product("NVIDIA B300 SXM6 AC", 275040, 1300, (10, 3), nvlinks=18),
}
"""By the short name that asks for it; the bare name of a product that comes in two sizes is the larger."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Seat:
    """Where one GPU sits."""

    product: Product
    number: int
    """Among its like."""
    bridge: tuple[int, int] | None
    """The part of the text and the pair in it."""


def parse(text: str) -> tuple[Gpu, ...]:
    """Make the GPUs that a text such as `2xRTX3090` or `1xH200,1xRTX4090` asks for, with nobody on them.

    Raises:
        ValueError: it is no such text, or names a product that nobody knows of here.
    """
    return inventory(text).gpus


def inventory(text: str) -> Inventory:
    """Make the GPUs that a text asks for, and how they are connected.

    Raises:
        ValueError: as for `parse`.
    """
    seats: list[_Seat] = []
    for part, words in enumerate(text.split(",")):
        product, count, bridged = _parse_part(words)
        earlier = sum(seat.product == product for seat in seats)
        seats += [_Seat(product, earlier + number, (part, number // 2) if bridged else None) for number in range(count)]
    if len(seats) > MOST_GPUS:
        raise ValueError(f"{text} is {len(seats)} GPUs, and a host has 1 to {MOST_GPUS}")
    gpus = tuple(_gpu(index, seat.product) for index, seat in enumerate(seats))
    return Inventory(gpus, links=_links(seats))


def uuid_of(index: int) -> str:
    """Name the GPU at an index the same way in every simulation; its beginning is nobody else's."""
    return f"GPU-SIM-{index:04d}-0000-0000-000000000000"


def _parse_part(part: str) -> tuple[Product, int, bool]:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"{part.strip()!r} is not of the form COUNTxPRODUCT, such as 2xRTX3090")
    count, product, bridged = int(match[1]), _find(match[2]), bool(match[3])
    if not 1 <= count <= MOST_GPUS:
        raise ValueError(f"{part.strip()} is {count} GPUs, and a host has 1 to {MOST_GPUS}")
    if bridged and not product.bridge:
        why = "its NVLinks are built in" if product.nvlinks else "it has no NVLink"
        raise ValueError(f"{part.strip()}: there is no bridge for {product.name}: {why}")
    if bridged and count < 2:
        raise ValueError(f"{part.strip()}: a bridge joins two GPUs")
    return product, count, bridged


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
        reserved_bytes=reserved,
    )


def _links(seats: list[_Seat]) -> tuple[GpuLink, ...]:
    half = len(seats) if len(seats) <= _GPUS_AT_A_CPU else (len(seats) + 1) // 2
    links = []
    for (first, one), (second, other) in itertools.combinations(enumerate(seats), 2):
        nvlinks = _nvlinks(one, other)
        path = Path.PHB if first // half == second // half else Path.SYS
        links.append(GpuLink(uuid_of(first), uuid_of(second), nvlinks, path, _peer_access(one, other, nvlinks)))
    return tuple(links)


def _nvlinks(one: _Seat, other: _Seat) -> int:
    if one.product != other.product:
        return 0
    if one.bridge is not None and one.bridge == other.bridge:
        return one.product.bridge
    board = one.product.board
    return one.product.nvlinks if one.number // board == other.number // board else 0


def _peer_access(one: _Seat, other: _Seat, nvlinks: int) -> bool | None:
    """Of two different products nobody here knows."""
    if one.product != other.product:
        return None
    return bool(nvlinks) or one.product.peers_over_pcie
