"""JPEGs of a batch, copied once, into one Arrow column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from .errors import ImageError
from .jpeg import check_jpeg
from .source import Blob

__all__ = ["ImageColumn"]


class ImageColumn:
    """The bytes of some images, in one buffer.

    Parameters
    ----------
    blobs
        Where the bytes are; they are copied here.

    """

    def __init__(self, blobs: Sequence[Blob]) -> None:
        self._offsets = np.zeros(len(blobs) + 1, dtype=np.int32)
        np.cumsum([blob.size for blob in blobs], out=self._offsets[1:])
        self._buffer = pa.allocate_buffer(int(self._offsets[-1]), resizable=False)
        # an empty buffer has no address to view
        self._view = memoryview(self._buffer).cast("B") if self._buffer.size else memoryview(b"")
        for row, blob in enumerate(blobs):
            blob.copy_into(self._image(row))

    def _image(self, row: int) -> memoryview:
        return self._view[self._offsets[row] : self._offsets[row + 1]]

    def check(self, row: int, *, width: int, height: int, image_id: int, shard: str) -> ImageError | None:
        """Give what is wrong with an image, or None."""
        try:
            check_jpeg(self._image(row), width=width, height=height, image_id=image_id, shard=shard)
        except ImageError as error:
            return error
        return None

    def to_arrow(self, paths: pa.Array) -> pa.StructArray:
        """Give the column of the feature `datasets.Image`; the bytes are not copied again."""
        count = len(self._offsets) - 1
        data = pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(self._offsets), self._buffer])
        return pa.StructArray.from_arrays([data, paths], names=["bytes", "path"])
