"""Numbers that sum up the masks of each image, from the columns of a row group."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ._columns import list_lengths, to_numpy

__all__ = ["SUMMARIES", "summarise"]

SUMMARIES: Final = {
    "num_masks": pa.int32(),
    "area_sum": pa.int64(),
    "area_min": pa.int64(),
    "area_max": pa.int64(),
    "predicted_iou_mean": pa.float32(),
    "predicted_iou_min": pa.float32(),
    "stability_score_mean": pa.float32(),
    "stability_score_min": pa.float32(),
}
"""Columns of an index that sum up the masks of an image; null, but for ``num_masks``, where it has none."""

_REDUCTIONS: Final[dict[str, Any]] = {"sum": np.add, "mean": np.add, "min": np.minimum, "max": np.maximum}


def summarise(lists: pa.ListArray) -> dict[str, pa.Array]:
    """Sum up lists of annotations.

    Parameters
    ----------
    lists
        Of structs with ``area``, ``predicted_iou`` and ``stability_score``.

    Returns
    -------
    dict of str to pyarrow.Array
        By the names of `SUMMARIES`, one value a list.

    """
    lengths = list_lengths(lists)
    found = {"num_masks": pa.array(lengths, SUMMARIES["num_masks"])}
    values = lists.flatten()
    for name, kind in SUMMARIES.items():
        if name != "num_masks":
            column, _, how = name.rpartition("_")
            numbers = to_numpy(pc.struct_field(values, column))
            found[name] = pa.array(_reduce(numbers, lengths, how), mask=lengths == 0).cast(kind)
    return found


def _reduce(numbers: NDArray[Any], lengths: NDArray[np.int64], how: str) -> NDArray[Any]:
    """Reduce runs of numbers; those of length 0 give 0."""
    has_any = lengths > 0
    reduced = np.zeros(len(lengths), numbers.dtype)
    if has_any.any():
        starts = (np.cumsum(lengths) - lengths)[has_any]
        reduced[has_any] = _REDUCTIONS[how].reduceat(numbers, starts)
        if how == "mean":
            reduced[has_any] /= lengths[has_any]
    return reduced
