"""Which stretches of a shard have been read by whom, and what is left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ._random_bytes import RandomBytes
from ._restarts import Restart
from .gzsync import START, Joint, find_between
from .source import Blob

__all__ = ["Cover", "Region", "Unpaired", "iter_around", "iter_uncovered"]

_NEAR: Final = 16 << 20
_GROWTH: Final = 8


class Unpaired(NamedTuple):
    """What a reader met since it was last asked.

    Attributes
    ----------
    documents
        (image id, packed place, bytes) of documents whose image was not met so far.
    images
        Ids of images.

    """

    documents: list[tuple[int, bytes, bytes]]
    images: list[int]


class Region(NamedTuple):
    """A stretch of a shard.

    Attributes
    ----------
    begin, end
        The joints between which it lies; None is the end of the file.
    start
        Where in it to begin: a restart, and the offset of a tar entry as a reader from `begin` counts.

    """

    begin: Joint
    end: Joint | None
    start: tuple[Restart, int] | None = None


@dataclass
class Cover:
    """What a reader found in its part.

    Attributes
    ----------
    begin, end
        The joints of the part.
    start
        How far the reader came, as in `Region`.
    is_complete
        It came to the end.
    images
        Ids of the images that it met.
    documents
        Packed place and bytes of documents for which it met no image, by image id.

    """

    begin: Joint
    end: Joint | None
    start: tuple[Restart, int] = (Restart(), 0)
    is_complete: bool = False
    images: set[int] = field(default_factory=set)
    documents: dict[int, tuple[bytes, Blob]] = field(default_factory=dict)

    def is_further_than(self, other: Cover | None) -> bool:
        """Compare with another cover of the same part."""
        return other is None or (self.is_complete, self.start[1]) > (other.is_complete, other.start[1])


def iter_uncovered(covers: Iterable[Cover]) -> Iterator[Region]:
    """Give what was not read, in the order of the file."""
    at: Joint | None = START
    for cover in sorted(covers, key=lambda cover: cover.begin.point.compressed):
        if at is None:
            return
        if cover.begin.point.compressed > at.point.compressed:
            yield Region(at, cover.begin)
        if not cover.is_complete:
            yield Region(cover.begin, cover.end, cover.start)
        at = cover.end
    if at is not None:
        yield Region(at, None)


def iter_around(data: RandomBytes, begin: Joint, end: Joint | None, *, lookback: int, engine: str) -> Iterator[Region]:
    """Give everything outside a part, first what is near; arguments are those of `sa1b_hf.gzsync.find_part`."""
    reach = _NEAR
    while begin != START or end is not None:
        if end is not None:
            after = find_between(data, end.point.compressed + reach, data.size, lookback=lookback, engine=engine)
            yield Region(end, after)
            end = after
        if begin != START:
            low, high = begin.point.compressed - reach, begin.point.compressed
            before = find_between(data, low, high, lookback=lookback, engine=engine) if low > 0 else START
            yield Region(before or START, begin)
            begin = before or START
        reach *= _GROWTH
