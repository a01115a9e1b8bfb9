"""What decoding writes into: arrays of checked size, a buffer that is used again, ragged crops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._memory import recycled_zeros
from ._rle_numpy import clear, note_size
from .errors import ConfigError

__all__ = ["MAX_OUTPUT_BYTES", "Crops", "MaskBuffer", "check_bytes", "checked_out", "zeros"]

MAX_OUTPUT_BYTES = 1 << 33
"""Bytes that one call may return."""


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """Masks cut to their tight boxes; a sequence of 2-D views into one flat array.

    Attributes
    ----------
    data
        uint8 or bool, the crops one after another, each in C order.
    offsets
        int64, shape (n + 1,): crop i is ``data[offsets[i]:offsets[i + 1]]``.
    boxes_xywh
        int64, shape (n, 4): column and row of each crop's first pixel, its width and height in pixels; all zero for
        an empty mask.

    """

    data: NDArray[Any]
    offsets: NDArray[np.int64]
    boxes_xywh: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes_xywh)

    def __getitem__(self, index: int) -> NDArray[Any]:
        index = range(len(self))[index]
        width, height = self.boxes_xywh[index, 2:]
        return self.data[self.offsets[index] : self.offsets[index + 1]].reshape(height, width)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[index] for index in range(len(self)))


class MaskBuffer:
    """Memory for `decode` to use again: what one call wrote is cleared by the next, and nothing else is touched.

    Several times faster than fresh memory for whole images. Results are views of the buffer, **valid until the next
    call**, and read-only, because a pixel that somebody else sets is not seen by the clearing.

    Parameters
    ----------
    writeable
        Give writable views; the caller then sets back what it changes, or calls `reset`.

    Examples
    --------
    >>> from sa1b_hf import rle
    >>> buffer = rle.MaskBuffer()
    >>> rle.decode({"size": [2, 2], "counts": [1, 2, 1]}, out=buffer).tolist()
    [[0, 1], [1, 0]]

    """

    def __init__(self, *, writeable: bool = False) -> None:
        self.writeable = writeable
        self._planes = np.zeros((0, 0, 0), np.uint8)
        self._notes = np.zeros((0, note_size(0)), np.int64)

    def reset(self) -> None:
        """Zero the whole buffer."""
        self._planes[...] = 0
        self._notes[:] = 0

    def planes(self, shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Give planes of this shape, and notes of where they are not zero, for the decoder to keep."""
        num_planes = shape[0]
        if self._planes.shape[1:] != shape[1:]:
            clear(self._planes, self._notes)
            memory = self._planes.reshape(-1)
            capacity = memory.size // max(1, shape[1] * shape[2])
            self._planes = memory[: capacity * shape[1] * shape[2]].reshape(capacity, *shape[1:])
            self._notes = np.zeros((capacity, note_size(shape[1])), np.int64)
        if num_planes > len(self._planes):
            self._planes = zeros(shape, np.uint8)
            self._notes = np.zeros((num_planes, note_size(shape[1])), np.int64)
        return self._planes[:num_planes], self._notes[:num_planes]


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Give zeroed memory, or say that it would be too much."""
    check_bytes(shape, dtype)
    return recycled_zeros(shape, dtype)


def check_bytes(shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """Refuse results over `MAX_OUTPUT_BYTES`."""
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    if nbytes > MAX_OUTPUT_BYTES:
        found = f"found shape {shape} of {np.dtype(dtype)}, {nbytes} bytes"
        advice = "decode fewer masks at a time, to a smaller size=, or as bits, crops or a label map"
        raise ConfigError(f"expected an output of at most {MAX_OUTPUT_BYTES} bytes, {found}; {advice}")


def checked_out(out: Any, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Check that an array can take the result."""
    fits = isinstance(out, np.ndarray) and out.shape == shape and out.dtype == np.dtype(dtype)
    if not fits or not out.flags.c_contiguous or not out.flags.writeable:
        found = f"{out.shape} of {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
        if fits:
            found += ", not C-contiguous or not writable"
        raise ConfigError(f"out: expected a writable C-contiguous array {shape} of {np.dtype(dtype)}, found {found}")
    array: NDArray[Any] = out
    return array
