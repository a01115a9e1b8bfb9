"""Inflate what can be inflated of a damaged gzip file: up to each damage, to the byte, and on from the next point."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final, NamedTuple

from ._gzip_walk import GzipWalk, Point
from ._random_bytes import RandomBytes
from .errors import CompressionError
from .gzsync import START, iter_points
from .inflate import Piece, iter_before_damage

__all__ = ["Break", "has_points", "iter_inflatable"]

_STEP: Final = 1 << 16
_LOOK_BACK: Final = 1 << 18  # inflate may notice damage only after it misread a stored block or two
_SURVIVAL: Final = 96 << 10
_SEARCH: Final = 16 << 20


class Break(NamedTuple):
    """Bytes are missing, or wrong, here.

    Attributes
    ----------
    reason
        The inflate error's short word. After ``"gzip-crc"`` nothing is missing, but something before it is wrong.
    start, stop
        Compressed offsets between which nothing could be inflated.

    """

    reason: str
    start: int
    stop: int


def iter_inflatable(data: RandomBytes, module: Any) -> Iterator[Piece | Break]:
    """Give what a gzip file holds, with a `Break` wherever damage interrupts it."""
    point: Point | None = START.point
    while point is not None:
        failure = yield from _inflate_from(data, module, point)
        if failure is None:
            return
        at = failure.where["compressed_offset"]
        begin, point = point, None if failure.reason == "gzip-truncated" else _next_point(data, module, point, at)
        stop = data.size if point is None else point.compressed
        yield Break(failure.reason, max(begin.compressed, min(at, stop)), stop)


def _inflate_from(
    data: RandomBytes, module: Any, point: Point
) -> Generator[Piece | Break, None, CompressionError | None]:
    walk = GzipWalk(module, point)
    try:
        for chunk in data.iter_chunks(point.compressed):
            for at in range(0, len(chunk), _STEP):
                part = chunk[at : at + _STEP]
                before = walk.copy()
                try:
                    pieces = list(walk.feed(part))
                except CompressionError as error:
                    if error.reason != "gzip-crc":
                        at_damage = yield from iter_before_damage(before, part)
                        error.where["compressed_offset"] = at_damage.position
                        return error
                    yield Break(error.reason, walk.position, walk.position)
                    walk = before  # it has no checksum to compare with, and passes
                    pieces = list(walk.feed(part))
                for piece in pieces:
                    yield Piece(piece, walk.position)
        walk.finish()
    except CompressionError as error:
        return error
    return None


def has_points(data: RandomBytes, module: Any) -> bool:
    """Tell whether a file that does not begin with gzip's magic bytes is gzip nonetheless."""
    return _next_point(data, module, START.point, 0, _SEARCH) is not None


def _next_point(data: RandomBytes, module: Any, last: Point, at: int, limit: int | None = None) -> Point | None:
    """Find the first point after the last one from which inflate gets past the damage."""
    high = data.size if limit is None else min(data.size, limit)
    for point in iter_points(data, max(last.compressed + 1, at - _LOOK_BACK), high):
        stop = max(point.compressed + _SURVIVAL, at + 1)
        walk = GzipWalk(module, point)
        try:
            for chunk in data.iter_chunks(point.compressed, stop):
                for _ in walk.feed(chunk):
                    pass
        except CompressionError:
            continue
        return point
    return None
