"""The column ``labels``, and those beside it, read into flat arrays without a Python object per mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sa1b_hf.errors import ConfigError

from .base import ABSTAINED

__all__ = ["LabelArrays", "join_labels", "read_annotation_ids", "read_labels", "row_starts", "single_array"]

_NAMES = ("annotation_id", "label_ids", "scores", "margin", "entropy")


@dataclass(frozen=True, slots=True, eq=False)
class LabelArrays:
    """The best label of every mask of a table, in order.

    Attributes
    ----------
    annotation_ids
        int64, shape (N,).
    label_ids
        int32, shape (N,); -1 where the labeler abstained.
    scores, margins, entropies
        float32, shape (N,); NaN where unknown.
    row_starts
        int64, shape (rows + 1,): the masks of row r are ``row_starts[r]`` to ``row_starts[r + 1] - 1``.

    """

    annotation_ids: NDArray[np.int64]
    label_ids: NDArray[np.int32]
    scores: NDArray[np.float32]
    margins: NDArray[np.float32]
    entropies: NDArray[np.float32]
    row_starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label_ids)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each mask, int64, shape (N,)."""
        return np.repeat(np.arange(len(self.row_starts) - 1), np.diff(self.row_starts))


def read_labels(table: Any, column: str = "labels") -> LabelArrays:
    """Read the best label of every mask.

    Parameters
    ----------
    table
        Arrow table or record batch.
    column
        Name of the column of labels.

    Returns
    -------
    LabelArrays

    Raises
    ------
    ConfigError
        The table has no such column, it is not one of labels, or a row of it is null.

    """
    if column not in table.schema.names:
        raise ConfigError(f"expected a column {column!r} of labels, found {table.schema.names}")
    lists = single_array(table.column(column))
    structs = lists.flatten() if pa.types.is_list(lists.type) or pa.types.is_large_list(lists.type) else lists
    names = {field.name for field in structs.type} if pa.types.is_struct(structs.type) else set()
    if not names.issuperset(_NAMES) or lists.null_count:
        raise ConfigError(f"{column}: expected lists of structs with {list(_NAMES)}, none null, found {lists.type}")
    fields = dict(zip([field.name for field in structs.type], structs.flatten(), strict=True))
    return LabelArrays(
        _numbers(fields["annotation_id"], np.int64),
        _numbers(pc.fill_null(_first(fields["label_ids"]), ABSTAINED), np.int32),
        _numbers(_first(fields["scores"]), np.float32),
        _numbers(fields["margin"], np.float32),
        _numbers(fields["entropy"], np.float32),
        row_starts(lists),
    )


def join_labels(parts: Sequence[LabelArrays]) -> LabelArrays:
    """Give the labels of several tables, one after the other, as those of one."""
    lengths = [np.diff(part.row_starts) for part in parts]
    return LabelArrays(
        np.concatenate([np.zeros(0, np.int64), *(part.annotation_ids for part in parts)]),
        np.concatenate([np.zeros(0, np.int32), *(part.label_ids for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.margins for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.entropies for part in parts)]),
        np.append(0, np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]))),
    )


def row_starts(lists: Any) -> NDArray[np.int64]:
    """Give where the values of each list begin among those of all lists.

    Parameters
    ----------
    lists
        Arrow array or chunked array of lists; a null one is empty.

    Returns
    -------
    NDArray[np.int64]
        Shape (rows + 1,).

    """
    lengths = pc.fill_null(pc.list_value_length(single_array(lists)), 0).to_numpy(zero_copy_only=False)
    return np.append(0, np.cumsum(lengths, dtype=np.int64))


def read_annotation_ids(annotations: Any) -> NDArray[np.int64]:
    """Give the ids of all annotations of a column, int64, shape (N,)."""
    structs = single_array(annotations).flatten()
    index = structs.type.get_field_index("id") if pa.types.is_struct(structs.type) else -1
    if index < 0:
        raise ConfigError(f"annotations: expected lists of structs with an 'id', found lists of {structs.type}")
    return _numbers(structs.flatten()[index], np.int64)


def single_array(column: Any) -> Any:
    """Give a column as one array; the memory of a single chunk is not copied."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _first(lists: Any) -> Any:
    """First value of each list, null for an empty one."""
    starts, values = row_starts(lists), lists.flatten()
    is_empty = np.diff(starts) == 0
    return values.take(pa.array(np.where(is_empty, 0, starts[:-1]), mask=is_empty))


def _numbers(array: Any, dtype: Any) -> NDArray[Any]:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype)
