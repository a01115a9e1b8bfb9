"""Bytes of a source at any offset, and its size, whether it is a file or far away."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final

from .transport import Source, local_path, open_raw, read_range

__all__ = ["RandomBytes"]

_CHUNK: Final = 1 << 18


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

    Attributes
    ----------
    size
        Bytes of the source.
    source
        As given.

    """

    def __init__(
        self, source: Source, storage_options: Mapping[str, Any] | None = None, *, read_ahead: int = 0
    ) -> None:
        self.source = source
        self._storage_options = storage_options
        self._read_ahead = read_ahead
        self._kept = b""
        self._kept_at = 0
        path = local_path(source)
        # opening it through the transport gives its typed errors
        with open_raw(source, storage_options=storage_options) as raw:
            if raw.size is None:
                raw.readinto(bytearray(1))  # now the server has told
            self.size = raw.size or 0
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)) if path and hasattr(os, "pread") else -1

    def read(self, start: int, length: int) -> bytes:
        """Read from `start` on; fewer than `length` bytes at the end of the source only; one request when remote."""
        length = max(0, min(length, self.size - start))
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

    def iter_chunks(self, start: int, stop: int | None = None) -> Iterator[bytes]:
        """Give everything from `start` on in order, in chunks of 256 KiB; over one connection when remote and long."""
        stop = self.size if stop is None else min(stop, self.size)
        if self._fd >= 0 or stop - start <= self._read_ahead:
            for at in range(start, stop, _CHUNK):
                yield self.read(at, min(_CHUNK, stop - at))
            return
        with open_raw(self.source, offset=min(start, self.size), storage_options=self._storage_options) as raw:
            while start < stop:
                buffer = bytearray(min(_CHUNK, stop - start))
                count = raw.readinto(buffer)
                if not count:
                    return
                start += count
                yield bytes(memoryview(buffer)[:count])

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> RandomBytes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
