"""Decode every image, document and mask of a shard, and count what cannot be."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from .errors import ImageError, RecordError
from .faults import Faults
from .reader import ReadOptions, iter_batches
from .reports import PassReport
from .rle import validate

__all__ = ["deep_check"]


def deep_check(path: Path, shard: str) -> PassReport:
    """Decode a shard from its first byte to its last.

    Parameters
    ----------
    path
        Of the file.
    shard
        Its name.

    Returns
    -------
    PassReport
        ``delivered`` counts the images that are whole with all their masks; everything else is counted by reason
        (``jpeg-decode`` and the reasons of the masks among them), and the first faults are given in words.

    """
    report = PassReport()
    faults = Faults(shard, "warn", report)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for batch in iter_batches(path, shard, ReadOptions(on_error="warn"), report):
            rows = (batch.slice(row, 1) for row in range(batch.num_rows))
            for error in filter(None, pool.map(_check_row, rows)):
                report.delivered -= 1
                error.shard = shard
                faults.skip_image(error)
    return report


def _check_row(row: pa.RecordBatch) -> RecordError | None:
    try:
        _decode_jpeg(row)
        size = (row["height"][0].as_py(), row["width"][0].as_py())
        validate(row["annotations"].flatten(), size=size)
    except RecordError as error:
        return error
    return None


def _decode_jpeg(row: pa.RecordBatch) -> None:
    image: Any = row["image"][0]
    name = row["file_name"][0].as_py()
    try:
        with Image.open(io.BytesIO(image["bytes"].as_py()), formats=["JPEG"]) as picture:
            picture.load()
    except Exception as error:
        raise ImageError(
            f"{name}: the JPEG does not decode: {error}", reason="jpeg-decode", image_id=row["image_id"][0].as_py()
        ) from None
