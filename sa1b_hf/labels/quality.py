"""How good labels are, and which to keep: thresholds, agreement, balance, and a report of counts and confusions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Features
from numpy.typing import ArrayLike, NDArray

from sa1b_hf import rle
from sa1b_hf._ids import hash_ids
from sa1b_hf.errors import ConfigError

from ._columns import put_column
from ._read_column import LabelArrays, read_labels, row_starts, single_array
from ._vocabulary import sha256_of
from .base import ABSTAINED

__all__ = ["Abstain", "Agreement", "Thresholds", "label_agreement", "select_balanced"]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What the best label of a mask must reach.

    Attributes
    ----------
    min_score, min_margin, max_entropy
        None for no threshold. A value that is unknown does not reach one.

    """

    min_score: float | None = None
    min_margin: float | None = None
    max_entropy: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not np.isfinite(value):
                raise ConfigError(f"{name}: expected a number, found {value!r}")

    def failures(self, labels: LabelArrays) -> dict[str, NDArray[np.bool_]]:
        """Tell which masks fall short of which threshold.

        Parameters
        ----------
        labels
            Of N masks.

        Returns
        -------
        dict
            Of each threshold that is set, shape (N,). A mask without a label fails none.

        """
        labelled = labels.label_ids != ABSTAINED
        limits = (
            ("min_score", self.min_score, labels.scores, 1),
            ("min_margin", self.min_margin, labels.margins, 1),
            ("max_entropy", self.max_entropy, labels.entropies, -1),
        )
        # negated, so that NaN fails
        return {
            name: labelled & ~(sign * values >= sign * limit)
            for name, limit, values, sign in limits
            if limit is not None
        }

    def passing(self, labels: LabelArrays) -> NDArray[np.bool_]:
        """Tell which masks have a label that reaches everything, shape (N,)."""
        passed = np.asarray(labels.label_ids != ABSTAINED)
        for failed in self.failures(labels).values():
            passed &= ~failed
        return passed


class Abstain:
    """Takes the labels that fall short of thresholds away, and counts them: a transform of tables.

    Parameters
    ----------
    thresholds
        To reach.
    column
        Of the labels; it is replaced.

    Attributes
    ----------
    counts
        Labels kept, under ``"kept"``, and taken away, by the first threshold that they fall short of.

    """

    def __init__(self, thresholds: Thresholds, *, column: str = "labels") -> None:
        self.thresholds, self.column = thresholds, column
        self.counts: Counter[str] = Counter()

    @property
    def provenance(self) -> dict[str, Any]:
        """What was done, for the table's metadata."""
        return {"kind": "abstain", "column": self.column, "thresholds": dict(vars(self.thresholds))}

    @property
    def fingerprint(self) -> str:
        """Identity of what it does."""
        return sha256_of(self.provenance)

    def features(self, features: Features) -> Features:
        """Give the features of the result, which are the same."""
        return features

    def __call__(self, table: Any) -> Any:
        """Abstain from masks whose label falls short; its score stays, its id becomes -1.

        Parameters
        ----------
        table
            Arrow table with a column of labels.

        Returns
        -------
        pyarrow.Table

        """
        labels = read_labels(table, self.column)
        drop = np.zeros(len(labels), bool)
        for name, failed in self.thresholds.failures(labels).items():
            self.counts[name] += int((failed & ~drop).sum())
            drop |= failed
        self.counts["kept"] += int((~drop & (labels.label_ids != ABSTAINED)).sum())
        lists = single_array(table.column(self.column))
        structs = lists.flatten()
        fields = dict(zip([field.name for field in structs.type], structs.flatten(), strict=True))
        fields["label_ids"] = _first_only(fields["label_ids"], drop, ABSTAINED)
        fields["scores"] = _first_only(fields["scores"], drop, None)
        changed = pa.StructArray.from_arrays(list(fields.values()), list(fields)).cast(structs.type)
        offsets = pa.array(labels.row_starts, pa.int32())
        return put_column(table, self.column, pa.ListArray.from_arrays(offsets, changed).cast(lists.type))


