"""The images of one part of a shard: each image of the shard is in exactly one part, whatever the number of parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, cast

from ._gzip_walk import Checksums, gzip_error
from ._part_cursor import PartCursor, PlainPartCursor, iter_part_members, open_between
from ._random_bytes import RandomBytes
from ._restarts import Restart
from ._shard_state import ShardState
from ._track import Track
from .gzsync import DEFAULT_LOOKBACK, START, Joint, find_between, find_part
from .index import Kind, ShardIndex
from .pairing import Pairing, Record
from .shard import SA1BShard
from .source import MemoryBlob, check_is_shard
from .tar import BLOCK, Member, SkippedMember
from .transport import Source

__all__ = ["PartReader", "PartSums"]

_NEAR: Final = 16 << 20
_GROWTH: Final = 8
_READ_AHEAD: Final = 4 << 20  # approaching a joint takes many short steps over some megabytes


class PartReader:
    """Reads the images whose JPEG lies in one part of a shard; without images, the documents that lie there.

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
    index
        Path of an index of the shard, which is built if there is none.
    threads
        How many inflate a whole shard.
    track
        Is kept up to date, so that `state` can be asked for.
    sums
        Is told the checksums of the part.

    Notes
    -----
    Members belong to the part in which their header begins, and images to the part of their JPEG, the half that costs
    most to read. A document that is in another part is looked for there: first nearby, where it is if images and
    documents lie side by side, then everywhere. In a shard in random order that costs a pass over the whole shard for
    each part, which does not parse, hold or copy anything else; with an index only what is missing is read. A second
    copy of a member in another part, a fault that a sequential pass would report, is not noticed.

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
        index: Path | None = None,
        threads: int = 1,
        track: Track | None = None,
        sums: PartSums | None = None,
    ) -> None:
        self._source = source
        self._storage_options = storage_options
        self._index_path = index
        self._engine = engine
        self._shard = shard
        self._index, self._of = part
        self._lookback = lookback
        self._threads = threads
        self._track = track
        self._sums = sums
        self._cursor: PartCursor | PlainPartCursor | None = None
        self._joints: tuple[Joint | None, Joint | None] | None = None
        self._stack = ExitStack()
        is_whole = part[1] == 1
        ahead = 0 if is_whole else _READ_AHEAD
        self._data = self._stack.enter_context(
            RandomBytes(source, storage_options, read_ahead=ahead, from_start=is_whole)
        )

    @property
    def offset(self) -> int:
        """Uncompressed bytes of the part that were read."""
        return self._cursor.offset if self._cursor else 0

    def iter_records(
        self, pairing: Pairing, *, images: bool = True, state: ShardState | None = None
    ) -> Iterator[Record]:
        """Give the part's images; blobs live until `close`.

        Parameters
        ----------
        pairing
            What is to be paired, if `state` is given restored from it.
        images
            False: documents only.
        state
            Where to go on, of the same part.

        Raises
        ------
        TarError, CompressionError
            As `sa1b_hf._part_cursor.iter_part_members`; also as `PartSums.add`.

        """
        check_is_shard(self._data.head, self._shard)
        self._joints = state.joints if state else self._find(self._index)
        begin, end = self._joints
        checksums = Checksums()
        if begin is not None:
            if state is None or not state.is_searching:
                start = (state.restart, state.offset) if state else None
                yield from pairing.iter_complete(self._members(begin, end, start))
                checksums = self._cursor.checksums if self._cursor else checksums
                if self._of > 1:
                    pairing.forget_foreign_rejects()
            if self._track:
                self._track.is_searching = True
            if images and pairing.list_missing():
                yield from self._iter_missing(pairing, begin, end)
        pairing.report_orphans()
        if self._sums is not None and state is None:
            self._sums.add(self._index, self._of, checksums, self._shard)

    def open_data(self) -> RandomBytes:
        """Give the shard's bytes, for as long as this reader is open."""
        return self._data

    def state(self) -> ShardState | None:
        """Say where the track is now; None if nobody could go on from there."""
        track = self._track
        if track is None or not track.is_usable or self._joints is None or not self._data.is_size_known:
            return None
        if track.is_searching:
            restart = Restart()
        elif self._cursor is not None:
            restart = self._cursor.notes.find(track.offset)
        else:
            return None
        return ShardState(
            identity=self._data.identity,
            joints=self._joints,
            restart=restart,
            offset=track.offset,
            is_searching=track.is_searching,
            seen={kind: ids.pack() for kind, ids in track.seen.items()},
            pending=b"".join(track.pending.values()),
        )

    def check_identity(self, state: ShardState) -> None:
        """Raise `SourceChangedError` if a state is of another file."""
        self._data.check_identity(state.identity, self._shard)

    def close(self) -> None:
        """Let go of files and connections."""
        self._stack.close()

    def _iter_missing(self, pairing: Pairing, begin: Joint, end: Joint | None) -> Iterator[Record]:
        if self._index_path is not None:
            yield from pairing.iter_missing(self._look_up(pairing.list_missing()))
            return
        for low, high in self._others(begin, end):
            yield from pairing.iter_missing(self._members(low, high))
            if not pairing.list_missing():
                return

    def _look_up(self, missing: list[tuple[int, Kind]]) -> Iterator[Member]:
        """Give members by their place in the index, in the order of the shard."""
        shard = SA1BShard(
            self._source,
            self._index_path,
            shard=self._shard,
            engine=self._engine,
            storage_options=self._storage_options,
        )
        self._stack.callback(shard.close)
        if self._track:
            self._track.notes = _IndexNotes(shard.index)
        members = shard.index.members
        found = [members[kind][image_id] for image_id, kind in missing if image_id in members[kind]]
        for place in sorted(found, key=lambda member: member.offset):
            name, kind = f"sa_{place.image_id}.{place.kind}", cast("Kind", place.kind)
            held = _Indexed(shard, place.image_id, kind)
            header = place.offset - BLOCK
            yield Member(name, place.image_id, kind, place.size, header, held)  # type: ignore[arg-type]

    def _find(self, index: int) -> tuple[Joint | None, Joint | None]:
        return find_part(self._data, index, self._of, lookback=self._lookback, engine=self._engine)

    def _members(
        self, begin: Joint, end: Joint | None, start: tuple[Restart, int] | None = None
    ) -> Iterator[Member | SkippedMember]:
        is_whole = begin == START and end is None
        self._cursor = open_between(
            self._data,
            begin,
            end,
            engine=self._engine,
            shard=self._shard,
            start=start,
            threads=self._threads if is_whole else 1,
        )
        # Each part inflates on its own, and a file that is closed early would take its blobs along.
        self._stack.callback(self._cursor.close)
        if self._track:
            self._track.notes = self._cursor.notes
        return iter_part_members(self._cursor, may_be_empty=start is not None or not is_whole)

    def _others(self, begin: Joint, end: Joint | None) -> Iterator[tuple[Joint, Joint | None]]:
        """Give everything outside the part, first what is near."""
        reach = _NEAR
        while begin != START or end is not None:
            if end is not None:
                after = self._find_between(end.point.compressed + reach, self._data.size)
                yield end, after
                end = after
            if begin != START:
                before = self._find_between(begin.point.compressed - reach, begin.point.compressed) or START
                yield before, begin
                begin = before
            reach *= _GROWTH

    def _find_between(self, low: int, high: int) -> Joint | None:
        if low <= 0:
            return START
        return find_between(self._data, low, high, lookback=self._lookback, engine=self._engine)


