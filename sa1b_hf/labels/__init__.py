"""Labels for masks, from models, files and tables, behind one protocol."""

from __future__ import annotations

from .base import ABSTAINED, ImageMasks, Labeler, MaskLabels, Provenance, Vocabulary

__all__ = ["ABSTAINED", "ImageMasks", "Labeler", "MaskLabels", "Provenance", "Vocabulary"]
