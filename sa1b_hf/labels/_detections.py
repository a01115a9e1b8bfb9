"""Things that a detector found in an image, and the masks that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa1b_hf import rle
from sa1b_hf.errors import ConfigError

__all__ = ["Detections", "box_iou", "box_masks", "match_detections"]

_BOX = 4


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image.

    Attributes
    ----------
    boxes_xyxy
        float64, shape (D, 4): left, top, right, bottom in pixels, right and bottom past the last pixel.
    label_ids
        int32, shape (D,): places among the names of the vocabulary, then among its background words.
    scores
        float32, shape (D,), over 0 to 1.
    masks
        Of a segmenter: D masks of the image's size, in any form of `sa1b_hf.rle`; None for boxes alone.

    Raises
    ------
    ConfigError
        The shapes do not fit each other, or a number is not finite.

    """

    boxes_xyxy: NDArray[np.float64]
    label_ids: NDArray[np.int32]
    scores: NDArray[np.float32]
    masks: Any = None

    def __post_init__(self) -> None:
        for name, dtype in (("boxes_xyxy", np.float64), ("label_ids", np.int32), ("scores", np.float32)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        count = len(self.scores)
        shapes = (self.boxes_xyxy.shape, self.label_ids.shape, self.scores.shape)
        if shapes != ((count, _BOX), (count,), (count,)):
            raise ConfigError(f"detections: expected shapes (D, 4), (D,) and (D,), found {shapes}")
        if self.masks is not None and len(self.masks) != count:
            raise ConfigError(f"detections: expected {count} masks, found {len(self.masks)}")
        if not (np.isfinite(self.boxes_xyxy).all() and np.isfinite(self.scores).all()):
            raise ConfigError("detections: expected finite boxes and scores, found NaN or infinity")

    def __len__(self) -> int:
        return len(self.scores)


def match_detections(
    masks: Any, size: tuple[int, int], found: Detections, *, min_iou: float, min_contained: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Find the masks that show what was found.

    Parameters
    ----------
    masks
        N masks of one image, in any form of `sa1b_hf.rle`.
    size
        (h, w) of the image in pixels.
    found
        What a detector found in it.
    min_iou
        Least IoU: of masks if `found` has some, else of boxes.
    min_contained
        Least part of the mask that lies in the detection's mask, or in its box.

    Returns
    -------
    masks, detections : NDArray[np.int64]
        Shape (P,): indices of all pairs that match; a mask can be in several, a detection too.
    iou : NDArray[np.float64]
        Shape (P,).

    Raises
    ------
    RLEError
        A mask is malformed or of another size.

    """
    if not len(masks) or not len(found):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    crowd = np.ones(len(found), bool)
    if found.masks is not None:
        iou, contained = rle.iou(masks, found.masks), rle.iou(masks, found.masks, iscrowd=crowd)
    else:
        boxes_xywh = rle.bbox(masks, convention="coco")
        tight_xyxy = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
        iou = box_iou(tight_xyxy, found.boxes_xyxy)
        # the same box comes with each of its labels
        boxes, which = np.unique(found.boxes_xyxy, axis=0, return_inverse=True)
        contained = rle.iou(masks, box_masks(boxes, size), iscrowd=crowd[: len(boxes)])[:, which.reshape(-1)]
    pairs = np.nonzero((iou >= min_iou) & (iou > 0) & (contained >= min_contained))
    return pairs[0], pairs[1], iou[pairs]


def box_iou(first_xyxy: ArrayLike, second_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every box of one list with every box of another.

    Parameters
    ----------
    first_xyxy, second_xyxy
        Shape (N, 4) and (M, 4): left, top, right, bottom in pixels.

    Returns
    -------
    NDArray[np.float64]
        Shape (N, M); 0 where both boxes are empty.

    """
    one, two = np.asarray(first_xyxy, np.float64)[:, None], np.asarray(second_xyxy, np.float64)[None, :]
    sides = np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(np.maximum(box[..., 2:] - box[..., :2], 0), axis=-1) for box in (one, two)]
    united = areas[0] + areas[1] - shared
    return np.asarray(np.divide(shared, united, out=np.zeros(shared.shape), where=united > 0))


def box_masks(boxes_xyxy: ArrayLike, size: tuple[int, int]) -> Sequence[dict[str, Any]]:
    """Draw boxes as run lengths, without a pixel.

    Parameters
    ----------
    boxes_xyxy
        Shape (D, 4): left, top, right, bottom in pixels; rounded to whole pixels and cut at the image.
    size
        (h, w) of the image in pixels.

    Returns
    -------
    list of dict
        ``{"size", "counts"}``, with ``counts`` as a list.

    """
    height, width = size
    limits = np.array([width, height, width, height])
    rounded = np.clip(np.floor(np.asarray(boxes_xyxy, np.float64) + 0.5), 0, limits).astype(np.int64)
    return [{"size": [height, width], "counts": _runs(box, height, width)} for box in rounded.tolist()]


def _runs(box_xyxy: list[int], height: int, width: int) -> list[int]:
    """Runs go down the columns: where the box is not of full height, each of its columns is one."""
    left, top, right, bottom = box_xyxy
    tall, wide = bottom - top, right - left
    if tall <= 0 or wide <= 0:
        return [height * width]
    if tall == height:
        runs = [left * height, wide * height]
    else:
        runs = [left * height + top, *([tall, height - tall] * wide)][:-1]
    rest = height * width - sum(runs)
    return [*runs, rest] if rest else runs
