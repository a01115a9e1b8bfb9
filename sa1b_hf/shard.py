"""One original shard as a sequence: any image by number or id, with one range request for each half."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from ._deflate import resolve_copying_engine
from ._gzip_walk import GzipWalk
from ._index_build import CRC_MASK
from ._random_bytes import RandomBytes
from .annotations import parse_documents
from .errors import CompressionError, PairingError, SourceChangedError
from .index import Kind, Place, ShardIndex, build_index
from .jpeg import check_jpeg
from .transport import Source

__all__ = ["SA1BShard"]

_STEP: Final = 1 << 17


class SA1BShard:
    """Random access to the images of one shard, local or remote, compressed or not.

    Parameters
    ----------
    source
        A path, a URL or a signed link.
    index
        An index, or a path: of an index if there is a file, and else where to save the one that is built. None builds
        one and keeps it in memory. To build one means to read the whole shard.
    shard
        Its name for the ``shard`` column and for messages.
    engine, storage_options
        As for `sa1b_hf.source.open_shard`.

    Raises
    ------
    SourceChangedError
        The index is of another file.

    """

    def __init__(
        self,
        source: Source,
        index: ShardIndex | str | os.PathLike[str] | None = None,
        *,
        shard: str | None = None,
        engine: str = "auto",
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.shard = shard
        self._module = resolve_copying_engine(engine)
        if not isinstance(index, ShardIndex):
            path = None if index is None else Path(index)
            if path is not None and path.is_file():
                index = ShardIndex.load(path)
            else:
                index = build_index(source, engine=engine, shard=shard, storage_options=storage_options)
                if path is not None:
                    index.save(path)
        self.index = index
        self.image_ids = index.image_ids
        self._data = RandomBytes(source, storage_options)
        if self._data.size != index.file_size:
            self.close()
            message = f"expected the {index.file_size:,} bytes that were indexed, found {self._data.size:,}"
            raise SourceChangedError(f"{message}; build the index anew", reason="source-changed", shard=shard)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Give the row of the image at a position in ascending order of ids; raises as `by_id`."""
        return self.by_id(self.image_ids[number])

    def by_id(self, image_id: int) -> dict[str, Any]:
        """Give the row of an image, as a pass over the shard does.

        Raises
        ------
        PairingError
            The shard has no such image.
        RecordError
            The image or its document is unusable.
        SourceChangedError
            The bytes are not those that were indexed.

        """
        document, image = self.read(image_id, "json"), self.read(image_id, "jpg")
        parsed = parse_documents([document], image_ids=[image_id], shard=self.shard)
        for bad in parsed.bad:
            raise bad.error
        row: dict[str, Any] = parsed.table.to_pylist()[0]
        view = memoryview(image)
        check_jpeg(view, width=row["width"], height=row["height"], image_id=image_id, shard=self.shard)
        return {**row, "image": {"bytes": image, "path": f"sa_{image_id}.jpg"}, "shard": self.shard}

    def read(self, image_id: int, kind: Kind) -> bytes:
        """Give the bytes of a JPEG or a document, checked; one range request when remote.

        Raises
        ------
        PairingError
            The shard has no such member.
        SourceChangedError
            The bytes are not those that were indexed.

        """
        place = self.index.find(image_id, kind)
        if place is None:
            message = f"expected sa_{image_id}.{kind} in the shard, found none; see SA1BShard.image_ids"
            raise PairingError(message, reason=f"no-{kind}", shard=self.shard, image_id=image_id)
        start = place.point.compressed
        found = self._data.read(start, place.stop - start)
        if self.index.points:
            found = self._inflate(found, place)
        if len(found) != place.size or self._module.crc32(found) & CRC_MASK != place.crc:
            message = f"sa_{image_id}.{kind} is not what was indexed; verify the shard, or build the index anew"
            raise SourceChangedError(message, reason="source-changed", shard=self.shard, image_id=image_id)
        return found

    def _inflate(self, data: bytes, place: Place) -> bytes:
        """Inflate from a point, no further than needed; less comes out if the bytes are not deflate at all."""
        walk = GzipWalk(self._module, place.point, self.shard)
        skip, need, pieces = place.skip, place.size, []
        try:
            for at in range(0, len(data), _STEP):
                for piece in walk.feed(memoryview(data)[at : at + _STEP]):
                    part = memoryview(piece)[skip : skip + need]
                    skip = max(0, skip - len(piece))
                    need -= len(part)
                    pieces.append(part)
                if not need:
                    break
        except CompressionError:
            pass
        return b"".join(pieces)

    def close(self) -> None:
        """Let go of the file."""
        self._data.close()

    def __enter__(self) -> SA1BShard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
