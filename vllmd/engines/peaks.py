"""The most that NVML saw an engine's processes hold on one GPU while it was loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vllmd.gpu.inventory import Gpu


class Peaks:
    """The loads that are going on, and what was seen of each."""

    def __init__(self) -> None:
        self._before: dict[str, dict[str, int]] = {}
        """What was in use on its GPUs before it came, by engine and GPU."""
        self._most: dict[str, int] = {}

    def begin(self, engine_id: str, gpus: Iterable[Gpu]) -> None:
        """Watch a load on GPUs, from what these hold now."""
        self._before[engine_id] = {gpu.uuid: gpu.used_bytes for gpu in gpus}
        self._most.pop(engine_id, None)

    def observe(self, gpus: Iterable[Gpu], held: Mapping[str, Mapping[str, int]]) -> None:
        """Look at GPUs, with what the driver says that each engine holds there, in bytes by engine and GPU."""
        for gpu in gpus:
            for engine_id, before in self._before.items():
                if gpu.uuid in before:
                    own = held.get(engine_id, {}).get(gpu.uuid)
                    seen = _grown(gpu, before[gpu.uuid]) if own is None else own
                    self._most[engine_id] = max(seen, self._most.get(engine_id, 0))

    def end(self, engine_id: str) -> int | None:
        """Watch a load no more, and say what was seen; `None` if nothing was."""
        self._before.pop(engine_id, None)
        return self._most.pop(engine_id, None) or None


def _grown(gpu: Gpu, before: int) -> int:
    """Tell what a GPU holds more than before, where the driver does not say whose it is; nobody else loads there."""
    says = bool(gpu.processes) and gpu.unaccounted_bytes is not None
    return 0 if says else max(0, gpu.used_bytes - before)
