"""Written files taken out of the page cache: parts are longer than memory, and pages used again cost less than new."""

from __future__ import annotations

import contextlib
import os
from typing import Final

__all__ = ["DropBehind"]

_STEP: Final = 8 << 20
_LAG: Final = 32 << 20  # what a disk may be behind without pages being missed by the second call


class DropBehind:
    """Lets the system forget what was written to a file, as soon as it is on the disk.

    Nothing waits for the disk: the first call for a stretch begins to write it, a later one drops its pages. Where the
    system knows no such advice, nothing is done.

    Parameters
    ----------
    handle
        Of the open file.

    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._begun = 0

    def written(self, size: int) -> None:
        """Note that the file has `size` bytes now."""
        while size - self._begun >= _STEP:
            self._forget(self._begun, _STEP)
            self._begun += _STEP
            if self._begun > _LAG:
                self._forget(0, self._begun - _LAG)

    def synced(self) -> None:
        """Note that all bytes are on the disk."""
        self._forget(0, 0)

    def _forget(self, start: int, length: int) -> None:
        # macOS and Windows lack the call; a file system that knows no advice may refuse it
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._handle, start, length, os.POSIX_FADV_DONTNEED)
