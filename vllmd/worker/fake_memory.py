"""What a fake engine holds on a simulated host: taken as vLLM takes it, weights first, then the KV cache.

The worker claims in the names of the processes below it, since it is the one that knows how far the start has come.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import pathlib
import threading
import time
from collections.abc import Mapping, Sequence

from .processes import Identity, processes
from .simulation import OutOfMemory, claim, read_gpus
from .spec import SIMULATION_VARIABLE

WEIGHTS = 1 / 3
"""Of all that an engine holds, what it has once its weights are loaded."""
DEFAULT_UTILIZATION = 0.9
"""Of each GPU, where the engine arguments do not say, as in vLLM."""
_GROWTH_SECONDS = 0.1
_PARTS = {"activation_bytes": 0.04, "other_bytes": 0.01, "graphs_bytes": 0.02}
"""Of all that an engine holds, what it has beside weights and KV cache."""


class FakeMemory:
    """The memory of one fake engine.

    Args:
        directory: the simulation's.
        wanted: bytes by GPU's UUID for each of its processes, once it is ready.
    """

    def __init__(self, directory: pathlib.Path, wanted: Mapping[Identity, Mapping[str, int]]) -> None:
        self._directory = directory
        self._wanted = wanted

    @property
    def most_bytes(self) -> int:
        """What it is to hold on one GPU, at most."""
        sizes: collections.Counter[str] = collections.Counter()
        for shares in self._wanted.values():
            sizes.update(shares)
        return max(sizes.values())

    def hold(self, fraction: float, extra_bytes: int = 0) -> None:
        """Hold a part of what is wanted, and so much more on each GPU.

        Raises:
            OutOfMemory: it is not free.
            OSError: a process or the simulation is gone.
        """
        for identity, shares in self._wanted.items():
            sizes = {uuid: int(size * fraction) + extra_bytes for uuid, size in shares.items()}
            claim(self._directory, sizes, identity)

    def grow(self, bytes_per_second: int) -> threading.Thread:
        """Leak on every GPU from now on, until the processes are gone or a GPU is full: then the thread ends."""
        thread = threading.Thread(target=self._leak, args=(bytes_per_second,), name="fake leak", daemon=True)
        thread.start()
        return thread

    def _leak(self, bytes_per_second: int) -> None:
        with contextlib.suppress(OutOfMemory, OSError):
            for steps in itertools.count(1):
                time.sleep(_GROWTH_SECONDS)
                self.hold(1.0, int(steps * _GROWTH_SECONDS * bytes_per_second))


def parts(held_bytes: int) -> dict[str, int]:
    """Divide what an engine holds on a GPU into what vLLM would have measured of it, which is all of it."""
    found = {"weights_bytes": int(held_bytes * WEIGHTS)}
    found |= {name: int(held_bytes * share) for name, share in _PARTS.items()}
    return found | {"kv_cache_bytes": held_bytes - sum(found.values())}


def memory_of(
    core_pid: int, utilization: float, bytes_per_gpu: int | None, environment: Mapping[str, str] = os.environ
) -> FakeMemory | None:
    """Find out what an engine is to hold; `None` where no host is simulated, or it has no GPU of it.

    Args:
        core_pid: its EngineCore; processes below that hold the memory in its place, each of a GPU of its own.
        utilization: the share of each GPU that it takes.
        bytes_per_gpu: what it takes of each instead; `None` for that share.
        environment: names the simulation and the GPUs.
    """
    if not (directory := environment.get(SIMULATION_VARIABLE)):
        return None
    gpus = read_gpus(pathlib.Path(directory))
    visible = [uuid for uuid in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if uuid in gpus]
    sizes = {
        uuid: int(gpus[uuid].total_bytes * utilization) if bytes_per_gpu is None else bytes_per_gpu for uuid in visible
    }
    everybody = processes()
    core = next(stat.identity for stat in everybody if stat.identity.pid == core_pid)
    workers = sorted(
        (stat.identity for stat in everybody if stat.parent_pid == core_pid),
        key=lambda identity: (identity.start_ticks, identity.pid),  # the order of their ranks
    )
    return FakeMemory(pathlib.Path(directory), spread(core, workers, sizes)) if sizes else None


def spread(core: Identity, workers: Sequence[Identity], sizes: Mapping[str, int]) -> dict[Identity, dict[str, int]]:
    """Say which process holds what: each worker one GPU, or EngineCore all of them where it has no workers."""
    if not workers:
        return {core: dict(sizes)}
    return {worker: {uuid: size} for worker, (uuid, size) in zip(workers, sizes.items(), strict=False)}
