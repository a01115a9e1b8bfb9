"""A folder of files: each image as its JPEG and its document, as if the shard had been unpacked."""

from __future__ import annotations

import pyarrow as pa

from sa1b_hf._documents import iter_image_files
from sa1b_hf._parts import Drafts, RowRange

__all__ = ["FolderParts"]


class FolderParts:
    """Writes ``files/<shard>/``, with ``sa_1.jpg``, ``sa_1.json`` and so on.

    Parameters
    ----------
    drafts
        Where to.
    shard
        Name.

    """

    def __init__(self, drafts: Drafts, shard: str) -> None:
        self._folder = drafts.folder(f"files/{shard}")
        self._rows = RowRange()

    def write(self, group: pa.Table) -> None:
        """Write images."""
        for image in iter_image_files(group):
            if image.jpeg is not None:
                self._folder.write(f"{image.name}.jpg", image.jpeg)
            self._folder.write(f"{image.name}.json", image.document)
        self._rows = self._rows.add(group["image_id"])

    def finish(self) -> None:
        """Complete the folder."""
        self._folder.finish(self._rows)
