"""A report of the labels of a dataset: counts of classes, confusions of two labelers, pictures of each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset
from numpy.typing import NDArray

from sa1b_hf.errors import ConfigError

from ._read_column import read_labels
from .base import ABSTAINED
from .pseudo import PseudoLabeled

__all__ = ["LabelReport", "class_crops", "label_report"]

_BINS = 20


@dataclass
class LabelReport:
    """Counts of labels.

    Attributes
    ----------
    images, masks, abstained
        Seen; masks without a label.
    counts
        Masks of each label id.
    score_sums
        Sum of the scores of each label id.
    score_histogram
        Labelled masks by score, in 20 bins of 0 to 1; other scores are in the first or last one.
    confusions
        Masks by the label ids that two labelers gave them, -1 for none.

    """

    images: int = 0
    masks: int = 0
    abstained: int = 0
    counts: Counter[int] = field(default_factory=Counter)
    score_sums: Counter[int] = field(default_factory=Counter)
    score_histogram: list[int] = field(default_factory=lambda: [0] * _BINS)
    confusions: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, table: Any, column: str = "labels", other: str | None = None) -> None:
        """Add the labels of an Arrow table, and how they go with those of another column.

        Raises
        ------
        ConfigError
            A column is missing, or the columns are not of the same masks.

        """
        labels = read_labels(table, column)
        ids, labelled = labels.label_ids, labels.label_ids != ABSTAINED
        self.images += table.num_rows
        self.masks += len(ids)
        self.abstained += int((~labelled).sum())
        scores = np.nan_to_num(labels.scores[labelled].astype(np.float64))
        known, which = np.unique(ids[labelled], return_inverse=True)
        self.counts.update(dict(zip(known.tolist(), np.bincount(which, minlength=len(known)).tolist(), strict=True)))
        sums = np.bincount(which, scores, minlength=len(known)).tolist()
        self.score_sums.update(dict(zip(known.tolist(), sums, strict=True)))
        bins = np.clip((scores * _BINS).astype(np.int64), 0, _BINS - 1)
        added = np.bincount(bins, minlength=_BINS).tolist()
        self.score_histogram = [a + b for a, b in zip(self.score_histogram, added, strict=True)]
        if other is not None:
            theirs = read_labels(table, other)
            if not np.array_equal(theirs.annotation_ids, labels.annotation_ids):
                raise ConfigError(f"expected {column!r} and {other!r} of the same masks, found other annotation ids")
            pairs, num = np.unique(np.stack([ids, theirs.label_ids], axis=1), axis=0, return_counts=True)
            self.confusions.update(dict(zip(map(tuple, pairs.tolist()), num.tolist(), strict=True)))

    def merge(self, other: LabelReport) -> None:
        """Add the counts of another report."""
        for name in ("images", "masks", "abstained"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("counts", "score_sums", "confusions"):
            getattr(self, name).update(getattr(other, name))
        self.score_histogram = [a + b for a, b in zip(self.score_histogram, other.score_histogram, strict=True)]

    @property
    def agreement(self) -> float:
        """Share of the masks that both labelers labelled to which they gave the same label id; NaN without any."""
        both = {pair: num for pair, num in self.confusions.items() if ABSTAINED not in pair}
        total = sum(both.values())
        return sum(num for (one, two), num in both.items() if one == two) / total if total else float("nan")

    def to_dict(self, names: Sequence[str] | None = None) -> dict[str, Any]:
        """Give plain values, ready for JSON; classes by name if their names are given."""
        counts = {_name(one, names): num for one, num in self.counts.most_common()}
        means = {_name(one, names): self.score_sums[one] / num for one, num in self.counts.most_common()}
        confusions = [[_name(one, names), _name(two, names), num] for (one, two), num in self.confusions.most_common()]
        plain = {"images": self.images, "masks": self.masks, "abstained": self.abstained}
        histogram = list(self.score_histogram)
        return {
            **plain,
            "counts": counts,
            "mean_scores": means,
            "score_histogram": histogram,
            "confusions": confusions,
        }

    def to_text(self, names: Sequence[str] | None = None, *, most: int = 20) -> str:
        """Give lines for people: the most frequent classes, and the most frequent confusions."""
        lines = [f"{self.masks:,} masks of {self.images:,} images, {self.abstained:,} without a label"]
        for one, num in self.counts.most_common(most):
            lines.append(f"{num:>9,}  {_name(one, names)}  (mean score {self.score_sums[one] / num:.2f})")
        if len(self.counts) > most:
            lines.append(f"{'':>9}  and {len(self.counts) - most:,} classes more")
        different = [(pair, num) for pair, num in self.confusions.most_common() if pair[0] != pair[1]]
        if self.confusions:
            lines.append(f"agreement {self.agreement:.1%} of masks that both labelled")
        lines += [f"{num:>9,}  {_name(one, names)} / {_name(two, names)}" for (one, two), num in different[:most]]
        return "\n".join(lines)

    def __str__(self) -> str:
        """Give the lines with label ids."""
        return self.to_text()


def label_report(dataset: Any, column: str = "labels", *, other: str | None = None) -> LabelReport:
    """Count the labels of a dataset; images and masks are not read.

    Parameters
    ----------
    dataset
        `Dataset`, `IterableDataset`, or an Arrow table.
    column
        Of the labels.
    other
        Of another labeler's, for the confusions. Both must have the same vocabulary for these to make sense.

    Returns
    -------
    LabelReport

    Raises
    ------
    ConfigError
        A column is missing.

    """
    report = LabelReport()
    for table in _tables(dataset, [column] if other is None else [column, other]):
        report.add(table, column, other)
    return report


def class_crops(
    dataset: Dataset, column: str = "labels", *, per_class: int = 16, size: int = 96, **options: Any
) -> Mapping[int, NDArray[np.uint8]]:
    """Cut pictures of each class, for a contact sheet.

    Parameters
    ----------
    dataset
        As for `PseudoLabeled`.
    column
        Of the labels.
    per_class
        Most pictures of a class: those of the highest scores.
    size
        Side of a picture in pixels.
    options
        Others of `PseudoLabeled`, such as ``background`` and ``thresholds``.

    Returns
    -------
    dict
        Of each label id, ascending, shape (K, size, size, 3) uint8 RGB, best scores first.

    Raises
    ------
    ConfigError
        As for `PseudoLabeled`.

    """
    view = PseudoLabeled(dataset, column=column, size=size, max_per_class=per_class, **{"weight": "score", **options})
    crops = [view[index][0] for index in range(len(view))]
    sheets = {}
    for label in np.unique(view.label_ids).tolist():
        chosen = np.flatnonzero(view.label_ids == label)
        best = chosen[np.argsort(-view.weights[chosen], kind="stable")]
        sheets[label] = np.stack([crops[index] for index in best.tolist()])
    return sheets


def _tables(dataset: Any, columns: list[str]) -> Iterator[Any]:
    if isinstance(dataset, pa.Table):
        yield dataset
        return
    if not isinstance(dataset, (Dataset, IterableDataset)):
        raise ConfigError(f"expected a Dataset, an IterableDataset or a table, found {type(dataset).__name__}")
    names = dataset.column_names
    if names is not None and (missing := [name for name in columns if name not in names]):
        raise ConfigError(f"expected columns {missing} of labels, found {names}")
    yield from dataset.select_columns(columns).with_format("arrow").iter(batch_size=1000)


def _name(label_id: int, names: Sequence[str] | None) -> str:
    if label_id == ABSTAINED:
        return "(none)"
    return str(label_id) if names is None else names[label_id]
