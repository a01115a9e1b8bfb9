"""Where each image of a shard is: a Parquet file of some 19 bytes an image, made in one pass."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ._gzip_walk import Point
from ._index_build import IndexedMember, scan_shard
from ._random_bytes import RandomBytes
from ._restarts import Restart
from .errors import ConfigError
from .transport import Source

__all__ = ["Place", "ShardIndex", "build_index"]

_BLOCK: Final = 512
_FORMAT: Final = "1"
_KINDS: Final = ("jpg", "json")
_SPACING: Final = 5 << 18
_CRC_BYTES: Final = 3

Kind = Literal["jpg", "json"]


class Place(NamedTuple):
    """Where the bytes of a member are.

    Attributes
    ----------
    point
        Where to begin inflating; in a plain tar where to begin reading.
    stop
        Offset in the file up to which bytes are needed.
    skip
        Uncompressed bytes to pass over.
    size, crc
        Of the member; the CRC cut to `sa1b_hf._index_build.CRC_MASK`.

    """

    point: Point
    stop: int
    skip: int
    size: int
    crc: int


@dataclass(frozen=True)
class ShardIndex:
    """An index of one shard.

    Attributes
    ----------
    file_size
        Bytes of the shard's file.
    members
        By kind and image id.
    points
        (compressed, uncompressed, is_stored) of places where inflate can begin, ascending; empty for a plain tar.

    """

    file_size: int
    members: Mapping[str, Mapping[int, IndexedMember]]
    points: Sequence[tuple[int, int, bool]]

    @property
    def image_ids(self) -> list[int]:
        """Ids of the images of which both halves are there, ascending."""
        return sorted(self.members["jpg"].keys() & self.members["json"].keys())

    def find(self, image_id: int, kind: Kind) -> Place | None:
        """Say where a member is; None if it is not in the shard."""
        member = self.members[kind].get(image_id)
        if member is None:
            return None
        begin, end = member.offset, member.offset + member.size
        if not self.points:
            return Place(Point(begin, is_stored=False), end, 0, member.size, member.crc)
        # The middle value is the uncompressed offset.
        compressed, produced, is_stored = self.points[bisect_right(self.points, begin, key=_uncompressed) - 1]
        after = bisect_left(self.points, end, key=_uncompressed)
        stop = self.points[after][0] if after < len(self.points) else self.file_size
        return Place(Point(compressed, is_stored), stop, begin - produced, member.size, member.crc)

    def find_restart(self, offset: int) -> Restart:
        """Give the last place before an uncompressed offset at which reading can begin, without its checksum."""
        if not self.points:
            return Restart(Point(offset, is_stored=False), offset)
        compressed, produced, is_stored = self.points[bisect_right(self.points, offset, key=_uncompressed) - 1]
        return Restart(Point(compressed, is_stored), produced, None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index, and its folder if there is none; nothing half-written ever has its name."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
        table = _to_table(self)
        try:
            pq.write_table(
                table,
                draft,
                compression="zstd",
                compression_level=9,
                use_dictionary=["jpg_gap", "json_gap"],
                column_encoding=_encodings(table),
                write_statistics=False,
            )
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ShardIndex:
        """Read an index.

        Raises
        ------
        ConfigError
            The file is no index of this format.

        """
        try:
            table = pq.read_table(path, memory_map=False)
            metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
            if metadata.get("sa1b_hf.index") != _FORMAT:
                raise ConfigError(f"{path}: expected an index of format {_FORMAT}, found another file; build it anew")
            return _from_table(table, int(metadata["file_size"]))
        except (pa.ArrowException, KeyError, IndexError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path}: expected an index, found a damaged one ({error}); build it anew") from None


def build_index(
    source: Source,
    *,
    spacing: int = _SPACING,
    engine: str = "auto",
    shard: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> ShardIndex:
    """Read a shard once and note where everything is.

    Parameters
    ----------
    source, engine, shard, storage_options
        As for `sa1b_hf.source.open_shard`.
    spacing
        Least uncompressed bytes between two points. Fewer points make a smaller index, and more to inflate for each
        image.
    on_bytes
        Called with the number of bytes of the file that were read; may raise, which ends it.

    Raises
    ------
    ShardError
        The shard is damaged; an index of it would promise too much.

    """
    with RandomBytes(source, storage_options) as data:
        found, points = scan_shard(data, engine=engine, spacing=spacing, shard=shard, on_bytes=on_bytes)
        members: dict[str, dict[int, IndexedMember]] = {kind: {} for kind in _KINDS}
        for member in found:
            members[member.kind].setdefault(member.image_id, member)  # of duplicates the first, as everywhere
        return ShardIndex(data.size, members, points)


def _uncompressed(point: tuple[int, int, bool]) -> int:
    return point[1]


def _padded(size: int) -> int:
    return size + -size % _BLOCK


def _to_table(index: ShardIndex) -> pa.Table:
    """Lay out one row an image: positions as ranks in the tar, from which sizes give the offsets back."""
    ids = sorted(index.members["jpg"].keys() | index.members["json"].keys())
    ordered = sorted((m for kind in _KINDS for m in index.members[kind].values()), key=lambda member: member.offset)
    rank = {(member.kind, member.image_id): number for number, member in enumerate(ordered)}
    gaps, at = [], 0
    for member in ordered:
        gaps.append((member.offset - at) // _BLOCK - 1)
        at = member.offset + _padded(member.size)
    columns: dict[str, pa.Array] = {"image_id": pa.array(ids, pa.int64())}
    for kind in _KINDS:
        rows = [(rank.get((kind, image_id), -1), index.members[kind].get(image_id)) for image_id in ids]
        columns[f"{kind}_rank"] = pa.array([number for number, _ in rows], pa.int32())
        columns[f"{kind}_size"] = pa.array([member.size if member else 0 for _, member in rows], pa.int32())
        crcs = [(member.crc if member else 0).to_bytes(_CRC_BYTES, "little") for _, member in rows]
        columns[f"{kind}_crc"] = pa.array(crcs, pa.binary(_CRC_BYTES))
        columns[f"{kind}_gap"] = pa.array([gaps[number] if number >= 0 else 0 for number, _ in rows], pa.int32())
    # The points belong to no image; all of them are in the lists of the first row.
    for position, name in enumerate(("compressed", "uncompressed", "is_stored")):
        values = [int(point[position]) for point in index.points]
        lists = [values, *([] for _ in ids[1:])] if ids else []
        columns[f"point_{name}"] = pa.array(lists, pa.list_(pa.int64()))
    metadata = {"sa1b_hf.index": _FORMAT, "file_size": str(index.file_size)}
    return pa.table(columns, metadata=metadata)


def _encodings(table: pa.Table) -> dict[str, str]:
    encodings = {}
    for name in table.schema.names:
        if name.startswith("point_"):
            encodings[f"{name}.list.element"] = "DELTA_BINARY_PACKED"
        elif name.endswith("_crc"):
            encodings[name] = "PLAIN"
        elif not name.endswith("_gap"):
            encodings[name] = "DELTA_BINARY_PACKED"
    return encodings


def _from_table(table: pa.Table, file_size: int) -> ShardIndex:
    columns = {name: table[name].to_pylist() for name in table.schema.names if not name.startswith("point_")}
    rows = []
    for kind in _KINDS:
        parts = (columns[f"{kind}_{name}"] for name in ("rank", "size", "crc", "gap"))
        rows += [
            (rank, kind, image_id, size, crc, gap)
            for image_id, rank, size, crc, gap in zip(columns["image_id"], *parts, strict=True)
            if rank >= 0
        ]
    members: dict[str, dict[int, IndexedMember]] = {kind: {} for kind in _KINDS}
    at = 0
    for _, kind, image_id, size, crc, gap in sorted(rows):
        offset = at + (gap + 1) * _BLOCK
        members[kind][image_id] = IndexedMember(image_id, kind, offset, size, int.from_bytes(crc, "little"))
        at = offset + _padded(size)
    lists = [table[f"point_{name}"].combine_chunks().flatten() for name in ("compressed", "uncompressed", "is_stored")]
    compressed, uncompressed, is_stored = (np.asarray(values).tolist() for values in lists)
    points = list(zip(compressed, uncompressed, map(bool, is_stored), strict=True))
    return ShardIndex(file_size, members, points)
