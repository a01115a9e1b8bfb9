"""Arrow lists and columns seen as NumPy arrays, for `filters`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["Check", "Mask", "filter_lists", "first_failures", "keep_top", "list_lengths", "to_numpy"]

Mask = NDArray[np.bool_]
Check = tuple[str, Mask]
"""A reason to reject, and where it does not apply."""


def to_numpy(array: pa.Array) -> NDArray[Any]:
    """Give a column as NumPy; a null becomes NaN, which fails every comparison."""
    numbers: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return numbers


def first_failures(checks: Iterable[Check], length: int) -> tuple[Mask, dict[str, int]]:
    """Combine checks of `length` items; each rejection is counted for the first check that fails."""
    keep = np.ones(length, np.bool_)
    counts = {}
    for reason, passes in checks:
        before = np.count_nonzero(keep)
        keep &= passes
        counts[reason] = int(before - np.count_nonzero(keep))
    return keep, counts


def keep_top(keep: Mask, lengths: NDArray[np.int64], limit: int, key: NDArray[Any] | None) -> Mask:
    """Keep per list the `limit` survivors of the smallest key, of equal keys the first."""
    position = np.flatnonzero(keep)
    row = np.repeat(np.arange(len(lengths)), lengths)[position]
    survivors = np.bincount(row, minlength=len(lengths))
    if key is not None:
        # Only lists that lose something are worth sorting; the sort is stable.
        subset = np.flatnonzero(survivors[row] > limit)
        position[subset] = position[subset[np.lexsort((key[position[subset]], row[subset]))]]
    rank = np.arange(len(position)) - np.repeat(np.cumsum(survivors) - survivors, survivors)
    kept = np.zeros_like(keep)
    kept[position[rank < limit]] = True
    return kept


def filter_lists(annotations: Any, values: pa.StructArray, lengths: NDArray[np.int64], keep: Mask) -> Any:
    """Take the kept `values` out of lists of these lengths; the type and the null lists stay as they are."""
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    ends = np.concatenate([[0], np.cumsum(lengths)])
    large = pa.types.is_large_list(annotations.type)
    offsets = pa.array(kept_before[ends], pa.int64() if large else pa.int32())
    kind = pa.LargeListArray if large else pa.ListArray
    nulls = annotations.is_null() if annotations.null_count else None
    return kind.from_arrays(offsets, values.filter(pa.array(keep)), type=annotations.type, mask=nulls)


def list_lengths(lists: pa.Array) -> NDArray[np.int64]:
    """Give the lengths of lists, 0 for null."""
    return to_numpy(pc.list_value_length(lists).fill_null(0)).astype(np.int64)
