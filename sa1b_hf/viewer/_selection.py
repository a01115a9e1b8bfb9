"""Which masks are wanted, as the page's address says it, and the lines of Python that choose the same ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from sa1b_hf.errors import ConfigError
from sa1b_hf.places import Place

from ._store import RowSummary

__all__ = ["MaskSelection", "code_lines"]

_T = TypeVar("_T")
_MAX_LABELS: Final = 10_000

_LINE: Final = 68  # characters of arguments that fit on one line
_LOAD: Final = """\
{imports}

ds = load_dataset({arguments})
"""
_KEEP: Final = """\


def find_masks(row):
    return [
        number
        for number, mask in enumerate(row["annotations"])
        if {conditions}
    ]


def keep_masks(row):
    return {{name: [row[name][number] for number in find_masks(row)] for name in {columns}}}


ds = ds.filter(lambda row: len(find_masks(row)) > 0).map(keep_masks, features=ds.features)
"""


@dataclass(frozen=True)
class MaskSelection:
    """Limits on masks, all inclusive; None is no limit.

    Attributes
    ----------
    min_predicted_iou, min_stability_score
        Scores.
    min_area, max_area
        Pixels.
    labels
        The mask's best label is one of these.

    """

    min_predicted_iou: float | None = None
    min_stability_score: float | None = None
    min_area: int | None = None
    max_area: int | None = None
    labels: frozenset[int] | None = None

    @classmethod
    def parse(cls, query: Mapping[str, Sequence[str]]) -> MaskSelection:
        """Read the query of an address; other keys are left alone.

        Raises
        ------
        ConfigError
            A value is not a number.

        """
        given = {name: values[-1] for name, values in query.items() if name in cls.__dataclass_fields__ and values[-1]}
        try:
            labels = [int(label) for label in given["labels"].split(",")] if "labels" in given else None
            selection = cls(
                min_predicted_iou=_optional(float, given.get("min_predicted_iou")),
                min_stability_score=_optional(float, given.get("min_stability_score")),
                min_area=_optional(int, given.get("min_area")),
                max_area=_optional(int, given.get("max_area")),
                labels=None if labels is None else frozenset(labels),
            )
        except (ValueError, OverflowError):
            raise ConfigError(f"filters: expected numbers, found {given!s:.80}") from None
        scores = (selection.min_predicted_iou, selection.min_stability_score)
        if not all(score is None or math.isfinite(score) for score in scores) or len(labels or ()) > _MAX_LABELS:
            raise ConfigError(f"filters: expected finite numbers, found {given!s:.80}")
        return selection

    def matches(self, row: RowSummary) -> NDArray[np.bool_]:
        """Tell which masks of a row are wanted, shape (N,); a score that is not known passes no limit."""
        wanted = np.ones(len(row.ids), np.bool_)
        for name, values in (("predicted_iou", row.predicted_iou), ("stability_score", row.stability_score)):
            minimum = getattr(self, f"min_{name}")
            if minimum is not None:
                wanted &= values >= minimum
        if self.min_area is not None:
            wanted &= row.areas >= self.min_area
        if self.max_area is not None:
            wanted &= row.areas <= self.max_area
        if self.labels is not None:
            wanted &= np.isin(row.label_ids, np.array(sorted(self.labels), np.int64))
        return wanted

    def options(self) -> dict[str, Any]:
        """Give the limits that are set, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


def code_lines(place: Place, selection: MaskSelection, *, has_labels: bool = False) -> str:
    """Write the Python that loads the same rows and masks.

    Parameters
    ----------
    place
        What is shown.
    selection
        The limits.
    has_labels
        The rows have a ``labels`` column.

    Returns
    -------
    str
        Shards are filtered by options of `load_dataset`; other rows by a function.

    """
    arguments = {name: value for name, value in place.arguments.items() if name != "path"}
    options = selection.options()
    is_native = place.arguments["path"] == "sa1b.py"
    imports = ["from datasets import load_dataset"]
    if is_native:
        imports += ["", 'import sa1b_hf  # so that load_dataset knows "sa1b.py"']
        arguments |= {name: value for name, value in options.items() if name != "labels"}
        arguments |= {"drop_empty": True} if options else {}
    words = [_literal(place.arguments["path"]), *(f"{name}={_literal(value)}" for name, value in arguments.items())]
    line = ", ".join(words)
    if len(line) > _LINE:
        line = "\n    " + ",\n    ".join(words) + ",\n"
    text = _LOAD.format(imports="\n".join(imports), arguments=line)
    if is_native or not options:
        return text
    columns = ["annotations", "labels"] if has_labels else ["annotations"]
    return text + _KEEP.format(conditions="\n        and ".join(_conditions(selection)), columns=json.dumps(columns))


def _optional(kind: Callable[[str], _T], text: str | None) -> _T | None:
    return None if text is None else kind(text)


def _literal(value: Any) -> str:
    # JSON's strings are Python's, in the quotes that the formatter prefers
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _conditions(selection: MaskSelection) -> list[str]:
    found = []
    for name in ("predicted_iou", "stability_score"):
        minimum = getattr(selection, f"min_{name}")
        if minimum is not None:
            found.append(f'mask["{name}"] >= {minimum!r}')
    if selection.min_area is not None:
        found.append(f'mask["area"] >= {selection.min_area}')
    if selection.max_area is not None:
        found.append(f'mask["area"] <= {selection.max_area}')
    if selection.labels is not None:
        found.append(f'[*row["labels"][number]["label_ids"], -1][0] in {sorted(selection.labels)}')
    return found
