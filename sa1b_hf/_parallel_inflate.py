"""Inflate one gzip stream on several threads: every joint between their pieces is proven, the checksum is checked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from ._crc import crc32_combine
from ._deflate import LOOK_AHEAD, iter_stored_runs, resolve_copying_engine
from ._gzip_walk import FILE_START, GzipWalk, Point, gzip_error
from ._restarts import Notes, Restart
from .errors import CompressionError
from .inflate import Chunk, Inflater

__all__ = ["iter_inflated_parallel"]

_SPAN: Final = 4 << 20  # compressed bytes of a thread's piece
_WINDOW: Final = 1 << 22  # behind it, in which the next piece has to begin
_PART: Final = 1 << 18
_STEP: Final = 1 << 22  # long calls: each one has to wait for the interpreter twice
_MAX_OUTPUT: Final = 64 << 20  # of one piece ahead of its turn; real ones inflate to little more than a span
_CHECK: Final = 96 << 10


@dataclass
class _Span:
    data: list[memoryview]
    point: Point | None  # None: only the decoder of the span before can go on here


@dataclass
class _Result:
    pieces: list[bytes]
    walk: GzipWalk
    rest: list[memoryview]  # not inflated yet
    failed: bool


def iter_inflated_parallel(
    chunks: Iterator[Chunk],
    threads: int,
    *,
    engine: str = "auto",
    shard: str | None = None,
    notes: Notes | None = None,
) -> Iterator[bytes]:
    """Inflate a gzip stream of one or more members on several threads.

    Parameters
    ----------
    chunks
        The compressed stream in order, in non-empty pieces of any size.
    threads
        How many; they begin with the first piece that is asked for, in the process that asks, and end with the last.
    engine, shard, notes
        As for `sa1b_hf.inflate.iter_inflated`. An engine whose decoders cannot be copied is replaced by zlib.

    Yields
    ------
    bytes
        As `sa1b_hf.inflate.iter_inflated`.

    Raises
    ------
    CompressionError
        As `sa1b_hf.inflate.iter_inflated`, after everything before the damage.

    Notes
    -----
    Each thread begins at what looks like a point. When the thread before has arrived there, its decoder is asked for
    proof; without it the guess is thrown away, and the decoder goes on through that piece.

    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sa1b_hf-inflate")
    try:
        yield from _Joiner(
            pool, threads, chunks, module=resolve_copying_engine(engine), shard=shard, notes=notes or Notes()
        ).run()
    finally:
        pool.shutdown(cancel_futures=True)


class _Joiner:
    def __init__(
        self,
        pool: ThreadPoolExecutor,
        threads: int,
        chunks: Iterator[Chunk],
        *,
        module: Any,
        shard: str | None,
        notes: Notes,
    ) -> None:
        self._pool = pool
        self._depth = threads + 2
        self._notes = notes
        self._start = notes.last
        self._spans = _iter_spans(chunks, module, self._start.point)
        self._module = module
        self._shard = shard
        self._queue: deque[tuple[_Span, Future[_Result] | None]] = deque()
        self._crc, self._length, self._produced = self._start.crc or 0, self._start.length, self._start.produced

    def run(self) -> Iterator[bytes]:
        walk = GzipWalk(self._module, self._start.point, self._shard)
        while (item := self._next()) is not None:
            span, future = item
            if span.point is None or (span.point != self._start.point and not walk.is_at_stored()):
                yield from _inflate_carefully(walk, span.data)
                continue
            self._add(walk)
            if self._produced >= self._notes.due:
                self._notes.add(Restart(span.point, self._produced, self._crc, self._length))
            result = future.result() if future else None
            walk = GzipWalk(self._module, span.point, self._shard)
            if result is None or result.failed:
                yield from _inflate_carefully(walk, span.data)
                continue
            walk = result.walk
            yield from result.pieces
            yield from _inflate_carefully(walk, result.rest)
        walk.finish()
        self._add(walk)

    def _next(self) -> tuple[_Span, Future[_Result] | None] | None:
        while len(self._queue) < self._depth and (span := next(self._spans, None)) is not None:
            future = self._pool.submit(_inflate_ahead, self._module, span, self._shard) if span.point else None
            self._queue.append((span, future))
        return self._queue.popleft() if self._queue else None

    def _add(self, walk: GzipWalk) -> None:
        """Append what a decoder that is done with saw, up to where it stands."""
        walk.checksums.close()
        self._produced += walk.produced
        for crc, length, trailer in walk.checksums.stretches:
            self._crc, self._length = crc32_combine(self._crc, crc, length), self._length + length
            if trailer is not None:
                if trailer != (self._crc, self._length & 0xFFFFFFFF):
                    raise gzip_error("gzip-crc", walk.position, self._shard)
                self._crc = self._length = 0


def _inflate_ahead(module: Any, span: _Span, shard: str | None) -> _Result:
    """Inflate a span from its point, on a thread."""
    walk = GzipWalk(module, span.point or FILE_START, shard)
    pieces: list[bytes] = []
    size = done = 0
    parts = list(_iter_steps(span.data))
    try:
        while done < len(parts) and size < _MAX_OUTPUT:
            for piece in walk.feed(parts[done]):
                pieces.append(piece)
                size += len(piece)
                if size > 2 * _MAX_OUTPUT:
                    return _Result([], walk, [], failed=True)  # a bomb, or no point: in its turn, piece by piece
            done += 1
    except CompressionError:
        return _Result([], walk, [], failed=True)
    return _Result(pieces, walk, parts[done:], failed=False)


def _iter_steps(data: list[memoryview]) -> Iterator[memoryview]:
    for part in data:
        for at in range(0, len(part), _STEP):
            yield part[at : at + _STEP]


def _inflate_carefully(walk: GzipWalk, data: list[memoryview]) -> Iterator[bytes]:
    """Inflate in turn; on damage give all that stands before it."""
    inflater = Inflater(walk)
    for part in _iter_steps(data):
        yield from inflater.feed(part)


def _iter_spans(chunks: Iterator[Chunk], module: Any, start: Point) -> Iterator[_Span]:
    held: list[memoryview] = []
    size, position = 0, start.compressed
    searched = _SPAN
    point: Point | None = start
    for chunk in chunks:
        held.append(memoryview(chunk))
        size += len(chunk)
        while size >= searched + _PART + LOOK_AHEAD:
            window, _ = _split(_split(held, searched)[1], _PART + LOOK_AHEAD)
            cut = _find_cut(b"".join(window), module)
            end = searched + (_PART if cut is None else cut)
            searched += _PART
            if cut is None and searched < _SPAN + _WINDOW:
                continue
            span, held = _split(held, end)
            yield _Span(span, point)
            size, position, searched = size - end, position + end, _SPAN
            point = None if cut is None else Point(position, is_stored=True)
    yield _Span(held, point)


def _split(pieces: list[memoryview], at: int) -> tuple[list[memoryview], list[memoryview]]:
    """Cut a list of pieces after `at` bytes, without copying any."""
    before: list[memoryview] = []
    for number, piece in enumerate(pieces):
        if at < len(piece):
            return [*before, piece[:at]], [piece[at:], *pieces[number + 1 :]]
        before.append(piece)
        at -= len(piece)
    return before, []


def _find_cut(window: bytes, module: Any) -> int | None:
    for at in iter_stored_runs(window, _PART):
        walk = GzipWalk(module, Point(0, is_stored=True))
        try:
            for _ in walk.feed(window[at : at + _CHECK]):
                pass
        except CompressionError:
            continue
        return at
    return None
