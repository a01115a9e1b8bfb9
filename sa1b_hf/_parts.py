"""Files on their way out: written and hashed as drafts in a hidden folder, given their names when a shard is done."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from ._disk import disk_problem, make_folder, sync_folder, write_small
from ._drop_behind import DropBehind
from .errors import SA1BError

__all__ = ["DraftFile", "DraftFolder", "Drafts", "Part", "PartSink", "RowRange", "remove"]

_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Part:
    """One file, or folder of files, that holds rows of a shard.

    Attributes
    ----------
    path
        Below the folder of the conversion, with slashes.
    sha256
        Of the bytes, hexadecimal; of a folder, of the lines of names and hashes of its files, by name.
    size
        Bytes.
    rows
        Number of images.
    first_image_id, last_image_id
        Smallest and largest image id; -1 without rows.

    """

    path: str
    sha256: str
    size: int
    rows: int
    first_image_id: int
    last_image_id: int


class PartSink(Protocol):
    """Writes rows in some format; see `Drafts` for where to."""

    def write(self, group: pa.Table) -> None:
        """Take the next rows, at least one."""

    def finish(self) -> None:
        """Complete what is open."""


@dataclass(frozen=True)
class RowRange:
    """How many rows there were, and the range of their ids."""

    rows: int = 0
    first: int = -1
    last: int = -1

    def add(self, image_ids: pa.ChunkedArray) -> RowRange:
        """Give the range with more rows in it."""
        ids = np.asarray(image_ids)
        if not len(ids):
            return self
        first, last = int(ids.min()), int(ids.max())
        if self.rows:
            first, last = min(first, self.first), max(last, self.last)
        return RowRange(self.rows + len(ids), first, last)


class DraftFile:
    """A file that is hashed while it is written; what `pyarrow` and others take for an open binary file."""

    closed = False

    def __init__(self, path: Path, final: str, finished: Callable[[Part], None]) -> None:
        self.path = path
        self._final = final
        self._finished = finished
        self._hash = hashlib.sha256()
        self._size = 0
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise disk_problem(error, path) from None
        self._cached = DropBehind(self._file.fileno())

    def write(self, data: Any) -> int:
        """Append bytes."""
        view = memoryview(data).cast("B")
        if self.closed:
            return len(view)  # given up; a Parquet writer still writes its footer when it is collected
        self._hash.update(view)
        self._size += len(view)
        at = 0
        while at < len(view):
            at += self._file.write(view[at:])
        self._cached.written(self._size)
        return len(view)

    def tell(self) -> int:
        """Give the number of bytes so far."""
        return self._size

    def flush(self) -> None:
        """Do nothing: no byte is held back."""

    def finish(self, rows: RowRange) -> None:
        """Complete the file; its bytes are on the disk from now on."""
        os.fsync(self._file.fileno())
        self._cached.synced()
        self.close()
        self._finished(Part(self._final, self._hash.hexdigest(), self._size, rows.rows, rows.first, rows.last))

    def close(self) -> None:
        """Let go of the file."""
        self.closed = True
        self._file.close()


class DraftFolder:
    """A folder of many small files."""

    def __init__(self, path: Path, final: str, finished: Callable[[Part], None]) -> None:
        self._path = path
        self._final = final
        self._finished = finished
        self._files: dict[str, str] = {}
        self._size = 0
        make_folder(path)

    def write(self, name: str, data: Any) -> None:
        """Add a file."""
        with (self._path / name).open("wb") as file:
            file.write(data)
        self._files[name] = hashlib.sha256(data).hexdigest()
        self._size += len(data)

    def tell(self) -> int:
        """Give the bytes of all files so far."""
        return self._size

    def close(self) -> None:
        """Do nothing: no file is open."""

    def finish(self, rows: RowRange) -> None:
        """Complete the folder; its bytes are on the disk from now on."""
        # one call for all files: to sync tens of thousands one by one takes minutes
        os.sync() if hasattr(os, "sync") else None
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self._files.items()))
        digest = hashlib.sha256(lines.encode()).hexdigest()
        self._finished(Part(self._final, digest, self._size, rows.rows, rows.first, rows.last))


class Drafts:
    """Everything unfinished of one shard.

    Parameters
    ----------
    folder
        Hidden folder for it, emptied here.
    out
        Folder of the conversion, on the same disk.

    Attributes
    ----------
    parts
        What is complete, in order.

    """

    def __init__(self, folder: Path, out: Path) -> None:
        self._folder = folder
        self._out = out
        self.parts: list[Part] = []
        self._paths: dict[str, Path] = {}
        self._open: list[DraftFile | DraftFolder] = []
        self._shared: dict[str, str] = {}
        remove(folder)
        make_folder(folder)

    def file(self, final: str) -> DraftFile:
        """Begin a file, whose name in the end is `final`, below the folder of the conversion."""
        draft = DraftFile(self._draft(final), final, self.parts.append)
        self._open.append(draft)
        return draft

    def folder(self, final: str) -> DraftFolder:
        """Begin a folder of files."""
        draft = DraftFolder(self._draft(final), final, self.parts.append)
        self._open.append(draft)
        return draft

    def share(self, final: str, text: str) -> None:
        """Add a small file that is the same for all shards, and no part of any."""
        self._shared[final] = text

    def size(self) -> int:
        """Give the bytes written so far."""
        return sum(draft.tell() for draft in self._open)

    def _draft(self, final: str) -> Path:
        path = self._folder / f"{len(self._paths):05d}"
        self._paths[final] = path
        return path

    def publish(self) -> None:
        """Give everything its final name."""
        for part in self.parts:
            target = self._out / part.path
            make_folder(target.parent)
            if target.is_dir():
                remove(target)  # a rename replaces files only
            try:
                self._paths[part.path].replace(target)
            except OSError as error:
                raise disk_problem(error, target) from None
        for final, text in self._shared.items():
            self.put(self._out / final, text)
        for folder in {(self._out / part.path).parent for part in self.parts}:
            sync_folder(folder)

    def put(self, path: Path, text: str) -> None:
        """Write a small file so that it is there as a whole or not at all, and leave no draft but in the folder."""
        write_small(path, text, self._folder / "small")

    def close(self) -> None:
        """Let go of open files, and remove what was not published; killed before, the next run does."""
        for draft in self._open:
            with contextlib.suppress(OSError):
                draft.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        if not isinstance(error, SA1BError):
            raise disk_problem(error, path) from None
        raise
