"""Any shard as one plain byte stream: which compression it has, inflated, in pieces that nobody copies twice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

from ._parallel_inflate import iter_inflated_parallel
from .errors import SourceChangedError, SourceError
from .inflate import CHECKPOINT, GZIP_MAGIC, Chunk, iter_inflated
from .transport import RawReader, Source, local_path, open_raw

__all__ = [
    "Blob",
    "Cursor",
    "FileBlob",
    "FileCursor",
    "MemoryBlob",
    "StreamCursor",
    "check_is_shard",
    "open_shard",
]

_COMPRESSED_CHUNK: Final = 1 << 18
_THREADS_CHUNK: Final = 1 << 22
_PLAIN_CHUNK: Final = 1 << 20
_SNIFF: Final = 512


class Blob(Protocol):
    """The bytes of one member, wherever they are until somebody needs them in one place."""

    size: int

    def copy_into(self, target: memoryview) -> None:
        """Write all bytes into `target`, which has exactly `size` bytes."""


class MemoryBlob:
    """Bytes in memory, as the pieces in which they were inflated."""

    __slots__ = ("pieces", "size")

    def __init__(self, pieces: list[memoryview], size: int) -> None:
        self.pieces = pieces
        self.size = size

    def copy_into(self, target: memoryview) -> None:
        """Write all bytes into `target`, which has exactly `size` bytes."""
        at = 0
        for piece in self.pieces:
            target[at : at + len(piece)] = piece
            at += len(piece)


class FileBlob:
    """Bytes at a place in an open file."""

    __slots__ = ("fd", "offset", "size")

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self.fd = fd
        self.offset = offset
        self.size = size

    def copy_into(self, target: memoryview) -> None:
        """Write all bytes into `target`, which has exactly `size` bytes."""
        at = 0
        while at < self.size:
            count = os.preadv(self.fd, [target[at:]], self.offset + at)
            if not count:
                raise SourceChangedError(
                    f"expected {self.size:,} bytes at {self.offset:,}, found the end of the file: it was shortened "
                    "while being read",
                    reason="source-changed",
                    offset=self.offset,
                )
            at += count


class Cursor(AbstractContextManager["Cursor"]):
    """A position in the uncompressed bytes of a shard, moving forward only."""

    compression: str
    offset: int = 0

    def read(self, size: int) -> bytes:
        """Give the next `size` bytes in one piece; fewer at the end only."""
        raise NotImplementedError

    def take(self, size: int) -> Blob:
        """Give the next `size` bytes without copying them; `Blob.size` is smaller at the end only."""
        raise NotImplementedError

    def skip(self, size: int) -> int:
        """Pass over `size` bytes; give how many there were."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of files and connections."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StreamCursor(Cursor):
    """A cursor over chunks that come one after the other."""

    def __init__(self, chunks: Iterator[Chunk], compression: str, raw: RawReader) -> None:
        self.compression = compression
        self._chunks = chunks
        self._raw = raw
        self._chunk = memoryview(b"")

    def _pieces(self, size: int) -> Iterator[memoryview]:
        while size:
            if not self._chunk:
                self._chunk = memoryview(next(self._chunks, b""))
                if not self._chunk:
                    return
            piece, self._chunk = self._chunk[:size], self._chunk[size:]
            size -= len(piece)
            self.offset += len(piece)
            yield piece

    def read(self, size: int) -> bytes:
        """Give the next `size` bytes in one piece; fewer at the end only."""
        chunk = self._chunk
        if len(chunk) >= size:
            self._chunk = chunk[size:]
            self.offset += size
            return bytes(chunk[:size])
        return b"".join(self._pieces(size))

    def take(self, size: int) -> MemoryBlob:
        """Give the next `size` bytes without copying them; `Blob.size` is smaller at the end only."""
        pieces = list(self._pieces(size))
        return MemoryBlob(pieces, sum(map(len, pieces)))

    def skip(self, size: int) -> int:
        """Pass over `size` bytes; give how many there were."""
        return sum(map(len, self._pieces(size)))

    def close(self) -> None:
        """Let go of files and connections."""
        self._raw.close()


