"""Pairs of masks and segments, by how much they overlap; and why a segment has no pair."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sa1b_hf import rle
from sa1b_hf.errors import MissingExtraError

from ._coco_file import Segment, segmentation_of

__all__ = ["Match", "Pairs", "assign", "match_group"]

Match = Literal["one_to_one", "many_to_one", "part_of"]
"""``"one_to_one"``: the pairs of the highest sum of IoU, none of a mask or segment twice. ``"many_to_one"``: each mask
takes the segment of its highest IoU. ``"part_of"``: each mask takes the smallest segment that it lies in."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of masks and segments.

    Attributes
    ----------
    masks, segments
        int64, shape (P,).
    scores
        float64, shape (P,): IoU, or for ``"part_of"`` the part of the mask within the segment.

    """

    masks: NDArray[np.int64]
    segments: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.masks)


_NONE = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def assign(scores: NDArray[np.float64], min_score: float) -> Pairs:
    """Pair one to one so that the sum of scores is the highest.

    Parameters
    ----------
    scores
        Shape (N, M) of masks and segments.
    min_score
        Pairs below it, and those of 0, do not count.

    Returns
    -------
    Pairs

    Raises
    ------
    MissingExtraError
        `scipy` is not installed.

    """
    try:
        optimize = importlib.import_module("scipy.optimize")
    except ImportError as error:
        raise MissingExtraError("one-to-one matching", "transfer") from error
    masks, segments = optimize.linear_sum_assignment(np.where(scores >= min_score, scores, 0), maximize=True)
    found = scores[masks, segments]
    good = (found >= min_score) & (found > 0)
    return Pairs(masks[good], segments[good], found[good])


def match_group(
    masks: Any, size: tuple[int, int], group: Sequence[Segment], match: Match, min_score: float
) -> tuple[Pairs, Counter[str]]:
    """Match the segments of one group to the masks of an image.

    Parameters
    ----------
    masks
        N masks in any form of `sa1b_hf.rle`.
    size
        (h, w) of the image in pixels.
    group
        Segments.
    match, min_score
        See `Match`; the least score of a pair.

    Returns
    -------
    pairs : Pairs
        Indices of masks, and of segments within `group`.
    unmatched : Counter of str
        Segments without a mask, by reason: ``"malformed"``, ``"size-mismatch"``, ``"crowd"`` (of one to one),
        ``"no-overlap"``, ``"low-overlap"``, and ``"taken"`` where every mask that would do chose another segment.

    Raises
    ------
    RLEError
        One of the masks is malformed.

    """
    unmatched: Counter[str] = Counter()
    segmentations, kept = [], []
    for index, segment in enumerate(group):
        segmentation = segmentation_of(segment)
        if reason := _fault(segment, segmentation, size, match):
            unmatched[reason] += 1
        else:
            segmentations.append(segmentation)
            kept.append(index)
    if not kept:
        return _NONE, unmatched
    crowd = [match == "part_of" or group[index].is_crowd for index in kept]
    scores = rle.iou(masks, segmentations, iscrowd=crowd)
    pairs = _pair(scores, match, min_score, segmentations)
    best = scores.max(axis=0, initial=0)
    best[np.unique(pairs.segments)] = np.nan
    unmatched["no-overlap"] += int((best == 0).sum())
    unmatched["low-overlap"] += int(((best > 0) & (best < min_score)).sum())
    unmatched["taken"] += int(((best > 0) & (best >= min_score)).sum())
    return Pairs(pairs.masks, np.asarray(kept)[pairs.segments], pairs.scores), +unmatched


def _fault(segment: Segment, segmentation: Any, size: tuple[int, int], match: Match) -> str | None:
    if segmentation is None:
        return "malformed"
    if tuple(segmentation["size"]) != tuple(size):
        return "size-mismatch"
    return "crowd" if segment.is_crowd and match == "one_to_one" else None


def _pair(scores: NDArray[np.float64], match: Match, min_score: float, segmentations: Any) -> Pairs:
    if not len(scores):
        return _NONE
    if match == "one_to_one":
        return assign(scores, min_score)
    if match == "many_to_one":
        best = scores.argmax(axis=1)
    else:
        holds = (scores >= min_score) & (scores > 0)
        best = np.where(holds, -rle.area(segmentations), np.iinfo(np.int64).min).argmax(axis=1)
    found = scores[np.arange(len(scores)), best]
    good = np.flatnonzero((found >= min_score) & (found > 0))
    return Pairs(good, best[good], found[good])
