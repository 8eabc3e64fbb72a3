"""Which GPUs go together: alike, near each other, and with the most left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vllmd.gpu.inventory import Gpu, GpuLink, Path

_JOINED = -1
_PATHS = tuple(Path)
_FAR = len(_PATHS)


class Topology:
    """How the GPUs of a host are connected.

    Args:
        links: as NVML tells; what it does not tell counts as far away.
    """

    def __init__(self, links: Sequence[GpuLink] = ()) -> None:
        self._distances: dict[tuple[str, str], int] = {}
        for link in links:
            self._distances[link.first, link.second] = self._distances[link.second, link.first] = _distance(link)
        self._joins = any(link.nvlinks for link in links)
        self._islands: dict[tuple[str, ...], list[tuple[Gpu, ...]]] = {}

    def joined(self, first: Gpu, second: Gpu) -> bool:
        """Tell whether two GPUs reach each other over NVLink."""
        return self._distance(first, second) == _JOINED

    def all_joined(self, gpus: Sequence[Gpu]) -> bool:
        """Tell whether every two of some GPUs reach each other over NVLink; no for a single one."""
        return len(gpus) > 1 and all(
            self.joined(one, other) for index, one in enumerate(gpus) for other in gpus[index + 1 :]
        )

    def islands(self, gpus: Sequence[Gpu]) -> list[tuple[Gpu, ...]]:
        """Divide GPUs into sets in which every two are joined, the largest first; lone ones are left out."""
        if not self._joins:
            return []
        names = tuple(gpu.uuid for gpu in gpus)
        if names not in self._islands:
            self._islands[names] = self._find_islands(gpus)
        return self._islands[names]

    def _find_islands(self, gpus: Sequence[Gpu]) -> list[tuple[Gpu, ...]]:
        left, found = list(gpus), []
        while left:
            best: list[Gpu] = []
            for start in left:
                island = [start]
                for other in left:
                    if other is not start and all(self.joined(other, member) for member in island):
                        island.append(other)
                if len(island) > len(best):
                    best = island
            taken = {gpu.uuid for gpu in best}
            left = [gpu for gpu in left if gpu.uuid not in taken]
            found.append(tuple(best))
        return sorted((island for island in found if len(island) > 1), key=len, reverse=True)

    def sets(self, gpus: Sequence[Gpu], count: int) -> Iterator[tuple[Gpu, ...]]:
        """List sets of so many GPUs that are worth trying, the best first: in one island, then near, then free.

        Of islands the smallest that suffices comes first, so that the large ones stay whole; of equal ones the freer.
        """
        seen = set()
        for chosen in self._candidates(gpus, count):
            names = frozenset(gpu.uuid for gpu in chosen)
            if names not in seen:
                seen.add(names)
                yield chosen

    def _candidates(self, gpus: Sequence[Gpu], count: int) -> Iterator[tuple[Gpu, ...]]:
        inside = [(len(island), _freest(island, count)) for island in self.islands(gpus) if len(island) >= count > 1]
        for _, chosen in sorted(inside, key=lambda one: (one[0], -_least_free(one[1]))):
            yield chosen
        if 1 < count < len(gpus) and self._distances:
            around = [*(self._around(start, gpus, count) for start in gpus), _freest(gpus, count)]
            most = max(_least_free(chosen) >> 30 for chosen in around)
            yield min((chosen for chosen in around if _least_free(chosen) >> 30 == most), key=self._spread)
        yield _freest(gpus, count)

    def _around(self, start: Gpu, gpus: Sequence[Gpu], count: int) -> tuple[Gpu, ...]:
        others = [gpu for gpu in gpus if gpu is not start]
        others.sort(key=lambda gpu: (self._distance(start, gpu), -gpu.free_bytes))
        return _ordered([start, *others[: count - 1]])

    def _spread(self, gpus: Sequence[Gpu]) -> int:
        return max((self._distance(one, other) for one in gpus for other in gpus if one is not other), default=0)

    def _distance(self, first: Gpu, second: Gpu) -> int:
        return self._distances.get((first.uuid, second.uuid), _FAR)


def _distance(link: GpuLink) -> int:
    if link.nvlinks:
        return _JOINED
    return _FAR if link.path is None else _PATHS.index(link.path)


def alike(gpus: Sequence[Gpu]) -> list[tuple[Gpu, ...]]:
    """Group GPUs of one product and size, those with the most memory free in all first; each MIG slice is alone.

    Of groups within a GiB the newer GPUs come first: an RTX 4090 has 12 MiB less than an RTX 3090.
    """
    groups: dict[tuple[object, ...], list[Gpu]] = {}
    for gpu in gpus:
        kind = (gpu.product, gpu.total_bytes, gpu.compute_capability, gpu.uuid if gpu.mig_parent else None)
        groups.setdefault(kind, []).append(gpu)
    return sorted(map(tuple, groups.values()), key=_rank)


def _rank(group: Sequence[Gpu]) -> tuple[int, int, int, int]:
    free, (major, minor) = sum(gpu.free_bytes for gpu in group), group[0].compute_capability or (0, 0)
    return -(free >> 30), -major, -minor, -free


def _least_free(gpus: Sequence[Gpu]) -> int:
    return min(gpu.free_bytes for gpu in gpus)


def _freest(gpus: Sequence[Gpu], count: int) -> tuple[Gpu, ...]:
    return _ordered(sorted(gpus, key=lambda gpu: -gpu.free_bytes)[:count])


def _ordered(gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    return tuple(sorted(gpus, key=lambda gpu: gpu.index))
