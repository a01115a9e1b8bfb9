"""Where a reader of a shard can begin again later, noted while it reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ._gzip_walk import FILE_START, Point

__all__ = ["SPACING", "Notes", "PlainNotes", "Restart"]

SPACING: Final = 1 << 20  # uncompressed bytes: finding a place costs some 50 µs, beginning at one 1 ms


class Restart(NamedTuple):
    """A place at which reading can begin as if everything before it had been read.

    Attributes
    ----------
    point
        Where inflate can begin; in a plain tar just an offset.
    produced
        Uncompressed bytes before it, as the reader counts them.
    crc, length
        CRC-32 and bytes of the gzip member so far; the CRC is None if its beginning was not read.

    """

    point: Point = FILE_START
    produced: int = 0
    crc: int | None = 0
    length: int = 0

    def to_list(self) -> list[Any]:
        """Give it as values that JSON has."""
        return [*self.point, *self[1:]]

    @classmethod
    def from_list(cls, fields: Iterable[Any]) -> Restart:
        """Give back what `to_list` gave."""
        compressed, is_stored, *rest = fields
        return cls(Point(compressed, is_stored), *rest)


class Notes:
    """The restarts that a reader passes; old ones are forgotten when a later place is asked for.

    Parameters
    ----------
    first
        Where it begins.
    spacing
        Uncompressed bytes between two restarts; the default suits readers that may have to go on anywhere.

    Attributes
    ----------
    last
        The newest.

    """

    def __init__(self, first: Restart = Restart(), spacing: int | None = None) -> None:  # noqa: B008 -- immutable
        self.last = first
        self._spacing = spacing or SPACING
        self._restarts = deque([first])

    @property
    def due(self) -> int:
        """Uncompressed offset from which on another restart is wanted."""
        return self.last.produced + self._spacing

    def add(self, restart: Restart) -> None:
        """Note a restart behind all others."""
        self.last = restart
        self._restarts.append(restart)

    def find(self, offset: int) -> Restart:
        """Give the last restart at or before an uncompressed offset; offsets ascend from call to call."""
        while len(self._restarts) > 1 and self._restarts[1].produced <= offset:
            self._restarts.popleft()
        return self._restarts[0]


class PlainNotes:
    """The same for a plain tar, of which every byte is a place to begin."""

    def find(self, offset: int) -> Restart:
        """Give the restart at an offset."""
        return Restart(Point(offset, is_stored=False), offset)
