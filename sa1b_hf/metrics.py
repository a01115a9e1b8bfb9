"""How well masks agree: IoU, one-to-one matches and recall, between masks of any form.

Every form is brought to run lengths first, see `sa1b_hf.forms`; run lengths are compared without being decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import rle
from .errors import ConfigError, RLEError
from .forms import Form, as_rle

__all__ = ["DEFAULT_MIN_IOUS", "Matches", "iou_matrix", "match_masks", "recall"]

DEFAULT_MIN_IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The ten thresholds of COCO, 0.5 to 0.95."""


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Pairs of masks, no mask in two of them, from the highest IoU down.

    Attributes
    ----------
    first, second
        int64, shape (pairs,): indices into the two lists.
    iou
        float64, shape (pairs,).

    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    iou: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.iou)


def iou_matrix(
    first: Any,
    second: Any,
    *,
    size: tuple[int, int] | None = None,
    threshold: float = 0.5,
    form: Form = "auto",
) -> NDArray[np.float64]:
    """Intersection over union of every mask of one list with every mask of another.

    Parameters
    ----------
    first, second
        N and M masks, in any two forms.
    size, threshold, form
        As for `sa1b_hf.forms.as_rle`. Without `size` all masks must have one size.

    Returns
    -------
    NDArray[np.float64]
        Shape (N, M); 0 where both masks are empty.

    Raises
    ------
    RLEError
        A mask is malformed.
    ConfigError
        As for `sa1b_hf.forms.as_rle`, or sizes differ.

    Examples
    --------
    >>> iou_matrix(np.array([[1, 1, 0]]), {"size": [1, 3], "counts": [0, 1, 2]}).tolist()
    [[0.5]]

    """
    one, two = (as_rle(masks, form=form, threshold=threshold, size=size) for masks in (first, second))
    try:
        return rle.iou(one, two)
    except RLEError as error:
        if error.reason != "mixed_sizes":
            raise
        raise ConfigError(f"{error.message}; or give size= to bring all masks to one") from error


def match_masks(
    first: Any,
    second: Any,
    *,
    min_iou: float = 0.5,
    size: tuple[int, int] | None = None,
    threshold: float = 0.5,
    form: Form = "auto",
) -> Matches:
    """Pair masks one to one.

    Parameters
    ----------
    first, second, size, threshold, form
        As for `iou_matrix`.
    min_iou
        Least IoU of a pair; pairs without any overlap are never made.

    Returns
    -------
    Matches
        Greedy: the pair of the highest IoU, then the highest of what is left; of equal ones the first.

    Raises
    ------
    RLEError, ConfigError
        As for `iou_matrix`.

    """
    _check_share("min_iou", min_iou)
    return _match(iou_matrix(first, second, size=size, threshold=threshold, form=form), min_iou)


def recall(
    predicted: Any,
    truth: Any,
    *,
    min_ious: Sequence[float] = DEFAULT_MIN_IOUS,
    size: tuple[int, int] | None = None,
    threshold: float = 0.5,
    form: Form = "auto",
) -> NDArray[np.float64]:
    """Share of the true masks that a prediction matches, one to one.

    Parameters
    ----------
    predicted, truth, size, threshold, form
        As for `iou_matrix`.
    min_ious
        Least IoUs of a match. The mean of the result is COCO's average recall, for one image and without classes.

    Returns
    -------
    NDArray[np.float64]
        Shape (len(min_ious),); NaN if there is no true mask.

    Raises
    ------
    RLEError, ConfigError
        As for `iou_matrix`.

    """
    for min_iou in min_ious:
        _check_share("min_ious", min_iou)
    matrix = iou_matrix(predicted, truth, size=size, threshold=threshold, form=form)
    # Greedy matching from the highest IoU down makes the same pairs above any threshold.
    found = _match(matrix, 0.0).iou[:, None] >= np.asarray(min_ious, np.float64)
    num_true = matrix.shape[1]
    return found.sum(axis=0) / num_true if num_true else np.full(len(min_ious), np.nan)


def _match(matrix: NDArray[np.float64], min_iou: float) -> Matches:
    rows, columns = np.nonzero((matrix > 0) & (matrix >= min_iou))
    order = np.argsort(-matrix[rows, columns], kind="stable")
    used_rows, used_columns = np.zeros(matrix.shape[0], bool), np.zeros(matrix.shape[1], bool)
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if not used_rows[row] and not used_columns[column]:
            used_rows[row] = used_columns[column] = True
            pairs.append((row, column))
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return Matches(first, second, matrix[first, second])


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name}: expected 0 to 1, found {value}")
