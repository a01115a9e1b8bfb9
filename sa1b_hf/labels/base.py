"""What names masks: the protocol of labelers, their words and their provenance, and the hooks that apply them.

A labeler is an object with ``provenance`` and ``label(images)``, see `Labeler`. Its labels become a column ``labels``,
aligned one to one with ``annotations``.
"""

from __future__ import annotations

from ._batching import LabelCounts, read_images
from ._columns import label_features
from ._converted import LabelledShard, iter_label_converted
from ._hooks import LabelTransform, OnError, label_masks
from ._provenance import Provenance
from ._types import ABSTAINED, ImageMasks, Labeler, MaskLabels
from ._vocabulary import Vocabulary

__all__ = [
    "ABSTAINED",
    "ImageMasks",
    "LabelCounts",
    "LabelTransform",
    "Labeler",
    "LabelledShard",
    "MaskLabels",
    "OnError",
    "Provenance",
    "Vocabulary",
    "iter_label_converted",
    "label_features",
    "label_masks",
    "read_images",
]
