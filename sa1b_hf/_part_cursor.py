"""A cursor over one part of a shard, from its joint to the next and as far beyond as its last member reaches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

from ._deflate import resolve_copying_engine
from ._gzip_walk import Checksums, GzipWalk, Point, gzip_error
from ._parallel_inflate import iter_inflated_parallel
from ._random_bytes import RandomBytes
from ._restarts import Notes, PlainNotes, Restart
from .gzsync import Joint
from .inflate import GZIP_MAGIC, Inflater
from .source import FileCursor, StreamCursor
from .tar import Member, SkippedMember, iter_members
from .transport import local_path

__all__ = ["PartCursor", "PlainPartCursor", "iter_part_members", "open_between"]


_THREADS_CHUNK: Final = 1 << 22


class PlainPartCursor(FileCursor):
    """A cursor over a part of a plain local file, with the offsets of the file."""

    def __init__(self, path: Path, begin: Joint, end: Joint | None, shard: str | None, offset: int | None) -> None:
        super().__init__(path)
        self.offset = begin.point.compressed if offset is None else offset
        self.notes = PlainNotes()
        self.checksums = Checksums()
        self._end = end
        self._shard = shard

    def is_past(self, offset: int) -> bool:
        """Tell whether an entry that begins at `offset` belongs to a later part."""
        return self._end is not None and offset >= self._end.point.compressed

    def check_end(self) -> None:
        """Check that the next part begins where this one ends; raises as `PartCursor.check_end`."""
        if self._end is not None and self.offset > self._end.point.compressed:
            raise gzip_error("gzip-joint", self._end.point.compressed, self._shard)


class PartCursor(StreamCursor):
    """A cursor whose offsets count from the first entry of a part.

    Attributes
    ----------
    checksums
        Of what lies between the two joints; complete once the members were read to the end. With those of the other
        parts `Checksums.agree` tells whether the whole file is right.
    notes
        Where a later reader of the same part can begin.

    """

    def __init__(
        self,
        data: RandomBytes,
        begin: Joint,
        end: Joint | None,
        *,
        engine: str = "auto",
        shard: str | None = None,
        start: tuple[Restart, int] | None = None,
        threads: int = 1,
        spacing: int | None = None,
    ) -> None:
        self._begin = begin
        self._end = end
        self._shard = shard
        self._threads = threads
        self._limit: int | None = None
        self.checksums = Checksums()
        is_gzip = data.read(0, 2) == GZIP_MAGIC
        known = None if begin.point.is_stored else 0
        restart, offset = start or (Restart(begin.point, -begin.skip, known), 0)
        self.notes: Notes | PlainNotes = Notes(restart, spacing) if is_gzip else _ShiftedNotes(begin.point.compressed)
        chunks = self._inflate(data, engine) if is_gzip else self._read_plain(data, offset)
        super().__init__(_one_ahead(chunks), "gzip" if is_gzip else "none", data)  # type: ignore[arg-type]
        self.skip(offset - restart.produced if is_gzip else 0)
        self.offset = offset

    def is_past(self, offset: int) -> bool:
        """Tell whether an entry that begins at `offset` belongs to a later part."""
        return self._limit is not None and offset >= self._limit

    def check_end(self) -> None:
        """Check that the next part begins where this one ends.

        Raises
        ------
        CompressionError
            ``reason="gzip-joint"``: it does not.

        """
        if self._end is not None and self._limit is not None and self.offset - self._limit != self._end.skip:
            raise gzip_error("gzip-joint", self._end.point.compressed, self._shard)

    def _inflate(self, data: RandomBytes, engine: str) -> Iterator[bytes]:
        notes = cast("Notes", self.notes)
        start, end = notes.last, self._end
        if self._threads > 1 and end is None and start.crc is not None:
            chunks = data.iter_chunks(start.point.compressed, size=_THREADS_CHUNK)
            yield from iter_inflated_parallel(chunks, self._threads, engine=engine, shard=self._shard, notes=notes)
            return
        walk = GzipWalk(resolve_copying_engine(engine), start.point, self._shard, so_far=(start.crc, start.length))
        self.checksums = walk.checksums
        inflater = Inflater(walk, notes)
        if end is not None:
            for chunk in data.iter_ring(walk.position, end.point.compressed):
                yield from inflater.feed(chunk)
            if not (walk.is_at_stored() if end.point.is_stored else walk.is_at_end):
                raise gzip_error("gzip-joint", walk.position, self._shard)
            walk.leave_checksums()
            self._limit = inflater.produced
            inflater.notes = None  # a later reader has to arrive at the joint, and prove it, again
        for chunk in data.iter_ring(walk.position):
            yield from inflater.feed(chunk)
        walk.finish()

    def _read_plain(self, data: RandomBytes, offset: int) -> Iterator[bytes]:
        begin, end = self._begin.point.compressed, self._end
        if end is not None:
            self._limit = end.point.compressed - begin
        yield from data.iter_chunks(begin + offset)


class _ShiftedNotes(PlainNotes):
    """Notes of a plain tar whose offsets count from the beginning of a part."""

    def __init__(self, begin: int) -> None:
        self._begin = begin

    def find(self, offset: int) -> Restart:
        return Restart(Point(self._begin + offset, is_stored=False), offset)


def open_between(
    data: RandomBytes,
    begin: Joint,
    end: Joint | None,
    *,
    engine: str = "auto",
    shard: str | None = None,
    start: tuple[Restart, int] | None = None,
    threads: int = 1,
    spacing: int | None = None,
) -> PartCursor | PlainPartCursor:
    """Open what lies between two joints; None as the end is that of the file.

    Parameters
    ----------
    data, begin, end
        The shard and the joints.
    engine, shard, threads
        As for `sa1b_hf.source.open_shard`; threads only from the beginning to the end of the file.
    start
        To go on in the middle of the part: a restart that an earlier cursor noted, and the offset of a tar entry.
    spacing
        As for `sa1b_hf._restarts.Notes`.

    Returns
    -------
    PartCursor or PlainPartCursor
        At the first entry, or the one that `start` says. Close it, then `data`.

    """
    path = local_path(data.source)
    if path is not None and hasattr(os, "preadv") and data.read(0, 2) != GZIP_MAGIC:
        return PlainPartCursor(path, begin, end, shard, start and start[1])
    return PartCursor(data, begin, end, engine=engine, shard=shard, start=start, threads=threads, spacing=spacing)


def iter_part_members(
    cursor: PartCursor | PlainPartCursor, *, may_be_empty: bool = True
) -> Iterator[Member | SkippedMember]:
    """Walk through the members whose entries begin in a part; a whole shard may not be empty.

    Raises
    ------
    TarError, CompressionError
        As `sa1b_hf.tar.iter_members`; also ``reason="gzip-joint"`` when this part proves that the next one does not
        begin where it should.

    """
    yield from iter_members(cursor, is_past=cursor.is_past if may_be_empty else None)
    cursor.check_end()


def _one_ahead(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Hold one chunk back, so that the limit is known before the last byte before it is given out."""
    held = b""
    failure: Exception | None = None
    while failure is None:
        try:
            chunk = next(chunks, b"")
        except Exception as error:
            failure, chunk = error, b""
        if held:
            yield held
        held = chunk
        if not chunk:
            break
    if failure is not None:
        raise failure
