"""The images of one part of a shard: each image of the shard is in exactly one part, whatever the number of parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from ._part_cursor import PartCursor, PlainPartCursor, iter_part_members, open_between
from ._random_bytes import RandomBytes
from .gzsync import DEFAULT_LOOKBACK, START, Joint, find_part
from .pairing import Pairing, Record
from .transport import Source

__all__ = ["PartReader"]


class PartReader:
    """Reads the images whose document lies in one part of a shard.

    Parameters
    ----------
    source, storage_options
        As for `sa1b_hf.source.open_shard`.
    part
        (index, of): which part, counted from 0, of how many.
    engine, lookback
        As for `sa1b_hf.gzsync.find_part`.
    shard
        Name for messages.

    Notes
    -----
    Members belong to the part in which their header begins, and images to the part of their document. A JPEG that is
    in another part is looked for there: first in the neighbours, where it is if images and documents lie side by side,
    then everywhere. In a shard in random order that costs a pass over the whole shard for each part, which does not
    parse, hold or copy anything else. A second copy of a document in another part, a fault that a sequential pass
    would report, is not noticed.

    """

    def __init__(
        self,
        source: Source,
        part: tuple[int, int],
        *,
        engine: str = "auto",
        shard: str | None = None,
        lookback: int = DEFAULT_LOOKBACK,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._engine = engine
        self._shard = shard
        self._index, self._of = part
        self._lookback = lookback
        self._stack = ExitStack()
        self._data = self._stack.enter_context(RandomBytes(source, storage_options))
        self.offset = 0

    def iter_records(self, pairing: Pairing, *, images: bool = True) -> Iterator[Record]:
        """Give the part's images; blobs live until `close`.

        Raises
        ------
        TarError, CompressionError
            As `sa1b_hf._part_cursor.iter_part_members`.

        """
        begin, end = self._find(self._index)
        if begin is not None:
            yield from pairing.iter_complete(iter_part_members(self._open(begin, end)))
            pairing.forget_foreign_rejects()
            if images:
                for low, high in self._others(begin, end) if pairing.waiting else ():
                    yield from pairing.iter_missing(iter_part_members(self._open(low, high)))
        pairing.report_orphans()

    def close(self) -> None:
        """Let go of files and connections."""
        self._stack.close()

    def _find(self, index: int) -> tuple[Joint | None, Joint | None]:
        return find_part(self._data, index, self._of, lookback=self._lookback, engine=self._engine)

    def _open(self, begin: Joint, end: Joint | None) -> PartCursor | PlainPartCursor:
        # Each part inflates on its own, and a file that is closed early would take its blobs along.
        cursor = open_between(self._data, begin, end, engine=self._engine, shard=self._shard)
        self._stack.callback(cursor.close)
        return cursor

    def _others(self, begin: Joint, end: Joint | None) -> Iterator[tuple[Joint, Joint | None]]:
        """Give everything outside the part, neighbours first."""
        after = before = None
        if end is not None:
            after = next((high for low, high in map(self._find, range(self._index + 1, self._of)) if low == end), None)
            yield end, after
        if begin != START:
            found = (self._find(index)[0] for index in reversed(range(self._index)))
            before = next(joint for joint in found if joint is not None)
            yield before, begin
        if after is not None:
            yield after, None
        if before not in (None, START):
            yield START, before
