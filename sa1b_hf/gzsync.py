"""Parts of a shard that can be read on their own, gzip or plain, without an index.

A shard is cut at joints: places where inflate can begin, together with the distance to the next tar entry. Each joint
is reached by reading towards it from some megabytes before; if anything there can be understood in two ways, from
further before, and in the end from the beginning of the file. Equal arguments give equal joints in every process, and
the reader of the part before proves that it arrives at the same place in the same state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from ._deflate import LOOK_AHEAD, iter_stored_runs, resolve_copying_engine
from ._gzip_walk import FILE_START, GzipWalk, Point
from ._random_bytes import RandomBytes
from ._tar_scan import BLOCK, BrokenChainError, HeaderScan, parse_entry
from .errors import CompressionError, ConfigError
from .inflate import GZIP_MAGIC

__all__ = ["DEFAULT_LOOKBACK", "START", "Joint", "find_between", "find_part", "iter_points"]

DEFAULT_LOOKBACK: Final = 8 << 20  # several members: the largest JPEGs of SA-1B have about 5 MB
_GROWTH: Final = 8
_WINDOW: Final = 1 << 18
_SURVIVAL: Final = 1 << 18  # no chance match inflates for so long
_MIN_CHAIN: Final = 3  # headers that must follow from one another before a stretch is believed
_DEFLATE_MAGIC: Final = GZIP_MAGIC + b"\x08"
_MAGIC_WORD: Final = int.from_bytes(GZIP_MAGIC, "little")


class Joint(NamedTuple):
    """Where a part of a shard begins.

    Attributes
    ----------
    point
        Where reading begins; in a plain tar just its offset.
    skip
        Uncompressed bytes from there to the first tar entry of the part.

    """

    point: Point
    skip: int

    def to_list(self) -> list[Any]:
        """Give it as values that JSON has."""
        return [*self.point, self.skip]

    @classmethod
    def from_list(cls, fields: Iterable[Any]) -> Joint:
        """Give back what `to_list` gave."""
        compressed, is_stored, skip = fields
        return cls(Point(compressed, is_stored), skip)


START: Final = Joint(FILE_START, 0)


def find_part(
    data: RandomBytes, index: int, of: int, *, lookback: int = DEFAULT_LOOKBACK, engine: str = "auto"
) -> tuple[Joint | None, Joint | None]:
    """Find where one of several parts begins and ends.

    Parameters
    ----------
    data
        The shard.
    index, of
        Which part, counted from 0, of how many.
    lookback
        Bytes before a nominal cut from which it is approached. A member larger than this that itself holds a tar
        archive could mislead; the reader of the part before would then raise an error.
    engine
        What inflates, see `sa1b_hf.inflate.resolve_engine`.

    Returns
    -------
    tuple of (Joint or None, Joint or None)
        The beginning, None if the part is empty; and the end, None if it is the end of the file. A nominal cut without
        a joint before the next one makes an empty part, and the part before it longer.

    Raises
    ------
    ConfigError
        There is no such part.

    """
    if not 0 <= index < of:
        raise ConfigError(f"part: expected 0 <= index < of, found {index} of {of}")
    begin = START
    if index:
        low, high = data.size * index // of, data.size * (index + 1) // of
        found = find_between(data, low, high, lookback=lookback, engine=engine)
        if found is None:
            return None, None
        begin = found
    cuts = [data.size * cut // of for cut in range(index + 1, of + 1)]
    for low, high in pairwise(cuts):
        if (end := find_between(data, low, high, lookback=lookback, engine=engine)) is not None:
            return begin, end
    return begin, None


def find_between(
    data: RandomBytes, low: int, high: int, *, lookback: int = DEFAULT_LOOKBACK, engine: str = "auto"
) -> Joint | None:
    """Find the first joint in a stretch of a shard.

    Parameters
    ----------
    data
        The shard.
    low, high
        Offsets between which the joint has to be, the latter excluded.
    lookback, engine
        As for `find_part`.

    Returns
    -------
    Joint or None
        None if no place is certain: long runs of stored blocks are missing, or the shard is damaged before it.

    """
    find = _find_joint if data.read(0, 2) == GZIP_MAGIC else _find_plain_joint
    return find(data, low, high, lookback=lookback, engine=engine)


def _find_joint(data: RandomBytes, low: int, high: int, *, lookback: int, engine: str) -> Joint | None:
    module = resolve_copying_engine(engine)
    while low < high:
        if low <= lookback:
            return _Approach(data, module, FILE_START).find(low, high)
        for anchor in _first_points(data, low - lookback, low - lookback // 2):
            try:
                return _Approach(data, module, anchor).find(low, high)
            except CompressionError:
                continue  # it only looked like a point
            except BrokenChainError:
                break
        lookback *= _GROWTH
    return None


def iter_points(data: RandomBytes, low: int, high: int) -> Iterator[Point]:
    """Give what looks like a place where inflate can begin; about one in 128 KiB only looks so."""
    for begin in range(low, high, _WINDOW):
        window = data.read(begin, _WINDOW + LOOK_AHEAD)
        stop = min(_WINDOW, high - begin)
        stored = [(at, True) for at in iter_stored_runs(window, stop)]
        found = stored + [(at, False) for at in _find_members(window) if at < stop]
        yield from (Point(begin + at, is_stored) for at, is_stored in sorted(found))


def _first_points(data: RandomBytes, low: int, high: int, limit: int = 64) -> Iterator[Point]:
    for point, _ in zip(iter_points(data, low, high), range(limit), strict=False):
        yield point


def _find_members(data: bytes) -> Iterator[int]:
    """Give what looks like the beginning of a gzip member; `bytes.find` takes three times as long."""
    for first in (0, 1):
        words = np.frombuffer(data[first : first + ((len(data) - first) & ~1)], "<u2")
        for at in (np.flatnonzero(words == _MAGIC_WORD) * 2 + first).tolist():
            if data.startswith(_DEFLATE_MAGIC, at):
                yield at


class _Approach:
    """Reads from an anchor towards a stretch, and finds its first joint."""

    def __init__(self, data: RandomBytes, module: Any, anchor: Point) -> None:
        self._data = data
        self._module = module
        self._is_certain = anchor == FILE_START
        self._walk = GzipWalk(module, anchor)
        self._scan = HeaderScan()

    def find(self, low: int, high: int) -> Joint | None:
        """Give the first joint in a stretch.

        Raises
        ------
        CompressionError
            The anchor is no point.
        BrokenChainError
            What was read has no clear structure; one must begin earlier.

        """
        try:
            self._feed(low)
            found = self._find_point(low, high)
            return None if found is None else Joint(found[0], self._distance_to_entry(found[1]))
        except (BrokenChainError, CompressionError):
            if self._is_certain:
                return None  # the shard is damaged before the stretch: whoever reads it from the beginning will say so
            raise

    def _feed(self, stop: int) -> None:
        if not self._is_certain:
            # Places that look like points and are none must fail to inflate, or nobody knows which reading is right.
            rivals = list(self._feed_to_rivals(stop - _SURVIVAL))
            if any(self._survives(rival, stop) for rival in rivals):
                raise BrokenChainError
        for chunk in self._data.iter_chunks(self._walk.position, stop):
            self._consume(chunk)

    def _feed_to_rivals(self, stop: int) -> Iterator[Point]:
        begin = self._walk.position
        for point in iter_points(self._data, begin, stop):
            for chunk in self._data.iter_chunks(self._walk.position, point.compressed):
                self._consume(chunk)
            if not (self._walk.is_at_stored() if point.is_stored else self._walk.is_at_end):
                yield point

    def _survives(self, point: Point, stop: int) -> bool:
        walk = GzipWalk(self._module, point)
        try:
            for chunk in self._data.iter_chunks(point.compressed, stop):
                for _ in walk.feed(chunk):
                    pass
        except CompressionError:
            return False
        return True

    def _consume(self, data: bytes) -> None:
        for piece in self._walk.feed(data):
            self._scan.feed(piece)

    def _find_point(self, low: int, high: int) -> tuple[Point, int] | None:
        """Give the first point at `low` or later, and how much had come out before it."""
        while self._walk.position < high:
            begin = self._walk.position
            window = self._data.read(begin, _WINDOW + LOOK_AHEAD)
            if not window:
                return None
            stop = min(_WINDOW, high - begin)
            for at in chain(iter_stored_runs(window, stop), [min(stop, len(window))]):
                self._consume(window[self._walk.position - begin : at])
                if found := self._member_start(low, high):
                    return found
                if at < stop and self._walk.is_at_stored():
                    return Point(begin + at, is_stored=True), self._walk.produced
        return None

    def _member_start(self, low: int, high: int) -> tuple[Point, int] | None:
        for at, produced in self._walk.member_starts:
            if max(low, 1) <= at < high:
                return Point(at, is_stored=False), produced
        return None

    def _distance_to_entry(self, produced: int) -> int:
        chunks = self._data.iter_chunks(self._walk.position)
        while (found := self._try_distance(produced)) is None:
            chunk = next(chunks, b"")
            if not chunk:
                raise BrokenChainError
            self._consume(chunk)
        return found

    def _try_distance(self, produced: int) -> int | None:
        first = 0 if self._is_certain else self._scan.first()
        if first is None:
            raise BrokenChainError
        offsets = self._scan.chain(first, produced)
        if offsets is None:
            return None
        if not self._is_certain and (len(offsets) < _MIN_CHAIN or not self._scan.is_unambiguous(offsets)):
            raise BrokenChainError
        return offsets[-1] - produced


def _find_plain_joint(data: RandomBytes, low: int, high: int, *, lookback: int, engine: str) -> Joint | None:  # noqa: ARG001
    """Find the first entry of a plain tar in a stretch, as `_find_joint` does for gzip."""
    while low > lookback:
        try:
            found = _scan_plain(data, low - lookback, low)
        except BrokenChainError:
            lookback *= _GROWTH
        else:
            return Joint(Point(found, is_stored=False), 0) if found < high else None
    at, in_entry = 0, False
    while at < low or in_entry:
        entry = parse_entry(data.read(at, BLOCK))
        if entry is None:
            return None
        at, in_entry = at + entry.span, entry.is_extension
    return Joint(Point(at, is_stored=False), 0) if at < high else None


def _scan_plain(data: RandomBytes, begin: int, low: int) -> int:
    scan = HeaderScan()
    for chunk in data.iter_chunks(begin, low):
        scan.feed(chunk)
    first = scan.first()
    if first is None:
        raise BrokenChainError
    while (offsets := scan.chain(first, low - begin)) is None:
        more = data.read(begin + scan.scanned, BLOCK)
        if not more:
            raise BrokenChainError
        scan.feed(more)
    if len(offsets) < _MIN_CHAIN or not scan.is_unambiguous(offsets):
        raise BrokenChainError
    return begin + offsets[-1]
