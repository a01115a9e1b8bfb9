"""Rows cut into groups that a stream reads in one go: by number and by weight, always at the same places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ._columns import list_lengths, to_numpy

__all__ = ["iter_groups", "row_weights"]

# What the numbers of a mask and of a row take, beside its text and the JPEG.
_MASK_BYTES: Final = 200
_ROW_BYTES: Final = 100


def iter_groups(tables: Iterable[pa.Table], max_rows: int, max_bytes: int) -> Iterator[pa.Table]:
    """Cut and join tables.

    Parameters
    ----------
    tables
        Rows, in any portions: where they are cut does not depend on it.
    max_rows, max_bytes
        Largest group; a single row may be heavier.

    Yields
    ------
    pyarrow.Table
        The same rows in the same order.

    """
    waiting: list[pa.Table] = []
    rows = weight = 0
    for table in tables:
        start = 0
        for row, row_weight in enumerate(row_weights(table).tolist()):
            if rows and (rows == max_rows or weight + row_weight > max_bytes):
                yield pa.concat_tables([*waiting, table.slice(start, row - start)])
                waiting, start, rows, weight = [], row, 0, 0
            rows += 1
            weight += row_weight
        if start < table.num_rows:
            waiting.append(table.slice(start))
    if rows:
        yield pa.concat_tables(waiting)


def row_weights(table: pa.Table) -> NDArray[np.int64]:
    """Give about how many bytes each row takes, shape (n,)."""
    weights = np.full(table.num_rows, _ROW_BYTES, np.int64)
    if "image" in table.schema.names:
        weights += to_numpy(_lengths(pc.struct_field(table["image"], "bytes"))).astype(np.int64)
    if "annotations" in table.schema.names:
        lists = table["annotations"].combine_chunks()
        counts = pc.struct_field(lists.flatten(), ["segmentation", "counts"])
        ends = np.concatenate([[0], np.cumsum(to_numpy(_lengths(counts)).astype(np.int64) + _MASK_BYTES)])
        weights += np.diff(ends[np.concatenate([[0], np.cumsum(list_lengths(lists))])])
    return weights


def _lengths(column: Any) -> Any:
    return pc.fill_null(pc.binary_length(column), 0)
