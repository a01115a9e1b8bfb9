"""Where a half of an image is, in 24 bytes, and how it is read again from there."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from ._deflate import resolve_copying_engine
from ._engines import GZIP_MAGIC
from ._gzip_walk import GzipWalk, Point
from ._random_bytes import RandomBytes
from .errors import CompressionError, ConfigError, SourceChangedError
from .source import Blob, MemoryBlob
from .tar import MAX_MEMBER_BYTES

__all__ = ["PLACE_SIZE", "Place", "PlaceReader", "StoredBlob", "unpack_places"]

_LAYOUT: Final = struct.Struct("<qQII")  # id, compressed offset, skip, and in one word the size and two flags
PLACE_SIZE: Final = _LAYOUT.size
_IS_JSON, _IS_STORED = 1 << 31, 1 << 30
_SIZE_MASK: Final = (1 << 30) - 1
_MAX_SKIP: Final = 0xFFFFFFFF
_STEP: Final = 1 << 18
_MAX_REQUEST: Final = 8 << 20


class Place(NamedTuple):
    """Where the bytes of a member are: `skip` uncompressed bytes behind a point.

    Attributes
    ----------
    image_id, kind, size
        Of the member.
    point
        Where to begin inflating; in a plain tar where to begin reading.
    skip
        Uncompressed bytes to pass over.

    """

    image_id: int
    kind: Literal["jpg", "json"]
    point: Point
    skip: int
    size: int

    def pack(self) -> bytes | None:
        """Give it as bytes; None if the next point before it is 4 GiB away."""
        if self.skip > _MAX_SKIP:
            return None
        flags = (_IS_JSON if self.kind == "json" else 0) | (_IS_STORED if self.point.is_stored else 0)
        return _LAYOUT.pack(self.image_id, self.point.compressed, self.skip, self.size | flags)


def unpack_places(data: bytes) -> Iterator[Place]:
    """Give back what was packed, one after the other.

    Raises
    ------
    ConfigError
        It is nothing of the kind.

    """
    if len(data) % PLACE_SIZE:
        raise ConfigError("state: expected what state_dict() gave, found a damaged one")
    for image_id, compressed, skip, word in _LAYOUT.iter_unpack(data):
        size = word & _SIZE_MASK
        if size > MAX_MEMBER_BYTES:
            raise ConfigError("state: expected what state_dict() gave, found one with members of more than 64 MiB")
        kind: Literal["jpg", "json"] = "json" if word & _IS_JSON else "jpg"
        yield Place(image_id, kind, Point(compressed, bool(word & _IS_STORED)), skip, size)


@dataclass(eq=False)
class StoredBlob:
    """A half that is still in the shard, until somebody needs it or one of its neighbours."""

    place: Place
    _group: _Group
    held: bytes | Blob | None = None

    def __post_init__(self) -> None:
        self.size = self.place.size

    def load(self) -> bytes | Blob:
        """Give the bytes, from where they wait now."""
        if self.held is None:
            self._group.load(self)
        return self.held  # type: ignore[return-value]

    def copy_into(self, target: memoryview) -> None:
        """Write all bytes into `target`, which has exactly `size` bytes."""
        held = self.load()
        if isinstance(held, bytes):
            target[:] = held
        else:
            held.copy_into(target)


class PlaceReader:
    """Reads halves by their places, when they are needed; what is passed on the way to one is not inflated again.

    Parameters
    ----------
    open_data
        Gives the shard's bytes; called when something is needed for the first time.
    engine, shard
        As for `sa1b_hf.source.open_shard`.

    """

    def __init__(self, open_data: Callable[[], RandomBytes], *, engine: str, shard: str | None) -> None:
        self._open_data = open_data
        self._module = resolve_copying_engine(engine)
        self._shard = shard

    def make_blobs(self, places: Iterable[Place], hold: Callable[[bytes | Blob], bytes | Blob]) -> Iterator[StoredBlob]:
        """Give a blob for each place, in any order; `hold` takes what was read before it was needed."""
        groups: dict[Point, _Group] = {}
        for place in places:
            group = groups.setdefault(place.point, _Group(self, hold))
            blob = StoredBlob(place, group)
            group.blobs.append(blob)
            yield blob

    def read(self, places: list[Place]) -> Iterator[bytes]:
        """Read members that lie behind one point.

        Raises
        ------
        SourceChangedError
            There is something else now.

        """
        data, point = self._open_data(), places[0].point
        is_gzip = data.read(0, 2) == GZIP_MAGIC
        found = self._inflate(data, point, places) if is_gzip else _read_plain(data, places)
        for place, half in zip(places, found, strict=True):
            if len(half) < place.size:
                message = f"expected sa_{place.image_id}.{place.kind} behind byte {point.compressed:,}, found less"
                raise SourceChangedError(
                    f"{message}; begin this shard anew", reason="source-changed", shard=self._shard
                )
            yield half

    def _inflate(self, data: RandomBytes, point: Point, places: list[Place]) -> list[bytes]:
        """Inflate, and keep what belongs to a place."""
        walk = GzipWalk(self._module, point, self._shard)
        pieces: list[list[memoryview]] = [[] for _ in places]
        need = max(place.skip + place.size for place in places)
        try:
            while walk.produced < need and walk.position < data.size:
                # What does not compress takes as many bytes in the file: mostly this is one request.
                ahead = min(need - walk.produced + _STEP, _MAX_REQUEST)
                chunk = memoryview(data.read(walk.position, ahead))
                for at in range(0, len(chunk), _STEP):
                    before = walk.produced
                    for piece in walk.feed(chunk[at : at + _STEP]):
                        for place, kept in zip(places, pieces, strict=True):
                            begin, end = place.skip - before, place.skip + place.size - before
                            if begin < len(piece) and end > 0:
                                kept.append(memoryview(piece)[max(0, begin) : end])
                        before += len(piece)
                    if before >= need:
                        break
        except CompressionError:
            pass  # the caller sees that something is missing
        return [b"".join(kept) for kept in pieces]


def _read_plain(data: RandomBytes, places: list[Place]) -> list[bytes]:
    return [data.read(place.point.compressed + place.skip, place.size) for place in places]


class _Group:
    """Halves behind one point."""

    def __init__(self, reader: PlaceReader, hold: Callable[[bytes | Blob], bytes | Blob]) -> None:
        self._reader = reader
        self._hold = hold
        self.blobs: list[StoredBlob] = []

    def load(self, wanted: StoredBlob) -> None:
        """Read a half, and keep those that are passed on the way."""
        blobs = [blob for blob in self.blobs if blob.place.skip <= wanted.place.skip]
        self.blobs = [blob for blob in self.blobs if blob.place.skip > wanted.place.skip]
        found = self._reader.read([blob.place for blob in blobs])
        for blob, half in zip(blobs, found, strict=True):
            is_json = blob.place.kind == "json"
            blob.held = self._hold(half if is_json else MemoryBlob([memoryview(half)], len(half)))
