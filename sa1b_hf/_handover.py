"""Documents that the readers of a shard's parts leave for one another in files on this machine.

In a shard in random order every part lacks documents that lie in other parts. Whoever reads those parts meets them
anyway, and has no use for them. So each reader writes down the documents that found no image, the images that it met,
and how far it is. Others take what they miss from there, and search only what nobody has read yet. Nobody ever waits
for anybody: without such files, or with incomplete ones, rows are the same and take longer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from ._covers import Cover, Unpaired
from ._crc import crc32
from ._places import PLACE_SIZE
from ._restarts import Restart
from .gzsync import Joint

__all__ = ["Handover", "Spool"]

_log = logging.getLogger("sa1b_hf")

_SCHEMA: Final = pa.schema(
    [("image_id", pa.int64()), ("place", pa.binary(PLACE_SIZE)), ("document", pa.large_binary())]
)
_STANDS: Final = b"stands"
_HEADER: Final = struct.Struct("<QI")  # length and CRC-32 of an Arrow stream of one batch
_SUFFIX: Final = ".arrows"
_DONE: Final = ".done.arrows"
_STALE_SECONDS: Final = 3 * 3600
_MOST_BYTES: Final = 4 << 30  # of all that was left; the documents of a whole shard take some 300 MB
_KEEP_FREE: Final = 1 << 30


class Handover:
    """The files of the readers of one shard.

    Parameters
    ----------
    identity
        Of the shard, see `sa1b_hf._random_bytes.RandomBytes`.
    wanted
        What readers need to have in common otherwise: which images they want.
    part
        (index, of): whose reader this is.
    folder
        Where the folder of this user is made; the system's one for temporary files by default.

    """

    def __init__(
        self, identity: Mapping[str, str], *, wanted: str, part: tuple[int, int], folder: str | None = None
    ) -> None:
        self._index, self._of = part
        key = hashlib.sha256(json.dumps([sorted(identity.items()), wanted, self._of]).encode()).hexdigest()
        user = os.getuid() if hasattr(os, "getuid") else "user"
        self._root = Path(folder or tempfile.gettempdir()) / f"sa1b_hf-{user}"
        self._folder = self._root / key[:32]
        self._left = self._folder / f"{self._index}-nothing{_SUFFIX}"

    def open_spool(self, begin: Joint, end: Joint | None) -> Spool | None:
        """Begin the file of this reader; None where that cannot be."""
        try:
            _make_private(self._root)
            _tidy(self._root)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            handle, name = tempfile.mkstemp(_SUFFIX, f"{self._index}-", self._folder)
        except OSError as error:
            _log.debug("documents are not handed over: %s", error)
            return None
        self._left = Path(name)
        return Spool(self._left, handle, begin, end)

    def read_covers(self, missing: Mapping[int, str]) -> list[Cover]:
        """Give what the other readers left so far, with those documents that are missing: kinds by image id."""
        wanted = np.array([image_id for image_id, kind in missing.items() if kind == "json"], np.int64)
        best: dict[str, Cover] = {}
        with contextlib.suppress(OSError):
            for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
                index = path.name.partition("-")[0]
                cover = None if index == str(self._index) else _read_cover(path, wanted)
                if cover is not None and cover.is_further_than(best.get(index)):
                    best[index] = cover
        return list(best.values())

    def finish(self) -> None:
        """Note that this reader needs nothing any more; the last one removes the files of all that are done.

        Those of readers that are at it again, in the next epoch, stay.
        """
        with contextlib.suppress(OSError):
            self._left.touch()
            self._left.rename(self._left.with_suffix(_DONE))
            done = list(self._folder.glob(f"*{_DONE}"))
            if len({path.name.partition("-")[0] for path in done}) == self._of:
                for path in done:
                    path.unlink(missing_ok=True)
                self._folder.rmdir()


class Spool:
    """The file that one reader writes. When it cannot be written, it is removed, and reading goes on."""

    def __init__(self, path: Path, handle: int, begin: Joint, end: Joint | None) -> None:
        self._path = path
        self._file = os.fdopen(handle, "wb")
        self._joints = [begin.to_list(), end and end.to_list()]
        self._is_complete = False

    def write(self, found: Unpaired, start: tuple[Restart, int], *, is_complete: bool = False) -> None:
        """Add what was met, and where a reader can begin to find the rest."""
        if self._file.closed:
            return
        stands = {"joints": self._joints, "start": [start[0].to_list(), start[1]], "is_complete": is_complete}
        try:
            _check_space(self._path.parent)
            written = _pack(found, json.dumps(stands))
            self._file.write(_HEADER.pack(len(written), crc32(written)))
            self._file.write(written)
            self._file.flush()
            self._is_complete = is_complete
        except (OSError, pa.ArrowInvalid) as error:  # invalid: a place that does not fit into its bytes
            _log.debug("documents are not handed over any more: %s", error)
            self.close()

    def close(self) -> None:
        """Leave the file to others if it is complete."""
        if self._file.closed:
            return
        with contextlib.suppress(OSError):
            self._file.close()
        if not self._is_complete:
            with contextlib.suppress(OSError):
                self._path.unlink()


class _Left:
    """A document in a file that somebody left."""

    __slots__ = ("_data", "size")

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.size = len(data)

    def copy_into(self, target: memoryview) -> None:
        target[:] = self._data


def _pack(found: Unpaired, stands: str) -> pa.Buffer:
    """Give documents, then images, which have an id and nothing else."""
    ids, places, documents = zip(*found.documents, strict=True) if found.documents else ((), (), ())
    absent = [None] * len(found.images)
    columns = [[*ids, *found.images], [*places, *absent], [*documents, *absent]]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, _SCHEMA.types, strict=True)]
    sink, schema = pa.BufferOutputStream(), _SCHEMA.with_metadata({_STANDS: stands})
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    return sink.getvalue()


def _iter_packed(path: Path) -> Iterator[pa.Buffer]:
    """Give what is good of a file: its writer may be at work, or may have been killed."""
    if not path.stat().st_size:
        return
    data = pa.memory_map(str(path)).read_buffer()
    at = 0
    while at + _HEADER.size <= data.size:
        length, crc = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        packed = data.slice(at, min(length, data.size - at))
        if not length or packed.size < length or crc32(packed) != crc:
            return
        yield packed
        at += length


def _read_cover(path: Path, wanted: np.ndarray) -> Cover | None:
    cover: Cover | None = None
    for packed in _iter_packed(path):
        reader = pa.ipc.open_stream(packed)
        stands = json.loads(reader.schema.metadata[_STANDS])
        if cover is None:
            begin, end = stands["joints"]
            cover = Cover(Joint.from_list(begin), end and Joint.from_list(end))
        restart, offset = stands["start"]
        cover.start, cover.is_complete = (Restart.from_list(restart), offset), stands["is_complete"]
        _take_rows(reader.read_next_batch(), cover, wanted)
    return cover


def _take_rows(batch: pa.RecordBatch, cover: Cover, wanted: np.ndarray) -> None:
    ids = batch["image_id"].to_numpy()
    is_document = batch["document"].is_valid().to_numpy(zero_copy_only=False)
    cover.images.update(ids[~is_document].tolist())
    for row in np.flatnonzero(is_document & np.isin(ids, wanted)).tolist():
        data = memoryview(batch["document"][row].as_buffer()).cast("B")
        cover.documents[int(ids[row])] = batch["place"][row].as_py(), _Left(data)


def _check_space(folder: Path) -> None:
    if shutil.disk_usage(folder).free < _KEEP_FREE:
        raise OSError(errno.ENOSPC, "the disk is nearly full")


def _make_private(root: Path) -> None:
    """Make the folder of all files, and refuse one that others may write to."""
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o077):
        raise PermissionError(f"{root} is open to others")


def _tidy(root: Path) -> None:
    """Remove what readers that were stopped left, and the oldest of what is too much."""
    folders = sorted((_newest(folder), folder) for folder in root.iterdir() if folder.is_dir())
    sizes = {folder: sum(path.stat().st_size for path in folder.iterdir()) for _, folder in folders}
    total = sum(sizes.values())
    for newest, folder in folders:
        if total > _MOST_BYTES or newest < time.time() - _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
            total -= sizes[folder]


def _newest(folder: Path) -> float:
    return max(path.stat().st_mtime for path in [folder, *folder.iterdir()])
