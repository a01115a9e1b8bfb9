"""Pixels → masks, and masks joined into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _rle_kernels as backend
from ._rle_input import MAX_PIXELS, MAX_SIDE, Segmentations, pack
from ._rle_text import compress
from .errors import ConfigError

__all__ = ["encode", "merge"]


def encode(masks: ArrayLike, *, labels: bool | Sequence[int] = False, text: bool = True) -> Any:
    """Encode dense masks, or the regions of a label map, as COCO segmentations.

    Parameters
    ----------
    masks
        Shape (h, w) or (N, h, w), any memory order; bool or integers, of which all but 0 are foreground, or floating
        point numbers that are all 0 or 1. With ``labels``: one (h, w) map of integers.
    labels
        True for one mask per label of 1 to the highest in the map, empty ones included, so that `label_map` is undone
        where masks do not overlap; or the labels to take, in order.
    text
        Give ``counts`` as str, which JSON can hold; else as bytes, like pycocotools.

    Returns
    -------
    dict or list of dict
        ``{"size": [h, w], "counts": ...}`` for one (h, w) mask, a list of them otherwise; the same characters as
        ``pycocotools.mask.encode`` gives.

    Raises
    ------
    ConfigError
        The array has another shape or type, or no pixels.

    Examples
    --------
    >>> encode([[0, 1], [1, 0]])
    {'size': [2, 2], 'counts': '121'}

    """
    array = np.asarray(masks)
    single = array.ndim == 2 and labels is False  # noqa: PLR2004 (height and width)
    planes = array[None] if array.ndim == 2 else array  # noqa: PLR2004
    _check_shape(planes)
    counts = backend.kernels.encode(_as_bytes(planes)) if labels is False else _encode_labels(planes, labels)
    size = list(planes.shape[1:])
    result = [{"size": list(size), "counts": one.decode() if text else one} for one in counts]
    return result[0] if single else result


def merge(segmentations: Segmentations, *, intersect: bool = False, text: bool = True) -> dict[str, Any]:
    """Join masks into one.

    Parameters
    ----------
    segmentations
        At least one mask, in any form of this module, all of one size.
    intersect
        Keep the pixels that are in every mask, not those that are in any.
    text
        Give ``counts`` as str, which JSON can hold; else as bytes, like pycocotools.

    Returns
    -------
    dict
        ``{"size": [h, w], "counts": ...}``, as ``pycocotools.mask.merge`` gives.

    Raises
    ------
    RLEError
        A mask is malformed, or sizes differ.
    ConfigError
        There is no mask.

    """
    packed = pack(segmentations)
    if not len(packed):
        raise ConfigError("segmentations: expected at least one mask to merge, found none")
    height, width = packed.common_size("bring them to one size first")
    ends, starts = backend.kernels.runs(packed)
    needed = len(packed) if intersect else 1
    counts = compress(_merge_runs(ends.astype(np.int64), starts, needed, height * width))
    return {"size": [height, width], "counts": counts.decode() if text else counts}


def _merge_runs(ends: NDArray[np.int64], starts: NDArray[np.int64], needed: int, total: int) -> NDArray[np.int64]:
    """Run lengths of what at least ``needed`` masks cover: +1 where a mask begins, -1 where it stops, summed up."""
    run = np.arange(len(ends)) - np.repeat(starts[:-1], np.diff(starts))
    foreground = np.flatnonzero(run & 1)
    positions = np.concatenate([ends[foreground - 1], ends[foreground]])
    change = np.repeat([1, -1], len(foreground))
    order = np.argsort(positions, kind="stable")
    positions, depth = positions[order], np.cumsum(change[order])
    last_here = np.append(positions[1:] != positions[:-1], values=True)[: len(positions)]
    positions, covered = positions[last_here], depth[last_here] >= needed
    flips = positions[covered != np.concatenate([[False], covered[:-1]])]
    ends_merged = flips if len(flips) and flips[-1] == total else np.append(flips, total)
    return np.diff(ends_merged, prepend=0)


def _check_shape(planes: NDArray[Any]) -> None:
    height, width = planes.shape[1:] if planes.ndim == 3 else (0, 0)  # noqa: PLR2004 (masks, height, width)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
        expected = f"expected shape (h, w) or (N, h, w), sides of 1 to {MAX_SIDE} and at most {MAX_PIXELS} pixels"
        raise ConfigError(f"masks: {expected}, found shape {planes.shape}")


def _as_bytes(planes: NDArray[Any]) -> NDArray[np.uint8]:
    if planes.dtype.kind == "f":
        if not ((planes == 0) | (planes == 1)).all():
            raise ConfigError(f"masks: expected {planes.dtype} of 0 and 1 only; threshold first, such as masks > 0.5")
    elif planes.dtype.kind not in "biu":
        raise ConfigError(f"masks: expected bool, integers, or floating point 0 and 1, found {planes.dtype}")
    if planes.dtype.itemsize > 1:
        planes = planes != 0
    return np.ascontiguousarray(planes).view(np.uint8)


def _encode_labels(planes: NDArray[Any], labels: bool | Sequence[int]) -> list[bytes]:
    """Cut the map, column by column, where its label changes, and give each piece to its label."""
    if len(planes) != 1 or planes.dtype.kind not in "iu":
        raise ConfigError(f"masks: expected one (h, w) map of integers, found {planes.shape} of {planes.dtype}")
    flat = planes[0].T.ravel()
    wanted = np.arange(1, int(flat.max()) + 1) if isinstance(labels, bool) else np.asarray(labels)
    cuts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start, stop = np.append(0, cuts), np.append(cuts, flat.size)
    label = flat[start]
    order = np.argsort(label, kind="stable")
    begin, end = (np.searchsorted(label[order], wanted, side) for side in ("left", "right"))
    return [_compress_pieces(start[order[b:e]], stop[order[b:e]], flat.size) for b, e in zip(begin, end, strict=True)]


def _compress_pieces(start: NDArray[np.int64], stop: NDArray[np.int64], total: int) -> bytes:
    ends = np.column_stack([start, stop]).ravel()
    if not len(ends) or ends[-1] != total:
        ends = np.append(ends, total)
    return compress(np.diff(ends, prepend=0))
