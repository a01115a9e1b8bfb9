"""A cursor over one part of a shard, from its joint to the next and as far beyond as its last member reaches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._deflate import resolve_copying_engine
from ._gzip_walk import Checksums, GzipWalk, gzip_error
from ._random_bytes import RandomBytes
from .gzsync import Joint
from .inflate import GZIP_MAGIC
from .source import FileCursor, StreamCursor
from .tar import Member, SkippedMember, iter_members
from .transport import local_path

__all__ = ["PartCursor", "PlainPartCursor", "iter_part_members", "open_between"]


class PlainPartCursor(FileCursor):
    """A cursor over a part of a plain local file, with the offsets of the file."""

    def __init__(self, path: Path, begin: Joint, end: Joint | None, shard: str | None) -> None:
        super().__init__(path)
        self.offset = begin.point.compressed
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

    """

    def __init__(self, data: RandomBytes, begin: Joint, end: Joint | None, engine: str, shard: str | None) -> None:
        self._begin = begin
        self._end = end
        self._shard = shard
        self._limit: int | None = None
        self.checksums = Checksums()
        is_gzip = data.read(0, 2) == GZIP_MAGIC
        chunks = self._inflate(data, resolve_copying_engine(engine)) if is_gzip else self._read_plain(data)
        super().__init__(_one_ahead(chunks), "gzip" if is_gzip else "none", data)  # type: ignore[arg-type]
        self.skip(begin.skip)
        self.offset = 0

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

    def _inflate(self, data: RandomBytes, module: Any) -> Iterator[bytes]:
        walk = GzipWalk(module, self._begin.point, self._shard)
        self.checksums = walk.checksums
        end = self._end
        if end is not None:
            for chunk in data.iter_chunks(walk.position, end.point.compressed):
                yield from walk.feed(chunk)
            if not (walk.is_at_stored() if end.point.is_stored else walk.is_at_end):
                raise gzip_error("gzip-joint", walk.position, self._shard)
            walk.leave_checksums()
            self._limit = walk.produced - self._begin.skip
        for chunk in data.iter_chunks(walk.position):
            yield from walk.feed(chunk)
        walk.finish()

    def _read_plain(self, data: RandomBytes) -> Iterator[bytes]:
        begin, end = self._begin.point.compressed, self._end
        if end is not None:
            self._limit = end.point.compressed - begin
        yield from data.iter_chunks(begin)


def open_between(
    data: RandomBytes,
    begin: Joint,
    end: Joint | None,
    *,
    engine: str = "auto",
    shard: str | None = None,
) -> PartCursor | PlainPartCursor:
    """Open what lies between two joints; None as the end is that of the file.

    Returns
    -------
    PartCursor or PlainPartCursor
        At the first entry. Close it, then `data`.

    """
    path = local_path(data.source)
    if path is not None and hasattr(os, "preadv") and data.read(0, 2) != GZIP_MAGIC:
        return PlainPartCursor(path, begin, end, shard)
    return PartCursor(data, begin, end, engine, shard)


def iter_part_members(cursor: PartCursor | PlainPartCursor) -> Iterator[Member | SkippedMember]:
    """Walk through the members whose entries begin in a part.

    Raises
    ------
    TarError, CompressionError
        As `sa1b_hf.tar.iter_members`; also ``reason="gzip-joint"`` when this part proves that the next one does not
        begin where it should.

    """
    yield from iter_members(cursor, is_past=cursor.is_past)
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
