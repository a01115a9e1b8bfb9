"""Masks of any form → COCO run lengths.

The forms:

- COCO run lengths, as `sa1b_hf.rle` takes them,
- dense masks, shape (N, h, w), or (h, w) for one: bool; integers, of which all but 0 are inside; floating point, inside
  where over a threshold,
- one label map, shape (h, w), integers: mask i is where it is i + 1, up to the highest label,
- torch tensors of these shapes, and lists of (h, w) arrays.

``form=`` tells what an (h, w) array of integers is. Left to look, one of 0 and 1 is a mask, which is what it says as a
label map too, except that a map of nothing but 0 is taken for one empty mask; one with higher values is a label map;
0 and 255 alone could be either, and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from . import rle
from .errors import ConfigError

__all__ = ["MAX_LABELS", "Form", "as_rle"]

Form = Literal["auto", "rle", "dense", "label_map"]
"""What masks are given as."""

MAX_LABELS = 65_536
"""Highest label of a label map: more masks than any image may have."""

_MAP_NDIM, _STACK_NDIM = 2, 3


def as_rle(
    masks: Any, *, form: Form = "auto", threshold: float = 0.5, size: tuple[int, int] | None = None
) -> list[dict[str, Any]] | pa.Array:
    """Bring masks of any form to run lengths.

    Parameters
    ----------
    masks
        In any form of this module.
    form
        What they are; ``"auto"`` looks.
    threshold
        What floating point masks must exceed; 0.0 for logits.
    size
        (h, w) in pixels to bring them to, by nearest neighbour with the pixels of ``cv2.INTER_NEAREST``; None keeps
        each mask's own.

    Returns
    -------
    list of dict, or Arrow array
        Segmentations; what was given, if it is run lengths and keeps its size.

    Raises
    ------
    RLEError
        A mask is malformed.
    ConfigError
        The form cannot be told, or is not that of the array; a value is NaN or negative.

    """
    if form not in get_args(Form):
        raise ConfigError(f"form: expected one of {list(get_args(Form))}, found {form!r}")
    if _is_rle(masks):
        if form not in ("auto", "rle"):
            raise ConfigError(f"form: expected 'rle' for run lengths, found {form!r}")
        segmentations: Any = [masks] if isinstance(masks, Mapping) else masks
    else:
        segmentations = _encode(_as_array(masks), form, threshold)
    if size is None:
        return segmentations
    return _resize(segmentations, size)


def _is_rle(masks: Any) -> bool:
    if isinstance(masks, (Mapping, pa.Array, pa.ChunkedArray, pa.Scalar)):
        return True
    return isinstance(masks, (list, tuple)) and all(isinstance(mask, Mapping) for mask in masks)


def _as_array(masks: Any) -> NDArray[Any]:
    if isinstance(masks, (list, tuple)):
        planes = [_as_array(mask) for mask in masks]
        if len({plane.shape for plane in planes}) != 1:
            raise ConfigError("masks: expected arrays of one shape in the list; encode others with rle.encode")
        return np.stack(planes)
    if hasattr(masks, "detach"):  # a torch tensor, maybe on a device
        masks = masks.detach().cpu()
    return np.asarray(masks)


def _encode(array: NDArray[Any], form: Form, threshold: float) -> list[dict[str, Any]]:
    if array.ndim not in (_MAP_NDIM, _STACK_NDIM) or array.dtype.kind not in "biuf" or form == "rle":
        expected = "expected run lengths, or an array (N, h, w) or (h, w) of bool, integers or floating point"
        raise ConfigError(f"masks: {expected}, found {array.shape} of {array.dtype} with form={form!r}")
    if array.dtype.kind == "f":
        if np.isnan(array).any():
            raise ConfigError(f"masks: expected numbers, found NaN in an array {array.shape} of {array.dtype}")
        array = array > threshold
    elif array.dtype.kind == "i" and array.size and array.min() < 0:
        raise ConfigError(f"masks: expected integers of 0 or more, found {array.min()}; logits are floating point")
    if _is_label_map(array, form):
        return list(rle.encode(array, labels=True))
    return list(rle.encode(array if array.ndim == _STACK_NDIM else array[None])) if len(array) else []


def _is_label_map(array: NDArray[Any], form: Form) -> bool:
    is_labelled = _looks_labelled(array, form)
    if is_labelled and array.size and array.max() > MAX_LABELS:
        raise ConfigError(f"masks: expected labels of at most {MAX_LABELS}, found {array.max()}; number them from 1")
    return is_labelled


def _looks_labelled(array: NDArray[Any], form: Form) -> bool:
    if form == "label_map":
        if array.ndim != _MAP_NDIM or array.dtype.kind == "b":
            raise ConfigError(f"masks: expected a label map (h, w) of integers, found {array.shape} of {array.dtype}")
        return True
    if form == "dense" or array.ndim != _MAP_NDIM or array.dtype.kind == "b" or not array.size or array.max() <= 1:
        return False
    if array.max() == np.iinfo(np.uint8).max and np.isin(array, (0, 255)).all():
        raise ConfigError("masks: found 0 and 255 only: one mask or a label map? say form='dense' or 'label_map'")
    return True


def _resize(segmentations: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    rle.validate(segmentations)
    if isinstance(segmentations, (pa.Array, pa.ChunkedArray)):
        segmentations = segmentations.to_pylist()
    elif isinstance(segmentations, pa.Scalar):
        segmentations = segmentations.as_py()
    if segmentations and isinstance(segmentations[0], list):
        segmentations = [one for row in segmentations for one in row]
    # one at a time, so that a thousand masks do not take gigabytes
    return [rle.encode(rle.decode(one, size)) for one in segmentations]
