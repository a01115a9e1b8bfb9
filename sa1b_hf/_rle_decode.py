"""Masks → pixels: whole planes of any size, packed bits, one label map, tight crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _rle_kernels as backend
from ._memory import recycled_zeros
from ._rle_input import MAX_SIDE, Segmentations, is_single, pack
from ._rle_output import Crops, MaskBuffer, check_bytes, checked_out, zeros
from ._rle_packed import Packed
from .errors import ConfigError

__all__ = ["bits", "crops", "decode", "label_map"]


def decode(
    segmentations: Segmentations,
    size: tuple[int, int] | None = None,
    *,
    dtype: DTypeLike | None = None,
    mode: Literal["nearest", "area"] = "nearest",
    out: NDArray[Any] | MaskBuffer | None = None,
    threads: int = 1,
) -> NDArray[Any]:
    """Decode masks into one array.

    Parameters
    ----------
    segmentations
        Masks in any form of this module.
    size
        Target (h, w) in pixels; the masks' own size by default, which must then be the same for all.
    dtype
        ``uint8`` (0 and 1, the default) or ``bool``; with ``mode="area"`` ``float32`` (0 to 1, the default) or
        ``uint8`` (0 to 255).
    mode
        ``"nearest"`` picks the pixels that ``cv2.INTER_NEAREST`` picks. ``"area"`` averages the mask over the area of
        each target pixel, exactly.
    out
        An array of the result's shape and dtype to write into, whatever it holds; or a `MaskBuffer` to use again,
        much faster (``mode="nearest"`` only).
    threads
        Threads to decode with; the GIL is released.

    Returns
    -------
    NDArray
        Shape (N, h, w), C order.

    Raises
    ------
    RLEError
        A mask is malformed; what ``out`` holds is then undefined.
    ConfigError
        An option makes no sense, or the result would be larger than `MAX_OUTPUT_BYTES`.

    Examples
    --------
    >>> decode({"size": [2, 3], "counts": [1, 2, 3]}).tolist()
    [[0, 1, 0], [1, 0, 0]]

    """
    packed = pack(segmentations)
    shape = (len(packed), *target_shape(packed, size))
    if mode == "area":
        result = _decode_area(packed, shape, dtype, out, threads)
    elif mode == "nearest":
        result = _decode_nearest(packed, shape, dtype, out, threads)
    else:
        raise ConfigError(f"mode: expected 'nearest' or 'area', found {mode!r}")
    return result[0] if is_single(segmentations) else result


def bits(
    segmentations: Segmentations,
    size: tuple[int, int] | None = None,
    *,
    bitorder: Literal["big", "little"] = "big",
    out: MaskBuffer | None = None,
    threads: int = 1,
) -> NDArray[np.uint8]:
    """Decode masks to eight pixels a byte, as ``np.packbits(decode(...), axis=-1, bitorder=bitorder)`` would.

    Parameters
    ----------
    segmentations, size, threads
        As for `decode`.
    bitorder
        Whether the leftmost of eight pixels is the highest (``"big"``) or the lowest bit.
    out
        A buffer to use again; see `MaskBuffer`.

    Returns
    -------
    NDArray[np.uint8]
        Shape (N, h, ceil(w / 8)).

    Raises
    ------
    RLEError, ConfigError
        As for `decode`.

    """
    if bitorder not in ("big", "little"):
        raise ConfigError(f"bitorder: expected 'big' or 'little', found {bitorder!r}")
    packed = pack(segmentations)
    height, width = target_shape(packed, size)
    shape = (len(packed), height, (width + 7) // 8)
    result, notes = (zeros(shape, np.uint8), None) if out is None else out.planes(shape)
    little = bitorder == "little"
    backend.kernels.pack_bits(packed, result, width, notes, little=little, threads=_threads(threads))
    if out is not None:
        result.flags.writeable = out.writeable
    return result[0] if is_single(segmentations) else result


def label_map(
    segmentations: Segmentations,
    size: tuple[int, int] | None = None,
    *,
    dtype: DTypeLike | None = None,
    order: Sequence[int] | None = None,
) -> NDArray[np.unsignedinteger]:
    """Paint all masks into one map: 0 for no mask, i + 1 for mask i.

    Parameters
    ----------
    segmentations, size
        As for `decode`.
    dtype
        uint8, uint16 or uint32; by default the smallest that can hold N.
    order
        Mask indices in the order of painting, later ones on top; by default from the largest area to the smallest,
        equal ones in the order given, so that small masks stay visible.

    Returns
    -------
    NDArray[np.unsignedinteger]
        Shape (h, w).

    Raises
    ------
    RLEError
        A mask is malformed.
    ConfigError
        N does not fit ``dtype``, or ``order`` has other numbers than mask indices.

    """
    packed = pack(segmentations)
    target = target_shape(packed, size)
    kind = np.dtype(_label_dtype(len(packed)) if dtype is None else dtype)
    if kind not in (np.uint8, np.uint16, np.uint32) or len(packed) > np.iinfo(kind).max:
        raise ConfigError(f"dtype: expected uint8, uint16 or uint32, able to hold {len(packed)}, found {kind}")
    areas, _ = backend.kernels.stats(packed)
    sequence = np.argsort(-areas, kind="stable") if order is None else np.asarray(order, np.int64)
    if sequence.ndim != 1 or ((sequence < 0) | (sequence >= len(packed))).any():
        raise ConfigError(f"order: expected mask indices of 0 to {len(packed) - 1}, found {sequence.tolist()!s:.80}")
    result = zeros(target, kind)
    backend.kernels.paint(packed, np.ascontiguousarray(sequence), result)
    return result


def crops(segmentations: Segmentations, *, dtype: DTypeLike = np.uint8) -> Crops:
    """Decode each mask inside its own tight box.

    Parameters
    ----------
    segmentations
        Masks in any form of this module; sizes may differ.
    dtype
        ``uint8`` (0 and 1) or ``bool``.

    Returns
    -------
    Crops
        2-D arrays of different shapes, and the boxes in the COCO convention. Empty masks give (0, 0) arrays.

    Raises
    ------
    RLEError
        A mask is malformed.
    ConfigError
        The crops would be larger than `MAX_OUTPUT_BYTES`, or ``dtype`` is another one.

    """
    kind = _mask_dtype(dtype)
    packed = pack(segmentations)
    _, boxes = backend.kernels.stats(packed)
    boxes_xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    offsets = np.zeros(len(packed) + 1, np.int64)
    np.cumsum(boxes_xywh[:, 2] * boxes_xywh[:, 3], out=offsets[1:])
    check_bytes((int(offsets[-1]),), np.uint8)
    data = np.zeros(int(offsets[-1]), np.uint8)
    backend.kernels.cut(packed, boxes, offsets, data)
    return Crops(data.view(kind), offsets, boxes_xywh)


def target_shape(packed: Packed, size: tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        return packed.common_size("give size= to bring all masks to one size")
    height, width = size
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ConfigError(f"size: expected (h, w) of 1 to {MAX_SIDE} pixels each, found {size}")
    return int(height), int(width)


def _threads(threads: int) -> int:
    if threads < 1:
        raise ConfigError(f"threads: expected 1 or more, found {threads}")
    return threads


def _mask_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    kind = np.dtype(dtype)
    if kind not in (np.uint8, np.bool_):
        raise ConfigError(f"dtype: expected uint8 or bool, found {kind}")
    return kind


def _label_dtype(num_labels: int) -> DTypeLike:
    return np.min_scalar_type(num_labels)


def _decode_nearest(packed: Packed, shape: tuple[int, int, int], dtype: Any, out: Any, threads: int) -> NDArray[Any]:
    kind = _mask_dtype(np.uint8 if dtype is None else dtype)
    if isinstance(out, MaskBuffer):
        planes, notes = out.planes(shape)
        backend.kernels.fill(packed, planes, notes, _threads(threads))
        planes.flags.writeable = out.writeable
        return planes.view(kind)
    if out is None:
        check_bytes(shape, kind)
        # one call clears all of it past the cache, which threads cannot do faster plane by plane
        planes, dirty = recycled_zeros(shape, kind), False
    else:
        planes, dirty = checked_out(out, shape, kind), True
    backend.kernels.fill(packed, planes.view(np.uint8), None, _threads(threads), dirty=dirty)
    return planes


def _decode_area(packed: Packed, shape: tuple[int, int, int], dtype: Any, out: Any, threads: int) -> NDArray[Any]:
    kind = np.dtype(np.float32 if dtype is None else dtype)
    if kind not in (np.float32, np.uint8):
        raise ConfigError(f"dtype: expected float32 or uint8 for mode='area', found {kind}")
    planes = zeros(shape, kind) if out is None else checked_out(out, shape, kind)
    if out is not None:
        planes[...] = 0
    backend.kernels.soft(packed, planes, _threads(threads))
    return planes
