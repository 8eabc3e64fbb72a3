"""Something to write a page about."""

from __future__ import annotations

__all__ = ["Broken", "Name", "Thing", "thing_of"]

Name = str


class Thing:
    """A thing.

    Args:
        size: in bytes,
            or more.
    """

    weight: int
    """In GiB | or so."""

    async def call(
        self, first: int, /, *, second: str = "a default that is much longer than any other is", third: int
    ) -> bool:
        """Do it."""
        return bool(first or second or third)

    def _own(self) -> None:
        """Not for others."""

    @property
    def colour(self) -> str:
        """Its colour."""
        return "red"


class Broken(Exception):
    """It is broken."""


def thing_of(*names: Name) -> Thing:
    """Make one.

    Raises:
        Broken: it can't be made.
    """
    return Thing()
