"""What an index holds, noted while a shard is read once from front to back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from ._deflate import LOOK_AHEAD, iter_stored_runs, resolve_copying_engine
from ._gzip_walk import FILE_START, GzipWalk
from ._random_bytes import RandomBytes
from .inflate import GZIP_MAGIC
from .source import StreamCursor
from .tar import Member, iter_members

__all__ = ["CRC_MASK", "IndexedMember", "scan_shard"]

CRC_MASK: Final = 0xFFFFFF  # three bytes of CRC-32: a byte less on disk, and one error in 16 million unseen
_WINDOW: Final = 1 << 18


class IndexedMember(NamedTuple):
    """Where a member is: `offset` of its data in the uncompressed tar, `size` and `crc` of its data."""

    image_id: int
    kind: str
    offset: int
    size: int
    crc: int


def scan_shard(
    data: RandomBytes,
    *,
    engine: str,
    spacing: int,
    shard: str | None,
    on_bytes: Callable[[int], None] | None = None,
) -> tuple[list[IndexedMember], list[tuple[int, int, bool]]]:
    """Read a shard from front to back.

    Returns
    -------
    tuple of (list of IndexedMember, list of tuple)
        Members in the order of the tar, and (compressed, uncompressed, is_stored) of points at least `spacing`
        uncompressed bytes apart.

    Raises
    ------
    ShardError
        The shard is damaged; its checksum is checked as well.

    """
    module = resolve_copying_engine(engine)
    points: list[tuple[int, int, bool]] = []
    is_gzip = data.read(0, 2) == GZIP_MAGIC
    chunks = _iter_counted(data, on_bytes)
    if is_gzip:
        chunks = _iter_noted(chunks, module, points, spacing, shard)
    cursor = StreamCursor(chunks, "gzip" if is_gzip else "none", data)  # type: ignore[arg-type]
    members = []
    for member in iter_members(cursor):
        if isinstance(member, Member):
            offset = cursor.offset  # behind extension headers too
            body = member.read()
            members.append(
                IndexedMember(member.image_id, member.kind, offset, member.size, module.crc32(body) & CRC_MASK)
            )
    return members, points


def _iter_counted(data: RandomBytes, on_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    for chunk in data.iter_chunks(0):
        if on_bytes is not None:
            on_bytes(len(chunk))
        yield chunk


def _iter_noted(
    chunks: Iterator[bytes], module: Any, points: list[tuple[int, int, bool]], spacing: int, shard: str | None
) -> Iterator[bytes]:
    walk = GzipWalk(module, FILE_START, shard)
    window = b""
    ended = False
    while not ended or window:
        while not ended and len(window) < _WINDOW + LOOK_AHEAD:
            chunk = next(chunks, b"")
            window, ended = window + chunk, not chunk
        size = len(window) if ended else _WINDOW
        at = 0
        for found in iter_stored_runs(window, size):
            yield from walk.feed(window[at:found])
            at = found
            _note_members(walk, points, spacing)
            if walk.produced - (points[-1][1] if points else -spacing) >= spacing and walk.is_at_stored():
                points.append((walk.position, walk.produced, True))
        yield from walk.feed(window[at:size])
        _note_members(walk, points, spacing)
        window = window[size:]
    walk.finish()


def _note_members(walk: GzipWalk, points: list[tuple[int, int, bool]], spacing: int) -> None:
    for compressed, produced in walk.member_starts:
        if not points or produced - points[-1][1] >= spacing:
            points.append((compressed, produced, False))
    walk.member_starts.clear()