def _first_only(lists: Any, drop: NDArray[np.bool_], value: Any) -> Any:
    """Cut some lists down to their first value, and set it."""
    starts, values = row_starts(lists), lists.flatten().to_numpy(zero_copy_only=False)
    lengths = np.diff(starts)
    owner_drops = np.repeat(drop, lengths)
    is_first = np.zeros(len(values), bool)
    is_first[starts[:-1][lengths > 0]] = True
    if value is not None:
        values = np.where(owner_drops & is_first, np.asarray(value, values.dtype), values)
    lengths = np.where(drop, np.minimum(lengths, 1), lengths)
    offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(values[is_first | ~owner_drops]))


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How far overlapping masks of an image have the same label.

    Attributes
    ----------
    pairs, agreeing
        Number of pairs of labelled masks that overlap, and of those with the same label.
    per_mask
        float64, shape (N,): share of the overlapping masks that agree; NaN for a mask without any, or without a label.

    """

    pairs: int
    agreeing: int
    per_mask: NDArray[np.float64]


def label_agreement(annotations: rle.Segmentations, label_ids: ArrayLike, *, min_iou: float = 0.5) -> Agreement:
    """Compare the labels of masks that show nearly the same.

    Parameters
    ----------
    annotations
        N masks of one image, in any form of `sa1b_hf.rle`.
    label_ids
        Shape (N,); -1 for none.
    min_iou
        Least IoU of a pair.

    Returns
    -------
    Agreement

    Raises
    ------
    RLEError
        A mask is malformed.
    ConfigError
        There is not one label per mask.

    """
    labels = np.asarray(label_ids, np.int64)
    iou = rle.iou(annotations, annotations)
    if labels.shape != iou.shape[:1]:
        raise ConfigError(f"label_ids: expected shape {iou.shape[:1]}, found {labels.shape}")
    labelled = labels != ABSTAINED
    overlap = (iou >= min_iou) & (iou > 0) & labelled[:, None] & labelled[None, :]
    np.fill_diagonal(overlap, val=False)
    agree = overlap & (labels[:, None] == labels[None, :])
    num = overlap.sum(axis=1)
    per_mask = np.divide(agree.sum(axis=1), num, out=np.full(len(labels), np.nan), where=num > 0)
    return Agreement(int(num.sum()) // 2, int(agree.sum()) // 2, per_mask)


def select_balanced(
    label_ids: ArrayLike, max_per_class: int, *, scores: ArrayLike | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """Choose masks so that no class has too many.

    Parameters
    ----------
    label_ids
        Shape (N,); masks with -1 are never chosen.
    max_per_class
        Most masks of a class.
    scores
        Shape (N,): the highest are chosen; without, `seed` draws.
    seed
        Another one is another choice.

    Returns
    -------
    NDArray[np.int64]
        Indices, in order.

    Raises
    ------
    ConfigError
        `max_per_class` is below 1, or the shapes differ.

    Examples
    --------
    >>> select_balanced([0, 0, 1, -1, 0], 2, scores=[0.1, 0.9, 0.2, 0.8, 0.5]).tolist()
    [1, 2, 4]

    """
    labels = np.asarray(label_ids, np.int64)
    if max_per_class < 1:
        raise ConfigError(f"max_per_class: expected 1 or more, found {max_per_class!r}")
    keys = hash_ids(seed, np.arange(len(labels))).astype(np.float64) if scores is None else np.asarray(scores)
    if keys.shape != labels.shape:
        raise ConfigError(f"scores: expected shape {labels.shape}, found {keys.shape}")
    order = np.lexsort((-np.nan_to_num(keys.astype(np.float64), nan=-np.inf), labels))
    ordered = labels[order]
    rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    return np.sort(order[(rank < max_per_class) & (ordered != ABSTAINED)])
