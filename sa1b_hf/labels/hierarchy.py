"""Which masks are parts of which: parents by containment, and from them parts, objects and groups.

SA-1B's masks of one image overlap: a wheel, its car, a row of cars. Who contains whom is told from run lengths, without
decoding a pixel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Value
from numpy.typing import NDArray

from sa1b_hf import rle
from sa1b_hf.errors import ConfigError

from ._read_column import read_annotation_ids, row_starts

__all__ = ["HIERARCHY_TYPE", "KINDS", "AddHierarchy", "Hierarchy", "Overlap", "mask_hierarchy", "mask_overlap"]

KINDS = ("object", "part", "group")
"""What a mask can be; `Hierarchy.kinds` holds indices into it."""

HIERARCHY_TYPE = pa.struct(
    [
        ("annotation_id", pa.int64()),
        ("parent_id", pa.int64()),
        ("same_as_id", pa.int64()),
        ("depth", pa.int32()),
        ("kind", pa.string()),
    ]
)
"""Arrow type of one mask's place; ids are those of annotations, -1 for none."""


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """How the N masks of one image overlap.

    Attributes
    ----------
    areas
        int64, shape (N,), in pixels.
    share
        float64, shape (N, N): the part of mask i that lies in mask j, 0 to 1; 0 for an empty mask.

    """

    areas: NDArray[np.int64]
    share: NDArray[np.float64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union, float64, shape (N, N)."""
        shared = self.share * self.areas[:, None]
        united = self.areas[:, None] + self.areas[None, :] - shared
        return np.divide(shared, united, out=np.zeros(shared.shape), where=united > 0)


@dataclass(frozen=True, slots=True, eq=False)
class Hierarchy:
    """The places of the N masks of one image.

    Attributes
    ----------
    parents
        int64, shape (N,): index of the smallest mask that contains it, -1 for none.
    same_as
        int64, shape (N,): index of the larger mask that shows the same thing, -1 for none.
    depths
        int64, shape (N,): number of masks around it, 0 for those without a parent.
    kinds
        int8, shape (N,): index into `KINDS`.

    """

    parents: NDArray[np.int64]
    same_as: NDArray[np.int64]
    depths: NDArray[np.int64]
    kinds: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.parents)


def mask_overlap(annotations: rle.Segmentations) -> Overlap:
    """Measure how masks overlap, from their runs.

    Parameters
    ----------
    annotations
        Masks of one image, in any form of `sa1b_hf.rle`.

    Returns
    -------
    Overlap

    Raises
    ------
    RLEError
        A mask is malformed, or sizes differ.

    """
    areas = np.atleast_1d(rle.area(annotations))
    # of a "crowd" the intersection is divided by the area of the first mask alone
    return Overlap(areas, rle.iou(annotations, annotations, iscrowd=np.ones(len(areas), bool)))


def mask_hierarchy(
    annotations: rle.Segmentations, *, min_contained: float = 0.9, min_same_iou: float = 0.9
) -> Hierarchy:
    """Find the place of each mask of one image.

    Parameters
    ----------
    annotations
        Masks of one image, in any form of `sa1b_hf.rle`.
    min_contained
        Least part of a mask that must lie in a larger one for that to be its parent, over 0.5 to 1.
    min_same_iou
        Masks of at least this IoU show the same thing: none is the parent of the other, and the smaller one takes the
        place of the larger one.

    Returns
    -------
    Hierarchy
        A mask with grandchildren is a group. A mask without children, whose parent is not a group, is a part. Every
        other mask is an object. That is geometry only: a person on a sofa is a part of the sofa.

    Raises
    ------
    RLEError
        A mask is malformed, or sizes differ.
    ConfigError
        An option is out of range.

    Examples
    --------
    >>> car, wheel = {"size": [1, 8], "counts": [0, 8]}, {"size": [1, 8], "counts": [1, 2, 5]}
    >>> places = mask_hierarchy([wheel, car])
    >>> places.parents.tolist(), [KINDS[kind] for kind in places.kinds]
    ([1, -1], ['part', 'object'])

    """
    for name, value in (("min_contained", min_contained), ("min_same_iou", min_same_iou)):
        if not 0.5 < value <= 1:  # noqa: PLR2004 (two masks may be half in each other)
            raise ConfigError(f"{name}: expected more than 0.5, at most 1, found {value}")
    overlap = mask_overlap(annotations)
    rank = np.empty(len(overlap.areas), np.int64)
    rank[np.argsort(-overlap.areas, kind="stable")] = np.arange(len(rank))
    larger = rank[None, :] < rank[:, None]
    same_as = _same_as((overlap.iou >= min_same_iou) & larger, rank)
    is_first = same_as < 0
    parents = _parents((overlap.share >= min_contained) & larger & is_first[None, :] & is_first[:, None], rank)
    kinds = _kinds(parents)
    # a copy takes its original's place
    place = np.where(is_first, np.arange(len(rank)), same_as)
    return Hierarchy(parents[place], same_as, _depths(parents[place], parents), kinds[place])


def _same_as(same: NDArray[np.bool_], rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """From the largest mask down, each is a copy of the largest original that it equals."""
    same_as = np.full(len(rank), -1)
    for mask in np.argsort(rank).tolist():
        originals = np.flatnonzero(same[mask] & (same_as < 0))
        if len(originals):
            same_as[mask] = originals[rank[originals].argmin()]
    return same_as


def _parents(contained: NDArray[np.bool_], rank: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(rank):
        return np.zeros(0, np.int64)
    smallest = np.where(contained, rank[None, :], -1).argmax(axis=1)
    return np.where(contained.any(axis=1), smallest, -1)


def _depths(start: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.int64]:
    depths, above = np.zeros(len(start), np.int64), start
    while (above >= 0).any():
        depths += above >= 0
        above = np.where(above >= 0, parents[above], -1)
    return depths


def _kinds(parents: NDArray[np.int64]) -> NDArray[np.int8]:
    has_parent = parents >= 0
    has_child = np.zeros(len(parents), bool)
    has_child[parents[has_parent]] = True
    is_group = np.zeros(len(parents), bool)
    is_group[parents[has_parent & has_child]] = True
    is_part = has_parent & ~has_child & ~is_group[parents]
    return np.select([is_group, is_part], [KINDS.index("group"), KINDS.index("part")], 0).astype(np.int8)


@dataclass(frozen=True, kw_only=True)
class AddHierarchy:
    """Adds a column with the place of each mask, to tables with ``annotations``.

    For `apply_transform`, and everything else that takes a transform of tables.

    Attributes
    ----------
    column
        Its name. Its values are lists of `HIERARCHY_TYPE`, aligned with ``annotations``.
    min_contained, min_same_iou
        As for `mask_hierarchy`.

    """

    column: str = "hierarchy"
    min_contained: float = 0.9
    min_same_iou: float = 0.9

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was done, for the table's metadata."""
        options = {"min_contained": self.min_contained, "min_same_iou": self.min_same_iou}
        return {"transform": "hierarchy", "column": self.column, "options": options}

    @property
    def fingerprint(self) -> str:
        """Identity of what it does."""
        return hashlib.sha256(json.dumps(self.provenance, sort_keys=True).encode()).hexdigest()

    def features(self, features: datasets.Features) -> datasets.Features:
        """Add the column's feature."""
        number, text = Value("int64"), Value("string")
        place = {"annotation_id": number, "parent_id": number, "same_as_id": number}
        return datasets.Features({**features, self.column: [{**place, "depth": Value("int32"), "kind": text}]})

    def __call__(self, table: Any) -> Any:
        """Add the column.

        Parameters
        ----------
        table
            Arrow table with ``annotations``.

        Returns
        -------
        pyarrow.Table

        Raises
        ------
        RLEError
            A mask is malformed.

        """
        annotations = table.column("annotations")
        starts, ids = row_starts(annotations), read_annotation_ids(annotations)
        places = [
            mask_hierarchy(row, min_contained=self.min_contained, min_same_iou=self.min_same_iou) for row in annotations
        ]
        arrays = [pa.array(ids)]
        for name in ("parents", "same_as"):
            arrays.append(pa.array(_ids_of([getattr(one, name) for one in places], ids, starts)))
        arrays.append(pa.array(_joined([one.depths for one in places]), pa.int32()))
        arrays.append(pa.array(KINDS).take(pa.array(_joined([one.kinds for one in places]))))
        structs = pa.StructArray.from_arrays(arrays, HIERARCHY_TYPE.names)
        return table.append_column(self.column, pa.ListArray.from_arrays(pa.array(starts, pa.int32()), structs))


def _joined(parts: list[NDArray[Any]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _ids_of(indices: list[NDArray[np.int64]], ids: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ids of the annotations that indices within each row point at; -1 stays -1."""
    flat = _joined(indices)
    rows_start = np.repeat(starts[:-1], np.diff(starts))
    return np.append(ids, -1)[np.where(flat < 0, len(ids), flat + rows_start)]
