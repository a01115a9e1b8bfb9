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
import io
import json
import logging
import mmap
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from ._covers import Cover, Unpaired
from ._crc import crc32
from ._places import PLACE_SIZE
from ._restarts import Restart
from .gzsync import Joint

__all__ = ["Handover", "Spool"]

_log = logging.getLogger("sa1b_hf")

_FRAME: Final = struct.Struct("<QI")  # length and CRC-32 of what follows
_COUNTS: Final = struct.Struct("<III")  # documents, images, and bytes of the JSON text that says how far the reader is
_ID: Final = np.dtype("<i8")
_SIZE: Final = np.dtype("<u4")
_SUFFIX: Final = ".spool"
_DONE: Final = ".done.spool"
_STALE_SECONDS: Final = 3 * 3600
_MOST_BYTES: Final = 4 << 30  # of all that was left; the documents of a whole shard take some 700 MB
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
        self._file = os.fdopen(handle, "wb", buffering=0)  # the pieces are large
        self._joints = [begin.to_list(), end and end.to_list()]
        self._is_complete = False

    def write(self, found: Unpaired, start: tuple[Restart, int], *, is_complete: bool = False) -> None:
        """Add what was met, and where a reader can begin to find the rest."""
        if self._file.closed:
            return
        stands = {"joints": self._joints, "start": [start[0].to_list(), start[1]], "is_complete": is_complete}
        try:
            _check_space(self._path.parent)
            for piece in _pack(found, json.dumps(stands).encode()):
                _write(self._file, piece)
            self._is_complete = is_complete
        except (OSError, ValueError) as error:
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


def _pack(found: Unpaired, stands: bytes) -> list[bytes]:
    """Give a frame: counts, how far the reader is, all ids, then sizes, places and bytes of the documents."""
    documents = [document for _, _, document in found.documents]
    places = b"".join(place for _, place, _ in found.documents)
    if len(places) != PLACE_SIZE * len(documents):
        raise ValueError("a document without a place")
    ids = np.array([*(image_id for image_id, _, _ in found.documents), *found.images], _ID)
    sizes = np.array([len(document) for document in documents], _SIZE)
    counts = _COUNTS.pack(len(documents), len(found.images), len(stands))
    pieces = [counts, stands, ids.tobytes(), sizes.tobytes(), places, *documents]
    crc = 0
    for piece in pieces:
        crc = crc32(piece, crc)
    return [_FRAME.pack(sum(map(len, pieces)), crc), *pieces]


def _iter_frames(path: Path) -> Iterator[memoryview]:
    """Give what is good of a file: its writer may be at work, or may have been killed."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    at = 0
    while at + _FRAME.size <= len(data):
        length, crc = _FRAME.unpack_from(data, at)
        at += _FRAME.size
        frame = data[at : at + length]
        if len(frame) < max(length, _COUNTS.size) or crc32(frame) != crc:
            return
        yield frame
        at += length


def _read_cover(path: Path, wanted: np.ndarray) -> Cover | None:
    cover: Cover | None = None
    for frame in _iter_frames(path):
        num_documents, num_images, length = _COUNTS.unpack_from(frame)
        at = _COUNTS.size + length
        stands = json.loads(bytes(frame[_COUNTS.size : at]))
        if cover is None:
            begin, end = stands["joints"]
            cover = Cover(Joint.from_list(begin), end and Joint.from_list(end))
        restart, offset = stands["start"]
        cover.start, cover.is_complete = (Restart.from_list(restart), offset), stands["is_complete"]
        ids = np.frombuffer(frame, _ID, num_documents + num_images, at)
        cover.images.update(ids[num_documents:].tolist())
        _take_documents(frame[at + ids.nbytes :], ids[:num_documents], wanted, cover)
    return cover


def _take_documents(data: memoryview, ids: np.ndarray, wanted: np.ndarray, cover: Cover) -> None:
    ends = np.cumsum(np.frombuffer(data, _SIZE, len(ids)), dtype=np.int64)
    places, documents = data[_SIZE.itemsize * len(ids) :], data[(_SIZE.itemsize + PLACE_SIZE) * len(ids) :]
    for row in np.flatnonzero(np.isin(ids, wanted)).tolist():
        place = bytes(places[row * PLACE_SIZE : (row + 1) * PLACE_SIZE])
        begin = int(ends[row - 1]) if row else 0
        cover.documents[int(ids[row])] = place, _Left(documents[begin : int(ends[row])])


def _write(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


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
    found = []
    for folder in root.iterdir():
        with contextlib.suppress(OSError):  # another reader may be removing it
            stats = [folder.stat(), *(path.stat() for path in folder.iterdir())]
            found.append((max(stat.st_mtime for stat in stats), folder, sum(stat.st_size for stat in stats[1:])))
    total = sum(size for *_, size in found)
    for newest, folder, size in sorted(found):
        if total > _MOST_BYTES or newest < time.time() - _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
            total -= size
