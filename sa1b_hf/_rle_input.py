"""Any accepted form of masks → one `Packed`: the strings end to end, where each starts, and the sizes."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ._rle_columns import pack_column
from ._rle_packed import Packed, refuse
from ._rle_text import compress

__all__ = ["MAX_COUNTS", "MAX_PIXELS", "MAX_SIDE", "Packed", "Segmentations", "is_single", "pack", "refuse"]

MAX_PIXELS = 178_956_970
"""Pixels of one mask: Pillow's limit for an image, so that a mask is never larger than the image could be."""

MAX_SIDE = 65_535
"""Height or width of one mask in pixels: the limit of JPEG."""

MAX_COUNTS = 1 << 24
"""Characters in the ``counts`` of one mask: about ten times the worst SA-1B-sized noise."""

Segmentations: TypeAlias = Mapping[str, Any] | Iterable[Mapping[str, Any]] | pa.Array | pa.ChunkedArray | pa.Scalar
"""One segmentation or annotation, a sequence of them, or an Arrow column of them."""


def is_single(segmentations: Segmentations) -> bool:
    """Tell whether one mask was given instead of several."""
    return isinstance(segmentations, Mapping)


def pack(segmentations: Segmentations, size: tuple[int, int] | None = None) -> Packed:
    """Bring masks of any accepted form into one buffer; sizes are checked here, runs are left to the kernels.

    Parameters
    ----------
    segmentations
        A segmentation or annotation, several of them, or an Arrow array of them.
    size
        The image's (h, w): every mask must have it.

    Raises
    ------
    RLEError
        Something is missing, of the wrong type, over a cap, or of another size than the image.

    """
    if isinstance(segmentations, (pa.Array, pa.ChunkedArray, pa.Scalar)):
        packed = pack_column(segmentations)
    elif isinstance(segmentations, Mapping):
        packed = _pack_objects([segmentations])
    elif isinstance(segmentations, (str, bytes)) or not isinstance(segmentations, Iterable):
        found = type(segmentations).__name__
        refuse(None, "type", f"segmentations: expected mappings or an Arrow array, found {found}")
    else:
        packed = _pack_objects([*segmentations])
    check_sizes(packed, size)
    return packed


def check_sizes(packed: Packed, size: tuple[int, int] | None) -> None:
    """Refuse sizes over the caps and sizes that are not the image's."""
    sizes = packed.sizes[:1] if packed.size else packed.sizes
    height, width = sizes[:, 0], sizes[:, 1]
    within = (height >= 1) & (height <= MAX_SIDE) & (width >= 1) & (width <= MAX_SIDE)
    within &= np.where(within, height * width, 0) <= MAX_PIXELS
    if not within.all():
        index = int(within.argmin())
        expected = f"expected [height, width] of 1 to {MAX_SIDE} pixels each and at most {MAX_PIXELS} in all"
        packed.fail(index, "size", f"size: {expected}, found {sizes[index].tolist()}")
    if packed.offsets[-1] - packed.offsets[0] > MAX_COUNTS:
        length = np.diff(packed.offsets)
        index = int(length.argmax())
        if length[index] > MAX_COUNTS:
            packed.fail(index, "counts", f"counts: expected at most {MAX_COUNTS} characters, found {length[index]}")
    if size is not None:
        equal = (height == size[0]) & (width == size[1])
        if not equal.all():
            index = int(equal.argmin())
            found = f"found {sizes[index].tolist()}"
            advice = "; `fix` repairs swapped sizes" if (width[index], height[index]) == tuple(size) else ""
            packed.fail(index, "size_mismatch", f"size: expected the image's {list(size)}, {found}{advice}")


def _pack_objects(masks: list[Any]) -> Packed:
    quick = _pack_plain(masks)
    return _pack_any(masks) if quick is None else quick


