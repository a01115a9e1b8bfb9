"""gzip on the fly: one engine switch, every member's CRC checked, and nothing good lost before damage."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Final, NamedTuple

from ._deflate import LOOK_AHEAD, iter_stored_runs, resolve_copying_engine
from ._engines import ENGINES, GZIP_MAGIC, Chunk, resolve_engine
from ._gzip_walk import GzipWalk, Point
from ._restarts import Notes, Restart
from .errors import CompressionError

__all__ = [
    "CHECKPOINT",
    "ENGINES",
    "GZIP_MAGIC",
    "Chunk",
    "Inflater",
    "Piece",
    "iter_before_damage",
    "iter_inflated",
    "resolve_engine",
]

CHECKPOINT: Final = 1 << 20
"""Compressed bytes between two copies of the engine's state; the chunks since then are kept, and should fit a cache."""

_REPLAY_STEPS: Final = (4096, 64, 1)


def iter_inflated(
    chunks: Iterable[Chunk], *, engine: str = "auto", shard: str | None = None, notes: Notes | None = None
) -> Iterator[bytes]:
    """Inflate a gzip stream of one or more members.

    Parameters
    ----------
    chunks
        The compressed stream in order, in non-empty pieces of any size (256 KiB is good). A chunk's memory may be used
        again once `CHECKPOINT` further bytes were taken.
    engine
        See `resolve_engine`.
    shard
        Name for error messages.
    notes
        Where to begin: `chunks` are those from its last restart on. Further restarts are added to it; for that an
        engine whose decoders cannot be copied is replaced by zlib.

    Yields
    ------
    bytes
        Uncompressed data, at most 4 MiB at a time, never empty.

    Raises
    ------
    CompressionError
        ``reason`` is ``"gzip-truncated"``, ``"gzip-data"`` (the stream is damaged), ``"gzip-crc"`` (checksum or length
        differ) or ``"gzip-trailing-data"``. Everything that could be inflated before the damage has been yielded.

    """
    start = notes.last if notes else Restart()
    module = resolve_copying_engine(engine) if notes else resolve_engine(engine)[1]
    inflater = Inflater(GzipWalk(module, start.point, shard, so_far=(start.crc, start.length)), notes)
    for chunk in chunks:
        yield from inflater.feed(chunk)
    inflater.walk.finish()


class Inflater:
    """A decoder that gives all that stands before damage, and notes where one could begin again.

    Parameters
    ----------
    walk
        The decoder.
    notes
        Of which the last one is where the decoder stands now; None: nothing is noted.

    Attributes
    ----------
    walk, notes
        As given. Setting `notes` to None ends noting.

    """

    def __init__(self, walk: GzipWalk, notes: Notes | None = None) -> None:
        self.walk = walk
        self.notes = notes
        self._base = notes.last.produced - walk.produced if notes else 0
        self._checkpoint()

    @property
    def produced(self) -> int:
        """Uncompressed bytes so far, counted from where the notes count from."""
        return self._base + self.walk.produced

    def feed(self, chunk: Chunk | memoryview) -> Iterator[bytes]:
        """Inflate more; raises as `iter_inflated`, consume it to its end."""
        if self._size >= CHECKPOINT:
            self._checkpoint()
        self._fed.append(chunk)
        self._size += len(chunk)
        try:
            if self.notes is None:
                yield from self.walk.feed(chunk)
            else:
                yield from self._feed_noting(memoryview(chunk), self.notes)
        except CompressionError as error:
            if error.reason == "gzip-data" and self._before is not None:
                skip = self.walk.produced - self._before.produced
                for piece in iter_before_damage(self._before, b"".join(self._fed), skip):
                    yield piece.data
            raise

    def _checkpoint(self) -> None:
        # An engine whose state cannot be copied loses at most the output of one chunk before damage.
        self._before = self.walk.copy() if self.walk.can_copy else None
        self._fed: list[Chunk | memoryview] = []
        self._size = 0

    def _feed_noting(self, chunk: memoryview, notes: Notes) -> Iterator[bytes]:
        at = 0
        for found in iter_stored_runs(chunk, len(chunk) - LOOK_AHEAD) if self.produced >= notes.due else ():
            yield from self.walk.feed(chunk[at:found])
            at = found
            self._note_members(notes)
            if self.walk.is_at_stored():
                notes.add(Restart(Point(self.walk.position, is_stored=True), self.produced, *self.walk.so_far))
                break
        yield from self.walk.feed(chunk[at:])
        self._note_members(notes)

    def _note_members(self, notes: Notes) -> None:
        for compressed, produced in self.walk.member_starts:
            if self._base + produced >= notes.due:
                notes.add(Restart(Point(compressed, is_stored=False), self._base + produced))
        self.walk.member_starts.clear()


class Piece(NamedTuple):
    """Uncompressed bytes, and the offset in the file up to which was read for them."""

    data: bytes
    compressed: int


def iter_before_damage(walk: GzipWalk, data: Chunk, skip: int = 0) -> Generator[Piece, None, GzipWalk]:
    """Inflate again, in ever smaller steps, what a failing call kept for itself.

    Parameters
    ----------
    walk
        The decoder before the damage.
    data
        Compressed bytes from there on, into the damage.
    skip
        Uncompressed bytes that need not be given again.

    Yields
    ------
    Piece
        Up to the last byte that can be had.

    Returns
    -------
    GzipWalk
        The decoder at the damage.

    """
    for step in _REPLAY_STEPS:
        while data:
            trial = walk.copy()
            try:
                pieces = list(trial.feed(data[:step]))
            except CompressionError:
                data = data[:step]
                break
            walk, data = trial, data[step:]
            for piece in pieces:
                if len(piece) > skip:
                    yield Piece(piece[skip:], walk.position)
                skip = max(0, skip - len(piece))
    return walk
