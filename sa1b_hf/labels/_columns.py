"""Labels as a column: a list per image, aligned one to one with its annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Features, Value
from numpy.typing import NDArray

from sa1b_hf.errors import ConfigError

from ._types import ABSTAINED, MaskLabels

__all__ = ["label_features", "labels_array", "put_column"]


def label_features(*, embeddings: bool = False) -> Any:
    """Give the feature of the column ``labels``.

    Parameters
    ----------
    embeddings
        Whether each mask has one.

    Returns
    -------
    list
        Of one struct: ``annotation_id`` int64; ``label_ids``, a list of int32, best first, -1 alone for an abstained
        mask; ``scores``, a list of float32 as long; ``margin`` and ``entropy`` float32; ``embedding``, a list of
        float16.

    """
    # A one-element list spells "list of" on every version of `datasets`.
    fields: dict[str, Any] = {
        "annotation_id": Value("int64"),
        "label_ids": [Value("int32")],
        "scores": [Value("float32")],
        "margin": Value("float32"),
        "entropy": Value("float32"),
    }
    return [fields | ({"embedding": [Value("float16")]} if embeddings else {})]


def labels_array(results: Sequence[MaskLabels], ids: Sequence[NDArray[np.int64]], *, embeddings: bool) -> pa.ListArray:
    """Build the column of some images.

    Parameters
    ----------
    results
        One per image.
    ids
        Annotation ids of each image's masks.
    embeddings
        Whether the column has them; zeros stand for those that a result lacks.

    Returns
    -------
    pa.ListArray
        Of the type of `label_features`.

    """
    lengths, label_ids, scores = _ragged(results)
    columns = [pa.array(_join(ids, np.int64)), *(_lists(lengths, values) for values in (label_ids, scores))]
    for name in ("margin", "entropy"):
        columns.append(pa.array(_join([getattr(one, name) for one in results], np.float32)))
    names = ["annotation_id", "label_ids", "scores", "margin", "entropy"]
    if embeddings:
        columns.append(_embeddings(results))
        names.append("embedding")
    structs = pa.StructArray.from_arrays(columns, names=names)
    column = pa.ListArray.from_arrays(pa.array(_offsets([len(one) for one in results])), structs)
    feature = Features({"labels": label_features(embeddings=embeddings)})
    return column.cast(feature.arrow_schema.field("labels").type)


def put_column(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    """Append a column, or replace the one of this name."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)


def _ragged(results: Sequence[MaskLabels]) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Drop what is empty behind the best label: lengths, label ids and scores of all masks, end to end."""
    lengths, label_ids, scores = [], [], []
    for one in results:
        keep = (one.label_ids != ABSTAINED).cumprod(axis=1).astype(bool)
        keep[:, :1] = True
        lengths.append(keep.sum(axis=1))
        label_ids.append(one.label_ids[keep])
        scores.append(one.scores[keep])
    return _join(lengths, np.int64), _join(label_ids, np.int32), _join(scores, np.float32)


def _lists(lengths: NDArray[np.int64], values: NDArray[Any]) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(_offsets(lengths)), pa.array(values))


def _embeddings(results: Sequence[MaskLabels]) -> pa.ListArray:
    found = [one.embeddings for one in results if one.embeddings is not None]
    widths = {one.shape[1] for one in found}
    if len(widths) > 1:
        raise ConfigError(f"embeddings: expected one length for all images, found {sorted(widths)}")
    width = widths.pop() if widths else 0
    rows = [np.zeros((len(one), width), np.float16) if one.embeddings is None else one.embeddings for one in results]
    matrix = np.concatenate([np.zeros((0, width), np.float16), *rows])
    return _lists(np.full(len(matrix), width, np.int64), matrix.reshape(-1))


def _join(arrays: Sequence[Any], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(one, dtype) for one in arrays)])


def _offsets(lengths: Any) -> NDArray[np.int32]:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ConfigError(f"labels: expected fewer than 2**31 values in a batch, found {offsets[-1]}; use smaller ones")
    return offsets.astype(np.int32)