class PartSums:
    """The checksums of the parts of one shard that one process reads: once it has all, the whole is checked."""

    def __init__(self) -> None:
        self._found: dict[int, Checksums] = {}

    def add(self, index: int, of: int, checksums: Checksums, shard: str | None) -> None:
        """Add those of a part that was read to its end.

        Raises
        ------
        CompressionError
            ``reason="gzip-crc"``: these were all, and the checksum of the shard does not fit.

        """
        self._found[index] = checksums
        if len(self._found) == of and not Checksums.agree(self._found[number] for number in range(of)):
            raise gzip_error("gzip-crc", 0, shard)


class _Indexed:
    """A member that is read when it is asked for, in the place of the cursor that it would be read from."""

    def __init__(self, shard: SA1BShard, image_id: int, kind: Kind) -> None:
        self._shard = shard
        self._what = image_id, kind

    def read(self, size: int) -> bytes:
        return self._shard.read(*self._what)[:size]

    def take(self, size: int) -> MemoryBlob:
        return MemoryBlob([memoryview(self.read(size))], size)


class _IndexNotes:
    """The points of an index, as places to begin."""

    def __init__(self, index: ShardIndex) -> None:
        self._index = index

    def find(self, offset: int) -> Restart:
        return self._index.find_restart(offset)
