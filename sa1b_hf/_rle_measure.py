"""What a mask measures, told from its runs: whether it is well-formed, its area and box, what it overlaps and holds."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _rle_kernels as backend
from ._rle_input import MAX_SIDE, Segmentations, is_single, pack
from .errors import ConfigError

__all__ = ["area", "bbox", "iou", "point", "validate"]


def validate(segmentations: Segmentations, size: tuple[int, int] | None = None) -> None:
    """Check that every mask is well-formed: what passes decodes exactly, here and in pycocotools.

    Parameters
    ----------
    segmentations
        Masks in any form of this module.
    size
        (h, w) of the image in pixels; every mask must have it.

    Raises
    ------
    RLEError
        For the first bad mask: a character outside of chr(48) to chr(111), a number cut off or of more than 7
        characters, a negative run, runs that do not sum to h*w, a size that is not the image's or over the caps.

    Examples
    --------
    >>> validate({"size": [2, 2], "counts": "112"})

    """
    backend.kernels.stats(pack(segmentations, size))


def area(segmentations: Segmentations) -> NDArray[np.int64]:
    """Count the pixels of each mask.

    Parameters
    ----------
    segmentations
        Masks in any form of this module; sizes may differ.

    Returns
    -------
    NDArray[np.int64]
        Shape (N,).

    Raises
    ------
    RLEError
        A mask is malformed.

    """
    areas: NDArray[np.int64]
    areas, _ = backend.kernels.stats(pack(segmentations))
    return areas[0] if is_single(segmentations) else areas


def bbox(segmentations: Segmentations, *, convention: Literal["sa1b", "coco"] = "sa1b") -> NDArray[np.float64]:
    """Compute the tight box of each mask.

    Parameters
    ----------
    segmentations
        Masks in any form of this module; sizes may differ.
    convention
        ``"sa1b"``: width and height are xmax - xmin and ymax - ymin, as in SA-1B's ``bbox``. ``"coco"``: they count
        pixels, one more, as ``pycocotools.mask.toBbox`` gives.

    Returns
    -------
    NDArray[np.float64]
        Shape (N, 4), XYWH in pixels; zeros for an empty mask.

    Raises
    ------
    RLEError
        A mask is malformed.

    """
    if convention not in ("sa1b", "coco"):
        raise ConfigError(f"convention: expected 'sa1b' or 'coco', found {convention!r}")
    _, boxes = backend.kernels.stats(pack(segmentations))
    boxes_xywh: NDArray[np.float64] = boxes.astype(np.float64)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    if convention == "sa1b":
        boxes_xywh[:, 2:] = np.maximum(boxes_xywh[:, 2:] - 1, 0)
    return boxes_xywh[0] if is_single(segmentations) else boxes_xywh


def iou(first: Segmentations, second: Segmentations, iscrowd: ArrayLike | None = None) -> NDArray[np.float64]:
    """Intersection over union of every mask of one list with every mask of another.

    Parameters
    ----------
    first, second
        N and M masks in any form of this module, all of one size.
    iscrowd
        Shape (M,), truth values: for a crowd the intersection is divided by the area of the mask of ``first`` alone.

    Returns
    -------
    NDArray[np.float64]
        Shape (N, M), as ``pycocotools.mask.iou`` gives; 0 where both masks are empty.

    Raises
    ------
    RLEError
        A mask is malformed, or sizes differ.
    ConfigError
        ``iscrowd`` has another length than ``second``.

    """
    one = pack(first)
    two = one if second is first else pack(second)
    size = one.common_size("bring them to one size first")
    if len(one) and len(two) and two.common_size("bring them to one size first") != size:
        two.fail(0, "mixed_sizes", f"size: expected {list(size)} as in the first list, found {two.sizes[0].tolist()}")
    crowd = np.zeros(len(two), bool) if iscrowd is None else np.asarray(iscrowd).astype(bool)
    if crowd.shape != (len(two),):
        raise ConfigError(f"iscrowd: expected shape ({len(two)},), found {crowd.shape}")
    area_one, area_two, shared = backend.kernels.intersections(one, two)
    united = area_one[:, None] + np.where(crowd, 0, area_two[None, :] - shared)
    return np.asarray(np.divide(shared, united, out=np.zeros(shared.shape), where=united > 0))


def point(segmentations: Segmentations, points_xy: ArrayLike) -> NDArray[np.bool_]:
    """Tell which points lie in which masks, without decoding a pixel.

    Parameters
    ----------
    segmentations
        Masks in any form of this module; sizes may differ.
    points_xy
        Shape (P, 2) or (2,), x and y in pixels; (0.0, 0.0) to just below (1.0, 1.0) is the first pixel.

    Returns
    -------
    NDArray[np.bool_]
        Shape (N, P); False for points outside of the image.

    Raises
    ------
    RLEError
        A mask is malformed.
    ConfigError
        The points have another shape, or are not finite.

    """
    points = np.asarray(points_xy, np.float64)
    shape = points.shape
    if shape[-1:] != (2,) or points.ndim > 2 or not np.isfinite(points).all():  # noqa: PLR2004 (x and y)
        raise ConfigError(f"points_xy: expected finite numbers of shape (P, 2) or (2,), found shape {shape}")
    pixels = np.ascontiguousarray(np.floor(np.clip(points, -1, MAX_SIDE + 1)).astype(np.int64).reshape(-1, 2))
    inside: NDArray[np.bool_] = backend.kernels.contains(pack(segmentations), pixels)
    if len(shape) == 1:
        inside = inside[:, 0]
    return inside[0] if is_single(segmentations) else inside
