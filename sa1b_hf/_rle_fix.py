"""Repair of masks that are not well-formed COCO run lengths, where only one repair is possible."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._rle_encode import merge
from ._rle_input import MAX_PIXELS, MAX_SIDE
from ._rle_packed import refuse
from .errors import RLEError

__all__ = ["fix"]

_MIN_POLYGON = 6  # numbers: three points


def fix(segmentations: Any, size: tuple[int, int] | None = None, *, text: bool = True) -> Any:
    """Repair masks, and rewrite them in the one form that every reader understands.

    Parameters
    ----------
    segmentations
        One segmentation or annotation, or a sequence of them. Besides well-formed masks these are taken:

        - ``counts`` as the text of a bytes object (``"b'...'"``), or with white space around it,
        - sizes of whole floating point numbers,
        - [w, h] instead of [h, w], where ``size`` tells,
        - no size at all, where ``size`` tells,
        - polygons: lists of x, y in pixels, within the image; several of them are joined.
    size
        (h, w) of the image in pixels.
    text
        Give ``counts`` as str, which JSON can hold; else as bytes, like pycocotools.

    Returns
    -------
    dict or list of dict
        ``{"size": [h, w], "counts": ...}`` without needless empty runs; one for one mapping.

    Raises
    ------
    RLEError
        A mask cannot be repaired; the message says which and why.

    Notes
    -----
    Polygons are rasterised by pycocotools, after every coordinate was checked.

    Examples
    --------
    >>> fix({"size": [2.0, 3.0], "counts": "b'132'"}, size=(3, 2))
    {'size': [3, 2], 'counts': '132'}

    """
    single = isinstance(segmentations, Mapping)
    masks = [segmentations] if single else list(segmentations)
    fixed = [_fix_one(index, mask, size, text=text) for index, mask in enumerate(masks)]
    return fixed[0] if single else fixed


def _fix_one(index: int, mask: Any, size: tuple[int, int] | None, *, text: bool) -> dict[str, Any]:
    annotation_id = mask.get("id") if isinstance(mask, Mapping) else None
    try:
        return merge(_rewrite(mask, size), text=text)
    except RLEError as error:
        message = error.message.removeprefix("mask 0: ")
        refuse(index, error.reason, message, annotation_id)


def _rewrite(mask: Any, size: tuple[int, int] | None) -> Any:
    if isinstance(mask, Mapping) and "segmentation" in mask:
        mask = mask["segmentation"]
    if isinstance(mask, Mapping) and "counts" in mask:
        return {"size": _fix_size(mask.get("size"), size), "counts": _fix_counts(mask["counts"])}
    if isinstance(mask, Sequence) and not isinstance(mask, (str, bytes)):
        return _rasterise(mask, size)
    return mask


def _fix_size(found: Any, size: tuple[int, int] | None) -> Any:
    if found is None:
        return size
    try:
        whole = [int(side) for side in found]
        whole = whole if whole == list(found) else found
    except (TypeError, ValueError, OverflowError):
        return found
    if size is not None and list(whole) != list(size):
        if list(whole) != [size[1], size[0]]:
            refuse(None, "size_mismatch", f"size: expected the image's {list(size)} or it swapped, found {whole}")
        return list(size)
    return whole


def _fix_counts(counts: Any) -> Any:
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    if not isinstance(counts, str):
        return counts
    counts = counts.strip()
    # No string of the format has a quote in it: chr(39) and chr(34) are below chr(48).
    if counts[:2] in ("b'", 'b"'):
        try:
            counts = ast.literal_eval(counts).decode("latin-1")
        except (ValueError, SyntaxError):
            refuse(None, "counts", "counts: expected the text of a bytes object, found one that Python cannot read")
    return counts


def _rasterise(polygons: Sequence[Any], size: tuple[int, int] | None) -> list[dict[str, Any]]:
    if size is None:
        refuse(None, "polygon", "polygon: the image's size=(h, w) is needed to rasterise it")
    height, width = size
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
        refuse(None, "size", f"size: expected (h, w) of 1 to {MAX_SIDE} pixels each, found {size}")
    if polygons and isinstance(polygons[0], (int, float)):
        polygons = [polygons]
    checked = [_check_polygon(polygon, height, width) for polygon in polygons]
    if not checked:
        refuse(None, "polygon", "polygon: expected at least one, found none")
    from pycocotools import mask as coco  # noqa: PLC0415 (slow to import, and needed for polygons only)

    return list(coco.frPyObjects(checked, height, width))


def _check_polygon(polygon: Any, height: int, width: int) -> list[float]:
    try:
        values = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        refuse(None, "polygon", "polygon: expected a flat list of numbers x, y, x, y, …, found something else")
    if values.ndim != 1 or len(values) < _MIN_POLYGON or len(values) % 2:
        expected = f"expected an even number of at least {_MIN_POLYGON} coordinates"
        refuse(None, "polygon", f"polygon: {expected}, found shape {values.shape}")
    inside = (values >= -1) & (values <= np.tile([width + 1, height + 1], len(values) // 2))
    if not inside.all():  # false for NaN too
        found = values[int(inside.argmin())]
        refuse(None, "polygon", f"polygon: expected coordinates inside {width}x{height} pixels (w x h), found {found}")
    coordinates: list[float] = values.tolist()
    return coordinates
