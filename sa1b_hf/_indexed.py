"""Members of a shard by their places in its index, as if a pass had met them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from ._restarts import Restart
from .index import Kind, ShardIndex
from .shard import SA1BShard
from .source import MemoryBlob
from .tar import BLOCK, Member

__all__ = ["IndexNotes", "iter_indexed"]


def iter_indexed(shard: SA1BShard, wanted: list[tuple[int, Kind]]) -> Iterator[Member]:
    """Give those of some halves, by id and kind, that the index has, in the order of the shard."""
    members = shard.index.members
    found = [members[kind][image_id] for image_id, kind in wanted if image_id in members[kind]]
    for place in sorted(found, key=lambda member: member.offset):
        name, kind = f"sa_{place.image_id}.{place.kind}", cast("Kind", place.kind)
        held = _Indexed(shard, place.image_id, kind)
        yield Member(name, place.image_id, kind, place.size, place.offset - BLOCK, held)  # type: ignore[arg-type]


class _Indexed:
    """A member that is read when it is asked for, in the place of the cursor that it would be read from."""

    def __init__(self, shard: SA1BShard, image_id: int, kind: Kind) -> None:
        self._shard = shard
        self._what = image_id, kind

    def read(self, size: int) -> bytes:
        return self._shard.read(*self._what)[:size]

    def take(self, size: int) -> MemoryBlob:
        return MemoryBlob([memoryview(self.read(size))], size)


class IndexNotes:
    """The points of an index, as places to begin."""

    def __init__(self, index: ShardIndex) -> None:
        self._index = index

    def find(self, offset: int) -> Restart:
        """Give the last one before an offset."""
        return self._index.find_restart(offset)
