"""Rows as plain tars in WebDataset order: the JPEG of an image, and right behind it its document."""

from __future__ import annotations

import tarfile
from typing import Any, Final

import pyarrow as pa

from ._documents import iter_image_files
from ._parts import DraftFile, Drafts, RowRange

__all__ = ["WebDatasetParts"]

_BLOCK: Final = 512
_MODE: Final = 0o644


class WebDatasetParts:
    """Writes tars of about one length.

    Parameters
    ----------
    drafts
        Where to.
    name
        Final path of a part, with ``{:05d}`` for its number.
    part_bytes
        A part ends with the image that makes it as long as this.

    """

    def __init__(self, drafts: Drafts, name: str, part_bytes: int) -> None:
        self._drafts = drafts
        self._name = name
        self._part_bytes = part_bytes
        self._number = 0
        self._file: DraftFile | None = None
        self._rows = RowRange()

    def write(self, group: pa.Table) -> None:
        """Append images."""
        for number, image in enumerate(iter_image_files(group)):
            if self._file is None:
                self._file = self._drafts.file(self._name.format(self._number))
                self._number += 1
            if image.jpeg is not None:
                _append(self._file, f"{image.name}.jpg", image.jpeg)
            _append(self._file, f"{image.name}.json", image.document)
            self._rows = self._rows.add(group["image_id"].slice(number, 1))
            if self._file.tell() >= self._part_bytes:
                self.finish()

    def finish(self) -> None:
        """Complete the part that is open."""
        if self._file is not None:
            self._file.write(bytes(2 * _BLOCK))
            self._file.finish(self._rows)
            self._file, self._rows = None, RowRange()


def _append(file: DraftFile, name: str, data: Any) -> None:
    # Time, owner and group stay 0, so that equal images give equal tars.
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(data), _MODE
    file.write(header.tobuf(tarfile.USTAR_FORMAT))
    file.write(data)
    file.write(bytes(-len(data) % _BLOCK))
