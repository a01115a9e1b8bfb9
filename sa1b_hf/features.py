"""The one schema of the package: its `datasets` features, their Arrow twin, and the way back to Meta's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from datasets import Features, Image, Value

from .errors import ConfigError

__all__ = ["ANNOTATION_TYPE", "COLUMNS", "DOCUMENT_SCHEMA", "row_to_document", "sa1b_features"]

COLUMNS = ("image", "image_id", "width", "height", "file_name", "shard", "annotations")

_XYWH = pa.list_(pa.float64())

ANNOTATION_TYPE = pa.struct(
    [
        ("id", pa.int64()),
        ("segmentation", pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])),
        ("bbox", _XYWH),
        ("area", pa.int64()),
        ("predicted_iou", pa.float64()),
        ("stability_score", pa.float64()),
        ("point_coords", pa.list_(pa.list_(pa.float64()))),
        ("crop_box", _XYWH),
    ]
)
"""Arrow type of one annotation, in Meta's keys; `size` is (h, w) in pixels, boxes are XYWH in pixels."""

DOCUMENT_SCHEMA = pa.schema(
    [
        (
            "image",
            pa.struct(
                [("image_id", pa.int64()), ("width", pa.int32()), ("height", pa.int32()), ("file_name", pa.string())]
            ),
        ),
        ("annotations", pa.list_(ANNOTATION_TYPE)),
    ]
)
"""Arrow schema of one of Meta's JSON documents."""


def _annotation_feature() -> Any:
    # A one-element list spells "list of" on every version of `datasets` (3.6 has no `List`).
    return [
        {
            "id": Value("int64"),
            "segmentation": {"size": [Value("int32")], "counts": Value("string")},
            "bbox": [Value("float64")],
            "area": Value("int64"),
            "predicted_iou": Value("float64"),
            "stability_score": Value("float64"),
            "point_coords": [[Value("float64")]],
            "crop_box": [Value("float64")],
        }
    ]


def sa1b_features(columns: Sequence[str] | None = None) -> Features:
    """Give the features of an example.

    Parameters
    ----------
    columns
        Names from `COLUMNS`, in any order; all of them by default. The order of `COLUMNS` is kept.

    Returns
    -------
    datasets.Features
        ``image`` (JPEG bytes and path), ``image_id`` int64, ``width`` and ``height`` int32 in pixels, ``file_name``,
        ``shard`` (``"sa_000020"``), and ``annotations``, a list of structs with Meta's keys: ``id`` int64;
        ``segmentation`` with ``size`` (h, w) int32 and ``counts``, COCO compressed RLE text; ``bbox`` and ``crop_box``
        XYWH in pixels, float64; ``area`` int64 in pixels; ``predicted_iou`` and ``stability_score`` float64;
        ``point_coords`` [[x, y]] in pixels, float64.

    Raises
    ------
    ConfigError
        A name is not a column.

    Notes
    -----
    A box's w and h are xmax-xmin and ymax-ymin, one less than the COCO convention gives.

    """
    wanted = set(COLUMNS if columns is None else columns)
    if unknown := sorted(wanted - set(COLUMNS)):
        raise ConfigError(f"columns: expected names from {list(COLUMNS)}, found {unknown}")
    if not wanted:
        raise ConfigError(f"columns: expected at least one of {list(COLUMNS)}, found none")
    features = {
        "image": Image(),
        "image_id": Value("int64"),
        "width": Value("int32"),
        "height": Value("int32"),
        "file_name": Value("string"),
        "shard": Value("string"),
        "annotations": _annotation_feature(),
    }
    return Features({name: features[name] for name in COLUMNS if name in wanted})


def row_to_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give back the JSON document that a row came from.

    Parameters
    ----------
    row
        An example with at least ``image_id``, ``width``, ``height``, ``file_name`` and ``annotations``.

    Returns
    -------
    dict
        ``{"image": {...}, "annotations": [...]}``, equal to the original document as Python values.

    Examples
    --------
    >>> row = {"image_id": 1, "width": 4, "height": 3, "file_name": "sa_1.jpg", "annotations": []}
    >>> row_to_document(row)["image"]["file_name"]
    'sa_1.jpg'

    """
    image = {key: row[key] for key in ("image_id", "width", "height", "file_name")}
    return {"image": image, "annotations": [dict(annotation) for annotation in row["annotations"]]}
