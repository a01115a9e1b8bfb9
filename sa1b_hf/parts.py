"""The images of one part of a shard: each image of the shard is in exactly one part, whatever the number of parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from ._covers import Cover, iter_around, iter_uncovered
from ._gzip_walk import Checksums, gzip_error
from ._handover import Handover, Spool
from ._indexed import IndexNotes, iter_indexed
from ._part_cursor import PartCursor, PlainPartCursor, iter_part_members, open_between
from ._random_bytes import RandomBytes
from ._restarts import Restart
from ._shard_state import ShardState
from ._track import Track
from .errors import ShardError
from .gzsync import DEFAULT_LOOKBACK, START, Joint, find_part
from .index import Kind
from .pairing import Pairing, Record
from .shard import SA1BShard
from .source import check_is_shard
from .tar import Member, SkippedMember
from .transport import Source

__all__ = ["HAND_OVER_EVERY", "PartReader", "PartSums"]

HAND_OVER_EVERY: Final = 16 << 20
"""Uncompressed bytes between two times that a reader writes down what it met."""
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
    make_handover
        Gives, for the identity of the file, where readers of its parts leave documents for one another; needs `track`.

    Notes
    -----
    Members belong to the part in which their header begins, and images to the part of their JPEG, the half that costs
    most to read. A document that is in another part is taken from what the reader of that part left
    (`sa1b_hf._handover`), or looked for there: first nearby, where it is if images and documents lie side by side, then
    everywhere. In a shard in random order that costs each part a pass over all that nobody has read, which does not
    parse, hold or copy anything else; with an index only what is missing is read. A second copy of a member in another
    part, a fault that a sequential pass would report, is not noticed.

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
        make_handover: Callable[[Mapping[str, str]], Handover] | None = None,
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
        self._make_handover = make_handover
        self._handover: Handover | None = None
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
        # a file that nothing but its size tells from others may be another one by the time something is handed over
        if (
            images
            and self._of > 1
            and self._make_handover
            and self._data.is_size_known
            and len(self._data.identity) > 1
        ):
            self._handover = self._make_handover(self._data.identity)
        self._joints = state.joints if state else self._find(self._index)
        begin, end = self._joints
        checksums = Checksums()
        if begin is not None:
            if state is None or not state.is_searching:
                yield from self._iter_own(pairing, begin, end, (state.restart, state.offset) if state else None)
                checksums = self._cursor.checksums if self._cursor else checksums
                if self._of > 1:
                    pairing.forget_foreign_rejects()
            if self._track:
                self._track.is_searching = True
            if images and pairing.list_missing():
                yield from self._iter_missing(pairing, begin, end)
        pairing.report_orphans()
        if self._handover:
            self._handover.finish()
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

    def _iter_own(
        self, pairing: Pairing, begin: Joint, end: Joint | None, start: tuple[Restart, int] | None
    ) -> Iterator[Record]:
        members = self._members(begin, end, start)
        spool = None
        if self._handover and start is None and isinstance(self._cursor, PartCursor):
            spool = self._handover.open_spool(begin, end)
            members = _hand_over(members, pairing, self._cursor, spool) if spool else members
            self._stack.callback(spool.close) if spool else None
        yield from pairing.iter_complete(members)

    def _iter_missing(self, pairing: Pairing, begin: Joint, end: Joint | None) -> Iterator[Record]:
        failure: ShardError | None = None
        try:
            self._find_missing(pairing, begin, end)
        except ShardError as error:
            failure = error
        yield from pairing.iter_found()
        if failure is not None:
            raise failure

    def _find_missing(self, pairing: Pairing, begin: Joint, end: Joint | None) -> None:
        """Look for missing halves where it costs least: with other readers, in the index, in what nobody has read."""
        covers = self._handover.read_covers(dict(pairing.list_missing())) if self._handover else []
        for cover in covers:
            for image_id in cover.images:
                pairing.forget(image_id)
            for image_id, (place, document) in cover.documents.items():
                pairing.find(image_id, document, place)
        if self._index_path is not None and pairing.is_missing_any:
            for member in self._look_up(pairing.list_missing()):
                pairing.look_at(member)
            return
        near = iter_around(self._data, begin, end, lookback=self._lookback, engine=self._engine)
        own = Cover(begin, end, is_complete=True)
        for region in iter_uncovered([own, *covers]) if covers else near:
            for other in self._members(*region) if pairing.is_missing_any else ():
                if isinstance(other, Member):
                    pairing.look_at(other)
                if not pairing.is_missing_any:
                    break

    def _look_up(self, missing: list[tuple[int, Kind]]) -> Iterator[Member]:
        shard = SA1BShard(
            self._source,
            self._index_path,
            shard=self._shard,
            engine=self._engine,
            storage_options=self._storage_options,
        )
        self._stack.callback(shard.close)
        if self._track:
            self._track.notes = IndexNotes(shard.index)
        yield from iter_indexed(shard, missing)

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
            spacing=self._track.spacing if self._track else None,
        )
        # Each part inflates on its own, and a file that is closed early would take its blobs along.
        self._stack.callback(self._cursor.close)
        if self._track:
            self._track.notes = self._cursor.notes
        return iter_part_members(self._cursor, may_be_empty=start is not None or not is_whole)


def _hand_over(
    members: Iterator[Member | SkippedMember], pairing: Pairing, cursor: PartCursor, spool: Spool
) -> Iterator[Member | SkippedMember]:
    """Pass members on, and write down now and then what found no other half."""
    due = 0
    for member in members:
        # everything before this member was dealt with, or the next one would not have been asked for
        if isinstance(member, Member) and member.offset >= due:
            spool.write(pairing.take_unpaired(), (cursor.notes.find(member.offset), member.offset))
            due = member.offset + HAND_OVER_EVERY
        yield member
    spool.write(pairing.take_unpaired(), (Restart(), cursor.offset), is_complete=True)


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
