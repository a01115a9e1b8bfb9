"""What a download needs of a disk: space, names that appear only when complete, and durable writes."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from .errors import SA1BError, SourceError

__all__ = [
    "RESERVE",
    "allocated",
    "check_space",
    "disk_problem",
    "make_folder",
    "publish",
    "sync_folder",
    "write_small",
]

RESERVE: Final = 256 << 20
"""Bytes that a download leaves free on the disk."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def allocated(path: Path) -> int:
    """Give the bytes that a file, which may have holes, takes on the disk; 0 if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return 0
    return getattr(stat, "st_blocks", 0) * 512


def check_space(folder: Path, needed: int, *, shard: str | None = None) -> None:
    """Make sure that a disk has room.

    Parameters
    ----------
    folder
        Any folder on it.
    needed
        Bytes that are still to be written.
    shard
        For the message.

    Raises
    ------
    SourceError
        ``reason="disk-full"``: `needed` and 256 MiB are more than what is free.

    """
    free = shutil.disk_usage(folder).free
    if needed > 0 and free < needed + RESERVE:
        raise SourceError(
            f"{folder}: expected {_gigabytes(needed + RESERVE)} free (the rest of the download and a reserve), found "
            f"{_gigabytes(free)}; free some space or choose fewer shards, then run again: it goes on where it stopped",
            reason="disk-full",
            shard=shard,
        )


def disk_problem(error: OSError, path: Path, shard: str | None = None) -> SA1BError:
    """Make the error for a failure of the target disk.

    Parameters
    ----------
    error
        What the system said.
    path
        What was to be written.
    shard
        For the message.

    Returns
    -------
    SourceError
        ``reason`` is ``"disk-full"``, ``"read-only"`` or ``"io-error"``.

    """
    if error.errno in _FULL:
        reason, advice = "disk-full", "free some space, then run again: it goes on where it stopped"
    elif error.errno in _FORBIDDEN:
        reason, advice = "read-only", "choose a folder that you may write to"
    else:
        reason, advice = "io-error", "check the disk, then run again"
    return SourceError(f"{path}: cannot be written: {error.strerror}; {advice}", reason=reason, shard=shard)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; raises what `disk_problem` gives."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_problem(error, folder) from None


def write_small(path: Path, text: str, draft: Path | None = None) -> None:
    """Write a small file, by way of `draft`, so that it is there as a whole or not at all, also after a power loss."""
    draft = draft or path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        publish(draft, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise disk_problem(error, path) from None


def publish(draft: Path, path: Path) -> None:
    """Give a complete file, whose bytes are on the disk, its final name."""
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable, where the system can."""
    # Windows cannot open folders, some network file systems cannot sync them: then names are durable a little later.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
