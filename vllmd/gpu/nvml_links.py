"""Reads through NVML how the GPUs of a host are connected.

The functions take the `pynvml` module, which only `nvml` imports. Every answer is one that one can do without: what
NVML does not say of two GPUs is unknown, and everything else is read all the same.

NVLinks are counted as `nvidia-smi topo -m` does: those whose other end is the other GPU, or where both GPUs are
connected to NVSwitches, as many as each of them has there. All switches of a host are taken for one fabric.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from vllmd.gpu.inventory import Gpu, GpuLink, Path

# Of nvml.h. pynvml has them too, but its NVML_P2P_CAPS_INDEX_READ is a tuple, by a stray comma.
_READ, _WRITE, _NVLINK = 0, 1, 2
_OK, _UNKNOWN = 0, 6
_TO_GPU, _TO_SWITCH, _TO_UNKNOWN = 0, 2, 0xFF
_PATHS = {0: Path.BOARD, 10: Path.PIX, 20: Path.PXB, 30: Path.PHB, 40: Path.NODE, 50: Path.SYS}


@dataclasses.dataclass(frozen=True, slots=True)
class Ends:
    """Where the active NVLinks of one GPU lead."""

    gpus: Counter[str]
    """How many lead to which GPU, by its place on the bus."""
    switches: int = 0
    unclear: int = 0
    """NVML does not say what is there: NVSwitches that are not on the bus, say."""


def read(pynvml: Any, gpus: Sequence[Gpu]) -> tuple[GpuLink, ...]:
    """Read how every two of the GPUs are connected. Slices of a GPU are connected to nothing, and left out."""
    handles: dict[str, Any] = {}
    for gpu in gpus:
        if gpu.mig_parent is None:
            with contextlib.suppress(pynvml.NVMLError):
                handles[gpu.uuid] = pynvml.nvmlDeviceGetHandleByIndex(gpu.index)
    wholes = [gpu for gpu in gpus if gpu.uuid in handles]
    ends = {gpu.uuid: _ends(pynvml, handles[gpu.uuid]) for gpu in wholes}
    return tuple(
        GpuLink(
            first.uuid,
            second.uuid,
            _nvlinks(pynvml, (first, handles[first.uuid]), (second, handles[second.uuid]), ends),
            _path(pynvml, handles[first.uuid], handles[second.uuid]),
            _peer_access(pynvml, handles[first.uuid], handles[second.uuid]),
        )
        for first, second in itertools.combinations(wholes, 2)
    )


def place(bus_id: str) -> str:
    """Write a place on the bus in one way: NVML has domains of four digits and of eight, and both cases."""
    domain, _, rest = bus_id.rpartition(":")[0].partition(":")
    slot = bus_id.rpartition(":")[2].partition(".")[0]
    return f"{domain.lstrip('0')}:{rest}:{slot}".upper()


def _ends(pynvml: Any, handle: Any) -> Ends | None:
    """Ask where each NVLink of a GPU leads; `None` if NVML answers for none, as where the GPU has no NVLink."""
    gpus: Counter[str] = Counter()
    kinds: Counter[int] = Counter()
    answered = False
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        # Beyond a GPU's last link, and for one that is fused off, NVML has errors of several kinds.
        with contextlib.suppress(pynvml.NVMLError):
            active = pynvml.nvmlDeviceGetNvLinkState(handle, link)
            answered = True
            if active:
                kind, bus_id = _end(pynvml, handle, link)
                kinds[kind] += 1
                if bus_id and kind in (_TO_GPU, _TO_UNKNOWN):
                    gpus[place(bus_id)] += 1
    return Ends(gpus, kinds[_TO_SWITCH], kinds[_TO_UNKNOWN]) if answered else None


def _end(pynvml: Any, handle: Any, link: int) -> tuple[int, str]:
    """Ask what is at the other end of an NVLink, and where that is."""
    kind, bus_id = _TO_UNKNOWN, ""
    with contextlib.suppress(pynvml.NVMLError):
        kind = int(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link))
    with contextlib.suppress(pynvml.NVMLError):
        bus_id = str(pynvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId)
    return kind, bus_id


def _nvlinks(pynvml: Any, first: tuple[Gpu, Any], second: tuple[Gpu, Any], ends: dict[str, Ends | None]) -> int | None:
    """Count the NVLinks between two GPUs.

    Where they are not found, it takes an answer to say that there are none: NVML is asked whether the two can reach
    each other by NVLink, which it knows of GPUs without NVLink and of switches that can't be seen, too.
    """
    ours, theirs = ends[first[0].uuid], ends[second[0].uuid]
    direct = max(_leading(ours, second[0]), _leading(theirs, first[0]))
    if direct:
        return direct
    if ours and theirs and ours.switches and theirs.switches:
        return min(ours.switches, theirs.switches)
    reaches = _status(pynvml, first[1], second[1], _NVLINK)
    if reaches is None:
        return 0 if ours and theirs and not (ours.unclear or theirs.unclear) else None
    if not reaches:
        return 0
    if ours and theirs:
        return min(ours.switches + ours.unclear, theirs.switches + theirs.unclear) or None
    return None


def _leading(ends: Ends | None, to: Gpu) -> int:
    return ends.gpus[place(to.pci.bus_id)] if ends is not None and to.pci is not None else 0


def _path(pynvml: Any, first: Any, second: Any) -> Path | None:
    with contextlib.suppress(pynvml.NVMLError):
        return _PATHS.get(pynvml.nvmlDeviceGetTopologyCommonAncestor(first, second))
    return None


def _peer_access(pynvml: Any, first: Any, second: Any) -> bool | None:
    """Ask whether both can read and write the other's memory: one refusal is enough, and else all must be known."""
    pairs = ((first, second), (second, first))
    answers = [_status(pynvml, *pair, capability) for pair in pairs for capability in (_READ, _WRITE)]
    if False in answers:
        return False
    return None if None in answers else True


def _status(pynvml: Any, first: Any, second: Any, capability: int) -> bool | None:
    with contextlib.suppress(pynvml.NVMLError):
        status = pynvml.nvmlDeviceGetP2PStatus(first, second, capability)
        return None if status == _UNKNOWN else bool(status == _OK)
    return None
