"""Masks of one image → the form to train on, at the size to train on, padded or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import rle
from ._memory import recycled_zeros
from .resizing import Geometry, pad_planes

__all__ = ["Layout", "Task", "lay_out"]

_AT_A_TIME = 16  # masks in temporary memory

Layout = Literal["stack", "label_map", "bits", "crops"]
"""How masks are given: see `sa1b_hf.masks.DecodeMasks`."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to make.

    Attributes
    ----------
    layout, dtype, mode, threads
        As in `sa1b_hf.masks.DecodeMasks`.
    geometry
        Of the resize.
    canvas
        (h, w) of the result: the resized image's size, or more.

    """

    layout: Layout
    dtype: str
    mode: Literal["nearest", "area"]
    threads: int
    geometry: Geometry
    canvas: tuple[int, int]


def lay_out(segmentations: Any, task: Task) -> dict[str, Any]:
    """Decode masks.

    Parameters
    ----------
    segmentations
        Masks in any form of `sa1b_hf.rle`, except a single one.
    task
        What to make of them.

    Returns
    -------
    dict
        ``masks``; and ``crop_boxes_xywh``, int64, shape (N, 4), with crops.

    Raises
    ------
    RLEError
        A mask is malformed.

    """
    size = task.geometry.size
    if task.layout == "label_map":
        return {"masks": pad_planes(rle.label_map(segmentations, size, dtype=task.dtype), task.canvas)}
    if task.layout == "bits":
        packed = rle.bits(segmentations, size, threads=task.threads)
        return {"masks": pad_planes(packed, (task.canvas[0], (task.canvas[1] + 7) // 8))}
    if task.layout == "crops":
        return _crops(segmentations, task)
    if task.canvas == size:
        return {"masks": _decode(segmentations, task, None)}
    return {"masks": _padded(segmentations, task)}


def _decode(segmentations: Any, task: Task, out: rle.MaskBuffer | None) -> NDArray[Any]:
    size, mode = task.geometry.size, task.mode
    return rle.decode(segmentations, size, dtype=task.dtype, mode=mode, out=out, threads=task.threads)


def _padded(segmentations: Any, task: Task) -> NDArray[Any]:
    padded = recycled_zeros((len(segmentations), *task.canvas), task.dtype)
    for target, (plane, rectangle) in zip(padded, _planes(segmentations, task), strict=True):
        target[rectangle] = plane[rectangle]
    return padded


def _crops(segmentations: Any, task: Task) -> dict[str, Any]:
    if task.geometry.size == task.geometry.original_size:
        crops = rle.crops(segmentations, dtype=task.dtype)
        return {"masks": list(crops), "crop_boxes_xywh": crops.boxes_xywh}
    boxes, masks = np.zeros((len(segmentations), 4), np.int64), []
    for box, (plane, rectangle) in zip(boxes, _planes(segmentations, task), strict=True):
        part, (rows, columns) = plane[rectangle], rectangle
        y, x = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
        if len(y):
            box[:] = columns.start + x[0], rows.start + y[0], x[-1] - x[0] + 1, y[-1] - y[0] + 1
            part = part[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
        masks.append(part.copy() if len(y) else np.zeros((0, 0), plane.dtype))
    return {"masks": masks, "crop_boxes_xywh": boxes}


def _planes(segmentations: Any, task: Task) -> Iterator[tuple[NDArray[Any], tuple[slice, slice]]]:
    """Decode a few masks at a time, into memory that is used again; each is valid until the next.

    With each come the rows and columns that hold all of it, and at most two pixels more on a side.
    """
    # this reads all masks, so that a malformed one is named by its place among all
    boxes = task.geometry.transform_boxes(rle.bbox(segmentations, convention="coco"))
    height, width = task.geometry.size
    buffer = rle.MaskBuffer() if task.mode == "nearest" else None
    for start in range(0, len(boxes), _AT_A_TIME):
        planes = _decode(segmentations[start : start + _AT_A_TIME], task, buffer)
        for plane, (x, y, w, h) in zip(planes, boxes[start : start + _AT_A_TIME], strict=True):
            rows = slice(max(int(y) - 1, 0), min(int(y + h) + 2, height))
            yield plane, (rows, slice(max(int(x) - 1, 0), min(int(x + w) + 2, width)))
