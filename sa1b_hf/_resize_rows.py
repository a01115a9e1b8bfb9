"""Rows at another size: the JPEG encoded anew, and masks, boxes, areas and points with it.

Masks are resized by nearest neighbour. ``bbox`` and ``area`` are measured on the resized mask, in SA-1B's convention;
``point_coords`` and ``crop_box`` are scaled. ``width``, ``height`` and ``size`` are those of the result. Scores and ids
stay. A mask that is too thin to survive stays too, empty, so that what is aligned with the annotations stays aligned.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from . import rle
from .errors import ConfigError, RecordError
from .features import ANNOTATION_TYPE
from .images import decode_image
from .resizing import MAX_SIDE, Geometry

__all__ = ["RowResize"]

# Planes are decoded so many pixels at a time: a thousand masks at once would take a gigabyte.
_PIXELS_AT_ONCE: Final = 32 << 20
_MAX_QUALITY: Final = 100


@dataclass(frozen=True)
class RowResize:
    """Shrinks the images of a table whose longest side is longer than `longest`; others stay as they are.

    Attributes
    ----------
    longest
        Pixels.
    quality
        Of the JPEG, 1 to 100.

    Raises
    ------
    ConfigError
        A number is out of range.

    """

    longest: int
    quality: int = 90

    def __post_init__(self) -> None:
        for name, most in (("longest", MAX_SIDE), ("quality", _MAX_QUALITY)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ConfigError(f"resize: expected {name} of 1 to {most}, found {value!r}")

    def __call__(self, table: pa.Table) -> tuple[pa.Table, list[RecordError]]:
        """Resize.

        Parameters
        ----------
        table
            Rows of `sa1b_hf.features`, with ``width``, ``height`` and ``image_id``; other columns are passed on.

        Returns
        -------
        pa.Table
            The rows whose image and masks could be decoded, in the same schema.
        list of RecordError
            What is wrong with the others.

        """
        rows, errors = [], []
        for number in range(table.num_rows):
            row = table.slice(number, 1)
            try:
                rows.append(self._resize(row))
            except RecordError as error:
                image_id = row["image_id"][0].as_py()
                where = {**error.where, "image_id": image_id}
                text = (
                    error.message if error.message.startswith(f"sa_{image_id}") else f"sa_{image_id}: {error.message}"
                )
                errors.append(type(error)(text, reason=error.reason, shard=error.shard, **where))
        return (pa.concat_tables(rows) if rows else table.slice(0, 0)), errors

    def _resize(self, row: pa.Table) -> pa.Table:
        size = (row["height"][0].as_py(), row["width"][0].as_py())
        if max(size) <= self.longest:
            return row
        geometry = Geometry.fit(size, self.longest)
        names = row.schema.names
        columns: dict[str, Any] = {
            "height": pa.array([geometry.size[0]], row.schema.field("height").type),
            "width": pa.array([geometry.size[1]], row.schema.field("width").type),
        }
        if "image" in names:
            columns["image"] = self._image(row, geometry)
        if "annotations" in names:
            columns["annotations"] = _annotations(row["annotations"].combine_chunks(), geometry)
        for name, column in columns.items():
            row = row.set_column(names.index(name), row.schema.field(name), column)
        return row

    def _image(self, row: pa.Table, geometry: Geometry) -> pa.Array:
        image = row["image"][0]
        data = memoryview(image["bytes"].as_buffer())
        image_id = row["image_id"][0].as_py()
        pixels = decode_image(data, geometry.size, original_size=geometry.original_size, image_id=image_id)
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "JPEG", quality=self.quality)
        value = {"bytes": encoded.getvalue(), "path": image["path"].as_py()}
        return pa.array([value], row.schema.field("image").type)


def _annotations(lists: pa.ListArray, geometry: Geometry) -> pa.ListArray:
    values = lists.flatten()
    if not len(values):
        return lists
    segmentations, areas, boxes = _masks(values, geometry)
    points = pc.struct_field(values, "point_coords")
    replaced = {
        "segmentation": segmentations,
        "area": pa.array(areas, pa.int64()),
        "bbox": _as_lists(boxes),
        "point_coords": _scale_points(points, geometry),
        "crop_box": _as_lists(geometry.transform_boxes(_numbers(pc.struct_field(values, "crop_box")).reshape(-1, 4))),
    }
    fields = list(ANNOTATION_TYPE)
    arrays = [
        (replaced[field.name] if field.name in replaced else pc.struct_field(values, field.name)).cast(field.type)
        for field in fields
    ]
    resized = pa.StructArray.from_arrays(arrays, fields=fields)
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), resized, type=lists.type)


def _masks(values: pa.StructArray, geometry: Geometry) -> tuple[pa.Array, Any, Any]:
    """Give segmentations, areas and boxes of the resized masks."""
    height, width = geometry.size
    at_once = max(1, _PIXELS_AT_ONCE // (height * width))
    found: list[dict[str, Any]] = []
    for start in range(0, len(values), at_once):
        found += rle.encode(rle.decode(values.slice(start, at_once), geometry.size))
    segmentations = pa.array(found, ANNOTATION_TYPE.field("segmentation").type)
    return segmentations, rle.area(segmentations), rle.bbox(segmentations)


def _scale_points(points: pa.ListArray, geometry: Geometry) -> pa.ListArray:
    inner = points.flatten()
    moved = geometry.transform_points(_numbers(inner).reshape(-1, 2)).ravel()
    offsets = np.concatenate([[0], np.cumsum(np.asarray(pc.list_value_length(inner)))]).astype(np.int32)
    scaled = pa.ListArray.from_arrays(pa.array(offsets), pa.array(moved))
    outer = np.concatenate([[0], np.cumsum(np.asarray(pc.list_value_length(points)))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(outer), scaled)


def _numbers(lists: pa.ListArray) -> Any:
    return np.asarray(lists.flatten(), np.float64)


def _as_lists(boxes: Any) -> pa.ListArray:
    offsets = np.arange(0, boxes.size + 1, boxes.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(boxes, np.float64).ravel()))
