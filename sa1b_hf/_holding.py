"""Halves of images that wait for their other half: in memory, and beyond a limit in a scratch file."""

from __future__ import annotations

from .scratch import Scratch
from .source import Blob, FileBlob, MemoryBlob

__all__ = ["Half", "Holding", "as_bytes"]

Half = bytes | Blob
"""Bytes are documents; JPEGs are blobs."""


class Holding:
    """Keeps halves.

    Parameters
    ----------
    ram_cap
        Bytes that may stay in memory.
    scratch_dir
        Folder of the scratch file; the system's temporary folder by default.

    """

    def __init__(self, ram_cap: int, scratch_dir: str | None) -> None:
        self._ram_cap = ram_cap
        self._scratch_dir = scratch_dir
        self._scratch: Scratch | None = None
        self._ram = 0
        self._ram_documents = 0  # few bytes compared to images: they go to disk only when they alone fill the cap

    def hold(self, half: Half) -> Half:
        """Give what is to be kept in place of a half."""
        if isinstance(half, FileBlob):
            return half
        size = _size(half)
        in_use = self._ram_documents if isinstance(half, bytes) else self._ram + self._ram_documents
        if in_use + size > self._ram_cap:
            # The newcomer goes to disk: which one makes no difference, and it saves moving an old one.
            self._scratch = self._scratch or Scratch(self._scratch_dir)
            return self._scratch.put(MemoryBlob([memoryview(half)], size) if isinstance(half, bytes) else half)
        self._count(half, size)
        return half if isinstance(half, bytes) else _compact(half)

    def release(self, half: Half) -> None:
        """Count a kept half out again."""
        if isinstance(half, (bytes, MemoryBlob)):
            self._count(half, -_size(half))

    def close(self) -> None:
        """Let go of the scratch file."""
        if self._scratch:
            self._scratch.close()

    def _count(self, half: Half, size: int) -> None:
        if isinstance(half, bytes):
            self._ram_documents += size
        else:
            self._ram += size


def as_bytes(half: Half) -> bytes:
    """Give a half in one piece."""
    if isinstance(half, bytes):
        return half
    data = bytearray(half.size)
    half.copy_into(memoryview(data))
    return bytes(data)


def _size(half: Half) -> int:
    return len(half) if isinstance(half, bytes) else half.size


def _compact(blob: Blob) -> MemoryBlob:
    """Copy those pieces of a blob that keep more than themselves alive: at its ends, which neighbours share."""
    if isinstance(blob, MemoryBlob):
        pieces = [
            piece if len(piece) == memoryview(piece.obj).nbytes else memoryview(bytes(piece)) for piece in blob.pieces
        ]
        return MemoryBlob(pieces, blob.size)
    target = memoryview(bytearray(blob.size))
    blob.copy_into(target)
    return MemoryBlob([target], blob.size)
