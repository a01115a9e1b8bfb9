"""What an example says about its masks and its geometry, besides the masks themselves."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from . import rle
from ._rows import Annotations
from .errors import ConfigError
from .images import image_size
from .resizing import Geometry

__all__ = ["check_mask_sizes", "describe", "original_size"]


def describe(annotations: Annotations, geometry: Geometry) -> dict[str, Any]:
    """Give everything about masks and geometry but the masks, as `sa1b_hf.masks.DecodeMasks` says."""
    count, masks = len(annotations), annotations.values
    boxes, areas = annotations.boxes(), annotations.numbers("area", np.int64)
    points, ids = annotations.points(), annotations.numbers("id", np.int64)
    scores = {name: annotations.numbers(name, np.float32) for name in ("predicted_iou", "stability_score")}
    boxes = rle.bbox(masks) if boxes is None else boxes
    points = np.full((count, 1, 2), np.nan) if points is None else points
    return {
        "boxes_xywh": geometry.transform_boxes(boxes).astype(np.float32),
        "points_xy": geometry.transform_points(points).astype(np.float32),
        "annotation_ids": np.full(count, -1) if ids is None else ids,
        "areas": rle.area(masks) if areas is None else areas,
        **{name: np.full(count, np.nan, np.float32) if one is None else one for name, one in scores.items()},
        "original_size": np.array(geometry.original_size),
        "size": np.array(geometry.size),
        "scale_xy": np.array(geometry.scale_xy),
    }


def original_size(row: Any, image: Any, annotations: Annotations) -> tuple[int, int]:
    """Find the image's (h, w): in the row, in the image, in its masks."""
    if row.get("height") is not None and row.get("width") is not None:
        return operator.index(row["height"]), operator.index(row["width"])
    if image is not None:
        return image_size(image)
    sizes = annotations.sizes()
    if not len(sizes):
        raise ConfigError("expected columns 'height' and 'width', an image or a mask: the image's size is not known")
    return int(sizes[0, 0]), int(sizes[0, 1])


def check_mask_sizes(annotations: Annotations, original_size: tuple[int, int]) -> None:
    """Refuse masks that are not as large as the image."""
    sizes = annotations.sizes()
    if len(sizes) != len(annotations) or (sizes != original_size).any():
        rle.validate(annotations.values, size=original_size)  # says which mask, and what is wrong with it
