"""GPUs as `status` numbers them, in place of the UUIDs that the API names them by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from vllmd.cli import human
from vllmd.cli.session import QUICK_SECONDS

if TYPE_CHECKING:
    from vllmd.client import Client
    from vllmd.v1.gpu_pb2 import Gpu


class GpuNames:
    """What to call GPUs.

    Args:
        find: lists them, in the order of NVML; asked once, when the first is to be named.
    """

    def __init__(self, find: Callable[[], Iterable[Gpu]]) -> None:
        self._find = find
        self._numbers: Mapping[str, str] | None = None

    def number(self, name: str) -> str:
        """`0`; of one that the daemon does not know, as after it was lost, the beginning of its UUID."""
        if self._numbers is None:
            gpus = list(self._find())
            self._numbers = dict(zip((gpu.name for gpu in gpus), human.gpu_numbers(gpus), strict=True))
        return self._numbers.get(name) or _short(name)

    def label(self, name: str) -> str:
        """`GPU 0`."""
        number = self.number(name)
        return f"GPU {number}" if number[0].isdecimal() else number

    def in_text(self, text: str, names: Iterable[str]) -> str:
        """Put numbers in the place of the UUIDs of these GPUs: `GPU GPU-8f2c1a3b-…` is `GPU 0`."""
        for name in names:
            text = re.sub(rf"(GPU )?{re.escape(human.short(name))}(?![\w-])", self.label(name), text)
        return text

    def listed(self, names: Iterable[str]) -> str:
        """`0, 1`."""
        return ", ".join(map(self.number, names))


def gpus_of(client: Client) -> GpuNames:
    """Name the GPUs of a daemon; one that can't say leaves their UUIDs."""
    from vllmd.client import VllmdError

    def find() -> Iterable[Gpu]:
        try:
            return client.gpus(timeout=QUICK_SECONDS).gpus
        except VllmdError:  # what was asked for is there: a name is no reason to fail
            return ()

    return GpuNames(find)


def _short(name: str) -> str:
    """`gpus/GPU-8f2c1a3b-…` is `GPU-8f2c1a3b`, which is enough to tell the GPUs of a host apart."""
    return "-".join(human.short(name).split("-")[:2])
