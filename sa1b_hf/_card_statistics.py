"""What the rows of a dataset are like: counts and histograms, gathered while tables pass by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["FIGURES", "Figure", "Statistics"]


@dataclass(frozen=True)
class Figure:
    """A histogram's place in the card.

    Attributes
    ----------
    name
        Of the file, and key in `Statistics.histograms`.
    title
        Above it.
    edges
        Borders of the bins, shape (n + 1,); what is outside counts in the first or last one.
    labels
        Texts for the first and the last border.

    """

    name: str
    title: str
    edges: NDArray[np.float64]
    labels: tuple[str, str]


# Bins are the same for every dataset: figures compare, and equal rows give equal files.
FIGURES: Final = (
    Figure("masks_per_image", "masks per image", np.linspace(0, 400, 41), ("0", "400 and more")),
    Figure("area", "area of a mask, pixels (logarithmic)", np.logspace(0, 7, 43), ("1", "10 million")),
    Figure("predicted_iou", "predicted_iou", np.linspace(0.87, 1.07, 41), ("0.87", "1.07")),
    Figure("stability_score", "stability_score", np.linspace(0.94, 1.0, 41), ("0.94", "1.0")),
)


@dataclass
class Statistics:
    """Counts of rows and annotations.

    Attributes
    ----------
    rows
        By split.
    num_bytes
        Of the rows, uncompressed, by split.
    num_annotations
        Annotations of all rows.
    num_labelled, num_abstained
        Of these, how many have a label, and for how many the labeller gave none.
    histograms
        Counts of the bins of `FIGURES`, by name.

    """

    rows: dict[str, int] = field(default_factory=dict)
    num_bytes: dict[str, int] = field(default_factory=dict)
    num_annotations: int = 0
    num_labelled: int = 0
    num_abstained: int = 0
    histograms: dict[str, NDArray[np.int64]] = field(
        default_factory=lambda: {figure.name: np.zeros(len(figure.edges) - 1, np.int64) for figure in FIGURES}
    )

    def figures(self) -> list[Figure]:
        """List the histograms that have anything to show."""
        return [figure for figure in FIGURES if self.histograms[figure.name].any()]

    def add(self, split: str, table: pa.Table) -> None:
        """Count the rows of a table; columns that it lacks are passed over."""
        self.rows[split] = self.rows.get(split, 0) + table.num_rows
        names = table.schema.names
        if "annotations" in names:
            self._add_annotations(table["annotations"].combine_chunks())
        if "labels" in names:
            self._add_labels(table["labels"].combine_chunks())

    def _add_annotations(self, lists: Any) -> None:
        lengths = _numpy(pc.fill_null(pc.list_value_length(lists), 0))
        self.num_annotations += int(lengths.sum())
        values = {"masks_per_image": lengths}
        structs = lists.flatten()
        for figure in FIGURES:
            if pa.types.is_struct(structs.type) and structs.type.get_field_index(figure.name) >= 0:
                values[figure.name] = _numpy(pc.drop_null(pc.struct_field(structs, figure.name)))
        for figure in FIGURES:
            if figure.name in values:
                inside = np.clip(values[figure.name].astype(np.float64), figure.edges[0], figure.edges[-1])
                self.histograms[figure.name] += np.histogram(inside, figure.edges)[0]

    def _add_labels(self, lists: Any) -> None:
        structs = lists.flatten()
        if not pa.types.is_struct(structs.type) or structs.type.get_field_index("label_ids") < 0:
            return
        ids = pc.struct_field(structs, "label_ids")
        ids = ids.filter(pc.fill_null(pc.greater(pc.list_value_length(ids), 0), fill_value=False))
        abstained = int(pc.sum(pc.less(pc.list_element(ids, 0), 0)).as_py() or 0)
        self.num_abstained += abstained
        self.num_labelled += len(ids) - abstained


def _numpy(array: Any) -> NDArray[Any]:
    return np.asarray(array.to_numpy(zero_copy_only=False))
