"""A scratch file without a name, for what does not fit in memory for a while."""

from __future__ import annotations

import shutil
import tempfile
from typing import Final

from .errors import SourceError
from .source import Blob, MemoryBlob

__all__ = ["Scratch"]

_UNIT: Final = 1 << 16  # space is handed out in such units, so that freed places fit later members
_SLACK_UNITS: Final = 3
_CHECK_EVERY: Final = 1 << 28
_KEEP_FREE: Final = 1 << 28


class Scratch:
    """Keeps blobs on disk in an unlinked temporary file; whatever happens to the process, nothing stays behind.

    Attributes
    ----------
    written
        Bytes ever written.
    size
        Bytes that the file has grown to.

    """

    def __init__(self, directory: str | None = None) -> None:
        self._directory = directory or tempfile.gettempdir()
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 -- closed by `close`
        self._free: dict[int, list[int]] = {}
        self._checked = 0
        self.written = 0
        self.size = 0

    def put(self, blob: Blob) -> Blob:
        """Move a blob to disk.

        Raises
        ------
        SourceError
            Less than 256 MiB would stay free on the disk; ``reason`` is ``"scratch-full"``.

        """
        units = -(-blob.size // _UNIT)
        offset, units = self._allocate(units)
        self._file.seek(offset)
        pieces = blob.pieces if isinstance(blob, MemoryBlob) else [_gather(blob)]
        for piece in pieces:
            rest = piece
            while rest:
                rest = rest[self._file.write(rest) :]
        self.written += blob.size
        return _ScratchBlob(self, offset, units, blob.size)

    def _allocate(self, units: int) -> tuple[int, int]:
        for candidate in range(units, units + _SLACK_UNITS):
            if places := self._free.get(candidate):
                return places.pop(), candidate
        offset = self.size
        self.size += units * _UNIT
        if self.size > self._checked:
            self._check_disk()
        return offset, units

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self._directory).free
        if free < _KEEP_FREE + _CHECK_EVERY:
            raise SourceError(
                f"images that wait for their documents need scratch space, and only {free >> 20:,} MiB are free in "
                f"{self._directory}; set scratch_dir= to a larger disk or raise ram_cap=",
                reason="scratch-full",
            )
        self._checked = self.size + _CHECK_EVERY

    def read(self, offset: int, target: memoryview) -> None:
        """Read bytes back."""
        self._file.seek(offset)
        at = 0
        while at < len(target):
            count = self._file.readinto(target[at:])
            if not count:
                raise SourceError(f"the scratch file in {self._directory} was cut off", reason="scratch-lost")
            at += count

    def free(self, offset: int, units: int) -> None:
        """Let the place of a blob be used again."""
        self._free.setdefault(units, []).append(offset)

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()


class _ScratchBlob:
    """A blob on disk; it can be read once, then its place is free."""

    __slots__ = ("_offset", "_scratch", "_units", "size")

    def __init__(self, scratch: Scratch, offset: int, units: int, size: int) -> None:
        self._scratch = scratch
        self._offset = offset
        self._units = units
        self.size = size

    def copy_into(self, target: memoryview) -> None:
        self._scratch.read(self._offset, target)
        self._scratch.free(self._offset, self._units)


def _gather(blob: Blob) -> memoryview:
    target = memoryview(bytearray(blob.size))
    blob.copy_into(target)
    return target
