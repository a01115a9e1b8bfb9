"""Which category a mask has, in formats that cannot do without: "object", or its best label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Categories"]

_OBJECT = "object"


class Categories:
    """The categories of rows.

    Parameters
    ----------
    provenance
        Of the rows, as `sa1b_hf.convert` keeps it under ``sa1b_hf``; the first of its ``transforms`` that has ``names``
        tells what label ids mean, and its ``column`` which column they are in.

    Attributes
    ----------
    names
        ``"object"``, for masks without a label, and then the labels.

    """

    def __init__(self, provenance: Mapping[str, Any]) -> None:
        transforms = [one for one in provenance.get("transforms", ()) if "names" in one]
        labels = transforms[0] if transforms else {}
        self._column = labels.get("column", "labels")
        self.names = [_OBJECT, *labels.get("names", ())]

    def of_row(self, row: Mapping[str, Any]) -> Sequence[int]:
        """Give the place in `names` of each annotation of a row."""
        labels = row.get(self._column)
        if labels is None or len(self.names) == 1:
            return [0] * len(row["annotations"])
        return [_best(label) for label in labels]


def _best(label: Mapping[str, Any] | None) -> int:
    # -1 stands for a labeler that abstained
    ids = label["label_ids"] if label else None
    return max(ids[0], -1) + 1 if ids else 0
