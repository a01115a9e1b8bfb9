"""COCO run-length masks: validate, decode to any form and size, measure, compare, encode.

Masks are given as

- a COCO segmentation ``{"size": [h, w], "counts": ...}`` with ``counts`` as str, bytes or a list of run lengths,
- an annotation that has such a ``segmentation``, and an ``id`` to name it by in errors,
- a sequence of either, or an Arrow array of either (`features.ANNOTATION_TYPE`), or of lists of either: no Python
  object is made per mask then.

One mapping gives results without the leading axis; everything else gives N of them. What is malformed raises `RLEError`
(``reason`` and ``where["mask"]`` say what and which) before a pixel of it is written.
"""

from __future__ import annotations

from ._rle_decode import bits, crops, decode, label_map
from ._rle_encode import encode, merge
from ._rle_fix import fix
from ._rle_input import MAX_COUNTS, MAX_PIXELS, MAX_SIDE, Segmentations
from ._rle_measure import area, bbox, iou, point, validate
from ._rle_output import MAX_OUTPUT_BYTES, Crops, MaskBuffer

__all__ = [
    "MAX_COUNTS",
    "MAX_OUTPUT_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "Crops",
    "MaskBuffer",
    "Segmentations",
    "area",
    "bbox",
    "bits",
    "crops",
    "decode",
    "encode",
    "fix",
    "iou",
    "label_map",
    "merge",
    "point",
    "validate",
]