def _pack_plain(masks: list[Any]) -> Packed | None:
    """Pack masks that are what they should be, with a handful of calls for all of them; None for any others."""
    try:
        ids = None
        if masks and "segmentation" in masks[0]:
            ids = [mask.get("id") for mask in masks]
            masks = [mask["segmentation"] for mask in masks]
        counts = [mask["counts"] for mask in masks]
        text = "".join(counts)
        size, sizes = _read_sizes([mask["size"] for mask in masks])
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
        return None
    if sizes.dtype.kind != "i" or sizes.shape != (len(masks), 2) or not text.isascii():
        return None
    return Packed(_bytes_array(text.encode()), _offsets(counts), sizes.astype(np.int64, copy=False), ids, size)


def _read_sizes(sizes: list[Any]) -> tuple[tuple[int, int] | None, NDArray[Any]]:
    """Give the size that all masks have, where that is seen at a glance, and the sizes of all."""
    alike = bool(sizes) and isinstance(sizes[0], (list, tuple)) and sizes.count(sizes[0]) == len(sizes)
    if alike and {*map(type, itertools.chain.from_iterable(sizes))} == {int}:
        height, width = sizes[0]
        array = np.empty((len(sizes), 2), np.int64)
        array[:] = height, width
        return (height, width), array
    return None, np.array(sizes)


def _pack_any(masks: list[Any]) -> Packed:
    """Pack masks one by one, naming the first that cannot be."""
    ids = [mask.get("id") if isinstance(mask, Mapping) else None for mask in masks]
    counts, sizes = [], np.zeros((len(masks), 2), np.int64)
    for index, mask in enumerate(masks):
        try:
            sizes[index], one = _read_mask(mask)
        except _Unreadable as fault:
            refuse(index, fault.reason, str(fault), ids[index])
        counts.append(one)
    return Packed(_bytes_array(b"".join(counts)), _offsets(counts), sizes, ids)


class _Unreadable(Exception):  # noqa: N818 (never leaves this module)
    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


def _read_mask(mask: Any) -> tuple[tuple[int, int], bytes]:
    if isinstance(mask, Mapping) and "segmentation" in mask:
        mask = mask["segmentation"]
    if not isinstance(mask, Mapping) or not {"size", "counts"} <= mask.keys():
        found = f"keys {sorted(map(str, mask))}" if isinstance(mask, Mapping) else type(mask).__name__
        raise _Unreadable("type", f"expected a mapping with 'size' and 'counts', found {found}")
    return _read_size(mask["size"]), _read_counts(mask["counts"])


def _read_size(size: Any) -> tuple[int, int]:
    try:
        height, width = map(operator.index, size)
        np.array([height, width], np.int64)
    except (TypeError, ValueError, OverflowError):
        raise _Unreadable("size", f"size: expected two integers [height, width], found {size!r:.80}") from None
    return height, width


def _read_counts(counts: Any) -> bytes:
    if isinstance(counts, str):
        return counts.encode("utf-8", "surrogatepass")
    if isinstance(counts, (bytes, bytearray, memoryview)):
        return bytes(counts)
    if isinstance(counts, (list, tuple, np.ndarray)):
        return _read_runs(counts)
    raise _Unreadable("counts", f"counts: expected str, bytes or run lengths, found {type(counts).__name__}")


def _read_runs(counts: Any) -> bytes:
    """Bring uncompressed counts into the string form, so that one path decodes both."""
    try:
        runs = np.array([operator.index(run) for run in counts], np.int64)
    except (TypeError, OverflowError):
        raise _Unreadable("counts", "counts: expected integer run lengths, found something else") from None
    outside = (runs < 0) | (runs > MAX_PIXELS)
    if outside.any():
        index = int(outside.argmax())
        reason, run = ("negative" if runs[index] < 0 else "too_long"), f"run {index}"
        raise _Unreadable(reason, f"counts: {run}: expected a length of 0 to {MAX_PIXELS}, found {runs[index]}")
    return compress(runs)


def _bytes_array(text: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(text, np.uint8)


def _offsets(counts: Sequence[str] | Sequence[bytes]) -> NDArray[np.int64]:
    return np.fromiter(itertools.accumulate(map(len, counts), initial=0), np.int64, len(counts) + 1)
