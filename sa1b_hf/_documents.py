"""Rows back as the files they came from: a JPEG and a JSON document for each image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from .features import COLUMNS, row_to_document

__all__ = ["ImageFiles", "iter_image_files"]


class ImageFiles(NamedTuple):
    """One image.

    Attributes
    ----------
    name
        Of both files, without suffix: ``sa_1``.
    jpeg
        Bytes; None when the rows have no images.
    document
        JSON text in Meta's keys, and those of columns that were added.
    row
        Everything but the image, as Python values.

    """

    name: str
    jpeg: memoryview | None
    document: bytes
    row: dict[str, Any]


def iter_image_files(table: pa.Table, *, documents: bool = True) -> Iterator[ImageFiles]:
    """Give the files of each row; without `documents`, which take time, these are empty.

    Notes
    -----
    Documents have the values of the originals to the last bit, not their bytes: spelling and spaces may differ.

    """
    names = table.schema.names
    images = table["image"] if "image" in names else None
    plain = table.drop_columns(["image"]) if images is not None else table
    added = [name for name in names if name not in COLUMNS]
    for number in range(table.num_rows):
        (row,) = plain.slice(number, 1).to_pylist()
        jpeg = None if images is None else memoryview(images[number]["bytes"].as_buffer()).cast("B")
        text = _to_json({**row_to_document(row), **{name: row[name] for name in added}}) if documents else b""
        yield ImageFiles(f"sa_{row['image_id']}", jpeg, text, row)


def _to_json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
