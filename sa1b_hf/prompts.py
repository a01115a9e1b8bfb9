"""Prompts to train a promptable model with: points inside masks, and boxes as a person would draw them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import rle
from .errors import ConfigError

__all__ = ["jitter_boxes", "sample_points"]


def sample_points(
    masks: Any, num_points: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw points inside masks, each pixel as likely as the other, with replacement.

    Parameters
    ----------
    masks
        Shape (N, h, w), bool or numbers of which those over 0 are inside; or masks in any form of `sa1b_hf.rle`, except
        a single one.
    num_points
        Points for each mask.
    rng
        Random numbers.

    Returns
    -------
    points_xy : NDArray[np.float32]
        Shape (N, num_points, 2), centres of pixels: x = column + 0.5, y = row + 0.5; zeros for an empty mask.
    labels : NDArray[np.int64]
        Shape (N, num_points), in SAM's terms: 1 for a point inside, -1 for none.

    Raises
    ------
    RLEError
        A mask is malformed.
    ConfigError
        The array has another shape, or `num_points` is below 1.

    Examples
    --------
    >>> points, labels = sample_points([{"size": [2, 3], "counts": [3, 1, 2]}], 1, np.random.default_rng(0))
    >>> points.tolist(), labels.tolist()
    ([[[1.5, 1.5]]], [[1]])

    """
    if num_points < 1:
        raise ConfigError(f"num_points: expected 1 or more, found {num_points}")
    if isinstance(masks, np.ndarray):
        if masks.ndim != 3:  # noqa: PLR2004 (masks, height, width)
            raise ConfigError(f"masks: expected shape (N, h, w), found {masks.shape}")
        parts, corners_xy = list(masks > 0), np.zeros((len(masks), 2), np.int64)
    else:
        crops = rle.crops(masks, dtype=bool)
        parts, corners_xy = list(crops), crops.boxes_xywh[:, :2]
    points_xy = np.zeros((len(parts), num_points, 2), np.float32)
    labels = np.full((len(parts), num_points), -1)
    for index, (part, corner) in enumerate(zip(parts, corners_xy, strict=True)):
        inside = np.flatnonzero(part)
        if len(inside):
            rows, columns = np.divmod(inside[rng.integers(len(inside), size=num_points)], part.shape[1])
            points_xy[index] = np.stack([columns, rows], axis=1) + corner + 0.5
            labels[index] = 1
    return points_xy, labels


def jitter_boxes(
    boxes_xywh: ArrayLike,
    rng: np.random.Generator,
    *,
    size: tuple[int, int] | None = None,
    std: float = 0.1,
    max_shift: float = 20.0,
) -> NDArray[np.float32]:
    """Move the sides of boxes at random.

    Parameters
    ----------
    boxes_xywh
        Shape (N, 4), XYWH in pixels.
    rng
        Random numbers.
    size
        (h, w) of the image in pixels, which boxes must not leave; None for no limit.
    std
        Standard deviation of each side's shift, as a share of the box's width (left, right) or height (top, bottom).
    max_shift
        Largest shift in pixels.

    Returns
    -------
    NDArray[np.float32]
        Shape (N, 4), XYWH; never of negative width or height.

    Raises
    ------
    ConfigError
        The boxes have another shape, or an option is negative.

    Notes
    -----
    The default values are those that the Segment Anything paper (arXiv 2304.02643, appendix A) trained with.

    """
    boxes = np.asarray(boxes_xywh, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:  # noqa: PLR2004 (boxes, XYWH)
        raise ConfigError(f"boxes_xywh: expected shape (N, 4), found {boxes.shape}")
    if not (std >= 0 and max_shift >= 0):
        raise ConfigError(f"std and max_shift: expected 0 or more, found {std} and {max_shift}")
    corners_xyxy = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    shift = rng.standard_normal(boxes.shape) * std * np.tile(boxes[:, 2:], 2)
    corners_xyxy += np.clip(shift, -max_shift, max_shift)
    if size is not None:
        corners_xyxy = np.clip(corners_xyxy, 0, [size[1], size[0]] * 2)
    # sides may have crossed
    low, high = (
        np.minimum(corners_xyxy[:, :2], corners_xyxy[:, 2:]),
        np.maximum(corners_xyxy[:, :2], corners_xyxy[:, 2:]),
    )
    return np.concatenate([low, high - low], axis=1).astype(np.float32)
