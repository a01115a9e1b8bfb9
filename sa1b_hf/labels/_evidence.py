"""Which mask got which label with which score, in any order → the labels of the masks of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .base import ABSTAINED, MaskLabels

__all__ = ["labels_from_evidence"]

_LEAST = np.finfo(np.float32).tiny


def labels_from_evidence(
    count: int,
    masks: ArrayLike,
    label_ids: ArrayLike,
    scores: ArrayLike,
    *,
    top_k: int = 5,
    num_names: int | None = None,
) -> MaskLabels:
    """Gather what was found out about the masks of an image.

    Parameters
    ----------
    count
        Number of masks, N.
    masks, label_ids, scores
        Shape (M,): which mask got which label with which score over 0; of a pair found twice the better score counts.
    top_k
        Most labels of a mask.
    num_names
        Label ids from here on are background words: a mask for which one of them is best is abstained from.

    Returns
    -------
    MaskLabels
        Of N masks; abstained, with a score of 0 and margin and entropy of NaN, where nothing was found.

    """
    which, found, values = np.asarray(masks, np.int64), np.asarray(label_ids, np.int32), np.asarray(scores, np.float32)
    is_name = np.ones(len(found), bool) if num_names is None else found < num_names
    if not is_name.any():
        return MaskLabels.nothing(count)
    # only the labels of this image get a column: there may be a million in all
    known, column = np.unique(found, return_inverse=True)
    table = np.zeros((count, len(known)), np.float32)
    np.maximum.at(table, (which, column), values)
    num_columns = int((known < num_names).sum()) if num_names is not None else None
    chosen = MaskLabels.from_scores(table, top_k=top_k, num_names=num_columns, min_score=float(_LEAST))
    is_given = (chosen.scores > 0) & ~chosen.abstained[:, None]
    ids = np.where(is_given, known[np.maximum(chosen.label_ids, 0)], ABSTAINED)
    unknown = chosen.scores[:, 0] == 0
    margin, entropy = (np.where(unknown, np.nan, values) for values in (chosen.margin, chosen.entropy))
    return MaskLabels(ids, chosen.scores, margin, entropy)
