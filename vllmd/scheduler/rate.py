"""Tokens a second over the last moments."""

from __future__ import annotations

import collections

WINDOW_SECONDS = 10.0


class Rate:
    """A count that only grows, and how fast it did lately."""

    def __init__(self) -> None:
        self._samples: collections.deque[tuple[float, int]] = collections.deque()

    def sample(self, count: int, now: float) -> None:
        """Note the count; to be called about once a second."""
        self._samples.append((now, count))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_SECONDS:
            self._samples.popleft()

    def per_second(self, count: int, now: float) -> float:
        """Tell how fast it grew over the window that ends now."""
        if not self._samples:
            return 0.0
        then, old = self._samples[0]
        return (count - old) / (now - then) if now - then > 0.5 else 0.0
