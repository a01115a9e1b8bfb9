"""Bytes of a source at any offset, and its size, whether it is a file or far away."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import cycle
from types import TracebackType
from typing import Any, Final

from .errors import SourceChangedError
from .inflate import CHECKPOINT
from .transport import RawReader, Source, local_path, open_raw, read_range

__all__ = ["RandomBytes"]

_CHUNK: Final = 1 << 18
_HEAD: Final = 512
_UNBOUNDED: Final = 1 << 62


class RandomBytes:
    """A source that is read here and there.

    Parameters
    ----------
    source
        A path, a URL or a signed link.
    storage_options
        Passed to the file system of a remote source.
    read_ahead
        Least bytes of a remote source that are asked for at once, and kept until others are.
    from_start
        The first connection to a remote source is kept for the first `iter_chunks`, which begins at 0.

    Attributes
    ----------
    size, is_size_known
        Bytes of the source; if its server does not tell, it can only be read from the start to the end.
    source
        As given.
    head
        The first 512 bytes.
    identity
        What tells this file from others of the same name: its size, ETag, modification time …, as far as known.

    """

    def __init__(
        self,
        source: Source,
        storage_options: Mapping[str, Any] | None = None,
        *,
        read_ahead: int = 0,
        from_start: bool = False,
    ) -> None:
        self.source = source
        self._storage_options = storage_options
        self._read_ahead = read_ahead
        self._kept = b""
        self._kept_at = 0
        path = local_path(source)
        # opening it through the transport gives its typed errors
        raw = open_raw(source, storage_options=storage_options)
        self._first: RawReader | None = raw
        self._connections: list[RawReader] = []
        try:
            # also a server that takes no ranges gives the beginning, and only now some tell the size
            self.head = _fill(raw, _HEAD)
            self.is_size_known = raw.size is not None
            self.size = raw.size or 0
            if not self.is_size_known and from_start:
                self.size = _UNBOUNDED
            self.identity = _name_identity(raw.identity) | {"size": str(self.size)}
        finally:
            if path is not None or not from_start:
                self._drop_first()
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)) if path and hasattr(os, "pread") else -1

    def read(self, start: int, length: int) -> bytes:
        """Read from `start` on; fewer than `length` bytes at the end of the source only; one request when remote."""
        length = max(0, min(length, self.size - start))
        if not length or start + length <= len(self.head):
            return self.head[start : start + length]
        if self._fd < 0:
            return self._request(start, length)
        data = os.pread(self._fd, length, start)
        while len(data) < length and (more := os.pread(self._fd, length - len(data), start + len(data))):
            data += more
        return data

    def _request(self, start: int, length: int) -> bytes:
        skip = start - self._kept_at
        if skip < 0 or skip + length > len(self._kept):
            ahead = max(length, min(self._read_ahead, self.size - start))
            data = read_range(self.source, start, ahead, storage_options=self._storage_options)
            if not self._read_ahead:
                return data
            self._kept, self._kept_at, skip = data, start, 0
        return self._kept[skip : skip + length]

    def iter_chunks(self, start: int, stop: int | None = None, *, size: int = _CHUNK) -> Iterator[bytes]:
        """Give everything from `start` on in order, in chunks of `size`; over one connection when remote and long."""
        stop = self.size if stop is None else min(stop, self.size)
        if self._fd >= 0 or stop - start <= self._read_ahead:
            for at in range(start, stop, size):
                yield self.read(at, min(size, stop - at))
            return
        if self._first is not None and not start and stop > len(self.head):
            raw, self._first = self._first, None
        else:
            raw = open_raw(self.source, offset=min(start, self.size), storage_options=self._storage_options)
        self._connections.append(raw)
        try:
            if raw.tell() > start:
                start = len(self.head)
                yield self.head
            while start < stop and (chunk := _fill(raw, min(size, stop - start))):
                start += len(chunk)
                yield chunk
        finally:
            raw.close()
            self._connections.remove(raw)

    def iter_ring(self, start: int, stop: int | None = None) -> Iterator[bytes | memoryview]:
        """Give the same in a ring of buffers, for `sa1b_hf.inflate.Inflater`, which looks back no further."""
        if self._fd < 0 or not hasattr(os, "preadv"):
            yield from self.iter_chunks(start, stop)
            return
        stop = self.size if stop is None else min(stop, self.size)
        for buffer in cycle([memoryview(bytearray(_CHUNK)) for _ in range(CHECKPOINT // _CHUNK + 2)]):
            count = os.preadv(self._fd, [buffer[: stop - start]], start) if start < stop else 0
            if not count:
                return
            start += count
            yield buffer[:count]

    def check_identity(self, expected: Mapping[str, str], shard: str | None = None) -> None:
        """Make sure that this is the file of which `identity` was taken.

        Raises
        ------
        SourceChangedError
            It is another one.

        """
        known = expected.keys() & self.identity.keys()
        # an ETag says more than a date, which another server need not share
        telling = known & {"ETag", "etag"} or known
        for key in ("size", *sorted(telling - {"size"})):
            before, now = expected.get(key, "unknown"), self.identity[key]
            if before != now:
                message = f"expected the file of which a part was read before: its {key} was {before[:80]!r} and is now"
                raise SourceChangedError(
                    f"{message} {now[:80]!r}; begin this shard anew", reason="source-changed", shard=shard
                )

    def close(self) -> None:
        """Let go of the file."""
        self._drop_first()
        for raw in self._connections:  # of readers that were left early
            raw.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _drop_first(self) -> None:
        if self._first is not None:
            self._first.close()
            self._first = None

    def __enter__(self) -> RandomBytes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fill(raw: RawReader, size: int) -> bytes:
    """Read `size` bytes; fewer at the end only."""
    view, count = memoryview(bytearray(size)), 0
    while count < size and (more := raw.readinto(view[count:])):
        count += more
    return bytes(view[:count])


def _name_identity(identity: Any) -> dict[str, str]:
    if not isinstance(identity, Mapping):
        identity = dict(zip(("size", "ETag", "Last-Modified"), identity, strict=True))
    return {key: str(value) for key, value in sorted(identity.items()) if value is not None}
