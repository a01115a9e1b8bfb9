"""Which masks of an image to decode."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Select", "sample_masks"]

Select = Literal["random", "area", "predicted_iou", "stratified"]
"""``"random"``: any, each as likely as the other. ``"area"``, ``"predicted_iou"``: the highest. ``"stratified"``: as
many from each quarter of the masks by area, random within it."""

_QUARTERS = 4


def sample_masks(
    num_masks: int,
    max_masks: int | None,
    select: Select,
    rng: np.random.Generator,
    values: NDArray[np.number] | None = None,
) -> NDArray[np.int64]:
    """Choose at most `max_masks` masks.

    Parameters
    ----------
    num_masks
        How many there are.
    max_masks
        How many are wanted; None for all.
    select
        See `Select`.
    rng
        Of the random ways.
    values
        Shape (num_masks,): the scores, or areas, to select by; not needed for ``"random"``.

    Returns
    -------
    NDArray[np.int64]
        Indices in ascending order, so that the masks keep theirs.

    Examples
    --------
    >>> sample_masks(4, 2, "area", np.random.default_rng(0), np.array([5, 9, 1, 7])).tolist()
    [1, 3]

    """
    if max_masks is None or num_masks <= max_masks:
        return np.arange(num_masks)
    if select == "random" or values is None:
        chosen = rng.choice(num_masks, max_masks, replace=False)
    elif select == "stratified":
        chosen = _sample_quarters(np.argsort(values, kind="stable"), max_masks, rng)
    else:
        # NaN goes last, and of equal ones the earlier is kept
        chosen = np.argsort(-values.astype(np.float64), kind="stable")[:max_masks]
    return np.sort(chosen)


def _sample_quarters(by_area: NDArray[np.int64], max_masks: int, rng: np.random.Generator) -> NDArray[np.int64]:
    quarters = np.array_split(by_area, _QUARTERS)
    counts = np.zeros(_QUARTERS, np.int64)
    room = np.array([len(quarter) for quarter in quarters])
    # What does not divide by four goes to random quarters that have masks left.
    while (missing := max_masks - counts.sum()) > 0:
        open_quarters = rng.permutation(np.flatnonzero(counts < room))
        share = max(1, missing // len(open_quarters))
        for quarter in open_quarters[: missing // share]:
            counts[quarter] += min(share, room[quarter] - counts[quarter])
    return np.concatenate(
        [rng.choice(quarter, count, replace=False) for quarter, count in zip(quarters, counts, strict=True)]
    )
