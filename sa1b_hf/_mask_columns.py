"""What a row says of its masks, one array for each thing, and which of the masks are wanted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from . import rle
from ._rows import read_annotations, split_rows
from .errors import AnnotationError, ConfigError
from .filters import AnnotationFilter

__all__ = ["NO_LABEL", "Keep", "MaskColumns", "choose_masks", "read_example", "read_mask_columns"]

NO_LABEL = -1
"""The label of a mask that a labeler abstained from, or that has no labels at all."""

Keep: TypeAlias = AnnotationFilter | Sequence[int] | NDArray[Any] | None
"""Masks to keep: a filter, their positions in the row, a truth value for each, or None for all."""

_COLUMNS = ("image", "image_id", "width", "height", "file_name", "shard", "annotations", "labels")


@dataclass(frozen=True, slots=True, eq=False)
class MaskColumns:
    """The N masks of one image.

    Attributes
    ----------
    values
        The masks, in a form that `sa1b_hf.rle` takes.
    ids, areas
        int64, shape (N,); areas in pixels.
    predicted_iou, stability_score
        float64, shape (N,); NaN where the row has none.
    boxes_xywh
        float64, shape (N, 4), in pixels, in SA-1B's convention.
    points_xy
        float64, shape (N, K, 2), in pixels, NaN where a mask has fewer than K.
    label_ids
        int64, shape (N,): the best label of each mask, `NO_LABEL` for none.
    label_scores
        float64, shape (N,): of that label, NaN for none.
    has_labels
        The row has a ``labels`` column.

    """

    values: Any
    ids: NDArray[np.int64]
    areas: NDArray[np.int64]
    predicted_iou: NDArray[np.float64]
    stability_score: NDArray[np.float64]
    boxes_xywh: NDArray[np.float64]
    points_xy: NDArray[np.float64]
    label_ids: NDArray[np.int64]
    label_scores: NDArray[np.float64]
    has_labels: bool

    def __len__(self) -> int:
        return len(self.ids)


def read_example(example: Any) -> dict[str, Any]:
    """Take one row: a mapping as `datasets` gives it, or an Arrow table or batch of one row.

    Raises
    ------
    ConfigError
        It is a batch of several rows, or something else.

    """
    rows = split_rows(example, _COLUMNS)
    if rows is None:
        return {name: example[name] for name in _COLUMNS if name in example}
    if len(rows) != 1:
        raise ConfigError(f"expected one row, found a batch of {len(rows)}")
    return rows[0]


def read_mask_columns(row: dict[str, Any]) -> MaskColumns:
    """Take the masks of a row.

    Raises
    ------
    AnnotationError
        ``annotations`` or ``labels`` are not what they should be.
    RLEError
        A mask is malformed, and has no stated area or box.

    """
    image_id = row.get("image_id")
    annotations = read_annotations(row.get("annotations"), image_id)
    count, values = len(annotations), annotations.values
    ids, areas = annotations.numbers("id", np.int64), annotations.numbers("area", np.int64)
    boxes, points = annotations.boxes(), annotations.points()
    iou, stability = (annotations.numbers(name, np.float64) for name in ("predicted_iou", "stability_score"))
    label_ids, label_scores = _read_labels(row.get("labels"), count, image_id)
    unknown = np.full(count, np.nan)
    return MaskColumns(
        values=values,
        ids=np.arange(count) if ids is None else ids,
        areas=np.asarray(rle.area(values)) if areas is None else areas,
        predicted_iou=unknown if iou is None else iou,
        stability_score=unknown if stability is None else stability,
        boxes_xywh=rle.bbox(values) if boxes is None else boxes,
        points_xy=np.full((count, 1, 2), np.nan) if points is None else points,
        label_ids=label_ids,
        label_scores=label_scores,
        has_labels=row.get("labels") is not None,
    )


def choose_masks(
    columns: MaskColumns, keep: Keep = None, labels: Collection[int] | None = None, *, row: dict[str, Any] | None = None
) -> NDArray[np.int64]:
    """Choose masks.

    Parameters
    ----------
    columns
        The masks.
    keep
        A filter, positions, or truth values.
    labels
        Label ids, of which the mask's best must be one.
    row
        Gives ``image_id``, ``width`` and ``height``, which some filters need.

    Returns
    -------
    NDArray[np.int64]
        Positions, ascending.

    Raises
    ------
    ConfigError
        Positions or truth values do not fit the number of masks.

    """
    chosen = np.arange(len(columns)) if keep is None else _positions(columns, keep, row or {})
    if labels is None:
        return chosen
    return chosen[np.isin(columns.label_ids[chosen], np.array(sorted(labels), np.int64))]


def _positions(columns: MaskColumns, keep: Any, row: dict[str, Any]) -> NDArray[np.int64]:
    count = len(columns)
    if isinstance(keep, AnnotationFilter):
        return _filter(columns, keep, row)
    given = np.asarray(keep)
    if given.dtype == np.bool_ and given.shape == (count,):
        return np.flatnonzero(given)
    if given.ndim != 1 or (given.size and (given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= count)):
        raise ConfigError(f"keep: expected positions of 0 to {count - 1}, or {count} truth values, found {keep!r:.80}")
    return np.unique(given.astype(np.int64))


def _filter(columns: MaskColumns, keep: AnnotationFilter, row: dict[str, Any]) -> NDArray[np.int64]:
    """Let a filter decide over the numbers alone; a further field tells which masks are left."""
    fields = {
        "id": columns.ids,
        "area": columns.areas,
        "predicted_iou": columns.predicted_iou,
        "stability_score": columns.stability_score,
        "position": np.arange(len(columns)),
    }
    structs = pa.StructArray.from_arrays([pa.array(values) for values in fields.values()], names=list(fields))
    lists = pa.ListArray.from_arrays(pa.array([0, len(columns)], pa.int32()), structs)
    size = {name: pa.array([row.get(name)], pa.int64()) for name in ("width", "height", "image_id")}
    left, _ = keep.apply(lists, **size)
    return np.asarray(left.flatten().field("position").to_numpy(zero_copy_only=False), np.int64)


def _read_labels(labels: Any, count: int, image_id: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    ids, scores = np.full(count, NO_LABEL), np.full(count, np.nan)
    if labels is None:
        return ids, scores
    values = labels.as_py() if isinstance(labels, pa.Scalar) else list(labels)
    if len(values) != count:
        message = f"image {image_id}: labels: expected one for each of {count} annotations, found {len(values)}"
        raise AnnotationError(message, reason="labels", image_id=image_id)
    for position, label in enumerate(values):
        if label["label_ids"]:
            ids[position] = label["label_ids"][0]
            if label.get("scores"):
                scores[position] = label["scores"][0]
    return ids, scores
