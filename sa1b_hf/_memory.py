"""Large zeroed arrays, made of the memory of earlier ones that nobody holds any more.

The system zeroes every page of new memory as it is first touched, which takes several times as long as decoding masks
into it, and as zeroing memory that is there already. An array is its holder's alone until the last view of it is gone.
With what is idle, there is never more memory than was held at once before.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["MAX_IDLE_BYTES", "recycled", "recycled_zeros"]

MAX_IDLE_BYTES = 512 << 20
"""Most memory that is kept while no array uses it."""

_MIN_BYTES = 4 << 20  # what is smaller, malloc keeps by itself

# Only single operations that the interpreter does not interrupt are applied to these, because arrays are dropped at any
# time in any thread.
_idle: dict[int, NDArray[np.uint8]] = {}  # from oldest to newest
_held: dict[int, int] = {}  # bytes


class _Lease:
    """What an array has as its base: gives the memory back when the last view of it is gone."""

    __slots__ = ("__array_interface__", "_memory")
    # reached through the object, which may outlive the module's names
    most, most_held, idle, held = MAX_IDLE_BYTES, 0, _idle, _held

    def __init__(self, memory: NDArray[np.uint8], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._memory = memory
        address = memory.__array_interface__["data"][0]
        self.__array_interface__ = {"data": (address, False), "shape": shape, "typestr": dtype.str, "version": 3}
        self.held[id(self)] = memory.size
        _Lease.most_held = max(self.most_held, sum([*self.held.values()]))
        self._drop_idle()

    def __del__(self) -> None:
        self.held.pop(id(self), None)
        self.idle[id(self._memory)] = self._memory
        self._drop_idle()

    def _drop_idle(self) -> None:
        limit = min(self.most, self.most_held - sum([*self.held.values()]))
        while (keys := [*self.idle]) and sum(memory.size for memory in [*self.idle.values()]) > limit:
            self.idle.pop(keys[0], None)


def recycled_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Do as `numpy.zeros` does.

    Parameters
    ----------
    shape, dtype
        Of the array; no Python objects.

    Returns
    -------
    NDArray
        In C order and writable.

    """
    array, dirty = recycled(shape, dtype)
    if dirty:
        ctypes.memset(array.__array_interface__["data"][0], 0, array.nbytes)
    return array


def recycled(shape: tuple[int, ...], dtype: DTypeLike) -> tuple[NDArray[Any], bool]:
    """Do as `recycled_zeros`, but tell whether the array is still to be zeroed instead of doing it."""
    kind = np.dtype(dtype)
    nbytes = math.prod(shape) * kind.itemsize
    if nbytes < _MIN_BYTES or nbytes > _Lease.most:
        return np.zeros(shape, kind), False
    idle = _take(nbytes)
    memory = np.zeros(nbytes, np.uint8) if idle is None else idle
    return np.asarray(_Lease(memory, shape, kind)), idle is not None


def _take(nbytes: int) -> NDArray[np.uint8] | None:
    """Give idle memory of this size, or of a little more."""
    for key, memory in [*_idle.items()]:
        if nbytes <= memory.size <= nbytes + nbytes // 4 and _idle.pop(key, None) is not None:
            return memory
    return None
