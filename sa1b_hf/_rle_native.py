"""The kernels of the RLE codec in C, and the checks that make calling them safe.

The extension takes the addresses of arrays; every array is checked here for type, shape and order before its address is
taken, and kept alive until the call returns. Results and errors are those of `_rle_numpy`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _rle
from ._rle_numpy import note_size
from ._rle_packed import Packed
from ._rle_threads import run_together

__all__ = ["contains", "cut", "encode", "fill", "intersections", "pack_bits", "paint", "runs", "soft", "stats"]

_NO_JOB = (0,) * 6
_ENDS_SPARE = 16  # the kernel may write so many more


class _Job:
    """The arguments that every kernel begins with, and the arrays behind them."""

    __slots__ = ("_arrays", "arguments", "packed", "status")

    def __init__(self, packed: Packed) -> None:
        num_masks = len(packed)
        offsets = _checked(packed.offsets, np.int64, (num_masks + 1,))
        sizes = _checked(packed.sizes, np.int64, (num_masks, 2))
        text = _checked(packed.text, np.uint8, packed.text.shape)
        self.packed = packed
        self.status = np.zeros(num_masks, np.uint8)
        following = np.zeros(1, np.int64)
        self._arrays = (text, offsets, sizes, following)
        self.arguments = (
            *(_address(array) for array in (text, offsets, sizes)),
            num_masks,
            *(_address(array) for array in (self.status, following)),
        )

    def run(self, kernel: Any, *arguments: int, threads: int = 1) -> None:
        """Call a kernel, which its threads share, and raise for the first mask that failed."""
        run_together(kernel, (*self.arguments, *arguments), min(threads, len(self.packed)))
        self.check()

    def check(self) -> None:
        failed = self.status.nonzero()[0]
        if len(failed):
            if (self.status == 2).any():  # noqa: PLR2004 (NO_MEMORY in the C source)
                raise MemoryError
            self.packed.fail_malformed(int(failed[0]))


def stats(packed: Packed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """See `_rle_numpy.stats`."""
    areas, boxes = np.zeros(len(packed), np.int64), np.zeros((len(packed), 4), np.int64)
    _Job(packed).run(_rle.measure, _address(areas), _address(boxes))
    return areas, boxes


def runs(packed: Packed) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """See `_rle_numpy.runs`."""
    ends = np.empty(int(packed.offsets[-1] - packed.offsets[0]) + _ENDS_SPARE, np.uint32)
    first = np.zeros(len(packed) + 1, np.int64)
    _Job(packed).run(_rle.parse, _address(ends), _address(first))
    return ends[: first[-1]], first


def fill(
    packed: Packed,
    out: NDArray[np.uint8],
    notes: NDArray[np.int64] | None = None,
    threads: int = 1,
    *,
    dirty: bool = False,
) -> None:
    """See `_rle_numpy.fill`."""
    _checked(out, np.uint8, (len(packed), *out.shape[1:]), written=True)
    noted = _address_of_notes(notes, len(packed), out.shape[1])
    _Job(packed).run(_rle.planes, *out.shape[1:], _address(out), noted, dirty, threads=threads)


def soft(packed: Packed, out: NDArray[np.float32] | NDArray[np.uint8], threads: int = 1) -> None:
    """See `_rle_numpy.soft`."""
    as_float = out.dtype == np.float32
    _checked(out, np.float32 if as_float else np.uint8, (len(packed), *out.shape[1:]), written=True)
    _Job(packed).run(_rle.average, *out.shape[1:], _address(out), as_float, threads=threads)


def pack_bits(
    packed: Packed,
    out: NDArray[np.uint8],
    width: int,
    notes: NDArray[np.int64] | None = None,
    *,
    little: bool,
    threads: int = 1,
) -> None:
    """See `_rle_numpy.pack_bits`."""
    height = out.shape[1]
    _checked(out, np.uint8, (len(packed), height, (width + 7) // 8), written=True)
    noted = _address_of_notes(notes, len(packed), out.shape[1])
    _Job(packed).run(_rle.bits, height, width, _address(out), noted, little, threads=threads)


def paint(packed: Packed, order: NDArray[np.int64], out: NDArray[np.unsignedinteger]) -> None:
    """See `_rle_numpy.paint`."""
    _checked(order, np.int64, (len(order),))
    _checked(out, out.dtype, out.shape, written=True)
    itemsize = out.dtype.itemsize
    _Job(packed).run(_rle.labels, _address(order), len(order), *out.shape, _address(out), itemsize)


def cut(packed: Packed, boxes: NDArray[np.int64], offsets: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """See `_rle_numpy.cut`; the boxes are found again on the way."""
    del boxes
    _checked(offsets, np.int64, (len(packed) + 1,))
    _checked(out, np.uint8, (int(offsets[-1]),), written=True)
    _Job(packed).run(_rle.crops, _address(out), _address(offsets))


def contains(packed: Packed, points: NDArray[np.int64]) -> NDArray[np.bool_]:
    """See `_rle_numpy.contains`."""
    _checked(points, np.int64, (len(points), 2))
    inside = np.zeros((len(packed), len(points)), bool)
    _Job(packed).run(_rle.points, _address(points), len(points), _address(inside))
    return inside


def intersections(first: Packed, second: Packed) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """See `_rle_numpy.intersections`."""
    jobs = [_Job(first)] if second is first else [_Job(first), _Job(second)]
    areas = [np.zeros(len(job.packed), np.int64) for job in jobs]
    shared = np.zeros((len(first), len(second)), np.int64)
    other = jobs[-1].arguments if len(jobs) > 1 else _NO_JOB
    _rle.intersect(*jobs[0].arguments, *other, _address(areas[0]), _address(areas[-1]), _address(shared))
    for job in jobs:
        job.check()
    return areas[0], areas[-1], shared


def encode(masks: NDArray[np.uint8]) -> list[bytes]:
    """See `_rle_numpy.encode`."""
    height, width = masks.shape[1:]
    return [_rle.encode(_address(_checked(mask, np.uint8, (height, width))), height, width) for mask in masks]


def _checked(array: NDArray[Any], dtype: DTypeLike, shape: tuple[int, ...], *, written: bool = False) -> NDArray[Any]:
    in_order = array.flags.carray if written else array.flags.c_contiguous and array.flags.aligned
    if array.dtype != dtype or array.shape != shape or not in_order:
        raise TypeError(f"expected a C-contiguous array {shape} of {dtype}, found {array.shape} of {array.dtype}")
    return array


def _address_of_notes(notes: NDArray[np.int64] | None, num_planes: int, height: int) -> int:
    if notes is None:
        return 0
    return _address(_checked(notes, np.int64, (num_planes, note_size(height)), written=True))


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