class FileCursor(Cursor):
    """A cursor over a plain local file: skipping and taking cost no reading."""

    compression = "none"

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._size = os.fstat(self.fd).st_size

    def read(self, size: int) -> bytes:
        """Give the next `size` bytes in one piece; fewer at the end only."""
        data = os.pread(self.fd, size, self.offset)
        while len(data) < size and (more := os.pread(self.fd, size - len(data), self.offset + len(data))):
            data += more
        self.offset += len(data)
        return data

    def take(self, size: int) -> FileBlob:
        """Give the next `size` bytes without reading them; `Blob.size` is smaller at the end only."""
        start = self.offset
        return FileBlob(self.fd, start, self.skip(size))

    def skip(self, size: int) -> int:
        """Pass over `size` bytes; give how many there were."""
        count = max(0, min(size, self._size - self.offset))
        self.offset += count
        return count

    def close(self) -> None:
        """Let go of the file; blobs taken from it are dead from now on."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_shard(
    source: Source,
    *,
    engine: str = "auto",
    shard: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    inflate_threads: int = 1,
) -> Cursor:
    """Open a shard for reading front to back.

    Parameters
    ----------
    source
        A local path, an ``http(s)://``, ``hf://``, ``s3://`` … URL, or a signed link.
    engine
        What inflates gzip; see `sa1b_hf.inflate.resolve_engine`.
    shard
        Name for error messages.
    storage_options
        Passed to the file system of the URL's protocol.
    inflate_threads
        How many threads inflate gzip, ahead of the reader if more than one.

    Returns
    -------
    Cursor
        At the first byte of the tar. Compression is recognised by magic bytes, never by name: the original shards are
        called ``.tar`` and are gzip.

    Raises
    ------
    SourceError
        The bytes cannot be had, or are neither gzip nor tar (``reason`` ``"empty"`` or ``"not-a-shard"``).
    MissingShardsError
        A local file does not exist.

    """
    raw = open_raw(source, storage_options=storage_options)
    try:
        head = _read_head(raw)
        check_is_shard(head, shard)
        if head.startswith(GZIP_MAGIC):
            if inflate_threads > 1:
                compressed = _fresh_chunks(raw, head, _THREADS_CHUNK)
                chunks = iter_inflated_parallel(compressed, inflate_threads, engine=engine, shard=shard)
            else:
                chunks = iter_inflated(_ring_chunks(raw, head), engine=engine, shard=shard)
            return StreamCursor(chunks, "gzip", raw)
        if (path := local_path(source)) is not None and hasattr(os, "preadv"):
            raw.close()
            return FileCursor(path)
        return StreamCursor(_fresh_chunks(raw, head, _PLAIN_CHUNK), "none", raw)
    except BaseException:
        raw.close()
        raise


def _read_head(raw: RawReader) -> bytes:
    head = bytearray(_SNIFF)
    at = 0
    while at < _SNIFF and (count := raw.readinto(memoryview(head)[at:])):
        at += count
    return bytes(head[:at])


def check_is_shard(head: bytes, shard: str | None) -> None:
    """Raise `SourceError` if a file's first bytes say that it is empty, or a web page."""
    if not head:
        raise SourceError("expected a shard, found an empty file; download it again", reason="empty", shard=shard)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"url signature")):
        raise SourceError(
            "expected a gzip or tar file, found a web page or error message: the link may have expired; get a fresh "
            "links file and download the shard again",
            reason="not-a-shard",
            shard=shard,
        )


def _fresh_chunks(raw: RawReader, head: bytes, size: int) -> Iterator[Chunk]:
    yield head
    while chunk := _fill(raw, bytearray(size)):
        yield chunk


def _ring_chunks(raw: RawReader, head: bytes) -> Iterator[Chunk]:
    """Give chunks in a ring of buffers: `iter_inflated` keeps those since its last checkpoint, and no others."""
    yield head
    for buffer in cycle([bytearray(_COMPRESSED_CHUNK) for _ in range(CHECKPOINT // _COMPRESSED_CHUNK + 2)]):
        chunk = _fill(raw, buffer)
        if not chunk:
            return
        yield chunk


def _fill(raw: RawReader, buffer: bytearray) -> Chunk:
    count = raw.readinto(buffer)
    return buffer if count == len(buffer) else buffer[:count]
