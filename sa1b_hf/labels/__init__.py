"""Labels for masks, from models, files and tables, behind one protocol."""

from __future__ import annotations

from .base import ABSTAINED, ImageMasks, Labeler, LabelTransform, MaskLabels, Provenance, Vocabulary, label_masks
from .clip import ClipLabeler

__all__ = [
    "ABSTAINED",
    "ClipLabeler",
    "ImageMasks",
    "LabelTransform",
    "Labeler",
    "MaskLabels",
    "Provenance",
    "Vocabulary",
    "label_masks",
]
