"""A pool of pictures with their annotations, made once a process; each image is a cheap variation on one of them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco

from .masks import PlacedMask, dense_mask, make_masks
from .photos import encode_jpeg, paint_photo
from .presets import PRESETS

__all__ = ["Scene", "make_scene"]

_SEED = 20230405  # the pool is the same in every process
_MIN_IOU, _MIN_STABILITY = 0.88, 0.95  # thresholds of the generator that made the real annotations
_WHOLE_IMAGE, _OFF_MASK = 0.7, 0.05  # shares of the crops and of the prompts
_ID_SLOT = '"id": '


class Scene(NamedTuple):
    """One picture of the pool.

    Attributes
    ----------
    width, height
        In pixels.
    jpeg
        Bytes of the file, without a comment.
    annotations
        JSON text of each annotation, cut in two where its id goes.

    """

    width: int
    height: int
    jpeg: bytes
    annotations: tuple[tuple[str, str], ...]


@lru_cache(maxsize=64)
def make_scene(preset_name: str, width: int, height: int, variant: int) -> Scene:
    """Draw picture `variant` of a preset's pool at a size in pixels; made once, then remembered."""
    preset = PRESETS[preset_name]
    rng = np.random.default_rng([_SEED, width, height, variant])
    masks = make_masks(rng, preset.num_masks(variant), height=height, width=width, median_share=preset.median_share)
    pixels = paint_photo(rng, masks, height=height, width=width, grain=preset.grain)
    order = rng.permutation(len(masks))
    annotations = tuple(_cut(_annotation(rng, masks[index], height, width)) for index in order)
    return Scene(width, height, encode_jpeg(pixels), annotations)


def _cut(annotation: dict[str, Any]) -> tuple[str, str]:
    head, _, tail = json.dumps(annotation).partition(_ID_SLOT + "0")
    return head + _ID_SLOT, tail


def _score(rng: np.random.Generator, low: float, high: float, mode: float) -> float:
    """Score within [low, high), exact in float32 as the real ones are."""
    value = np.float32(rng.triangular(low, mode, high))
    return float(np.clip(value, np.nextafter(np.float32(low), np.float32(2)), np.float32(high - 1e-6)))


def _crop_box(rng: np.random.Generator, mask: PlacedMask, height: int, width: int) -> list[float]:
    """The whole image, or a crop around the mask; XYWH in pixels."""
    if rng.random() < _WHOLE_IMAGE:
        return [0.0, 0.0, float(width), float(height)]
    tall, wide = mask.patch.shape
    left, top = int(rng.integers(mask.left + 1)), int(rng.integers(mask.top + 1))
    right = int(rng.integers(mask.left + wide, width + 1))
    bottom = int(rng.integers(mask.top + tall, height + 1))
    return [float(left), float(top), float(right - left), float(bottom - top)]


def _point(rng: np.random.Generator, mask: PlacedMask, crop_box: list[float]) -> list[float]:
    """The prompt: [x, y] in sixteenths of a pixel, mostly on the mask, always in the crop box."""
    on_mask = np.flatnonzero(mask.patch)
    row, column = divmod(int(on_mask[rng.integers(on_mask.size)]), mask.patch.shape[1])
    x, y = mask.left + column, mask.top + row
    if rng.random() < _OFF_MASK:
        x = int(crop_box[0] + rng.integers(int(crop_box[2])))
        y = int(crop_box[1] + rng.integers(int(crop_box[3])))
    return [x + int(rng.integers(16)) / 16, y + int(rng.integers(16)) / 16]


def _annotation(rng: np.random.Generator, mask: PlacedMask, height: int, width: int) -> dict[str, Any]:
    """One annotation in Meta's keys and their order, with id 0."""
    encoded = coco.encode(dense_mask(mask, height=height, width=width))
    tall, wide = mask.patch.shape
    crop_box = _crop_box(rng, mask, height, width)
    return {
        # One less than the COCO convention: xmax-xmin and ymax-ymin.
        "bbox": [float(mask.left), float(mask.top), float(wide - 1), float(tall - 1)],
        "area": mask.area,
        "segmentation": {"size": [height, width], "counts": encoded["counts"].decode("ascii")},
        "predicted_iou": _score(rng, _MIN_IOU, 1.05, 0.96),
        "point_coords": [_point(rng, mask, crop_box)],
        "crop_box": crop_box,
        "id": 0,
        "stability_score": _score(rng, _MIN_STABILITY, 1.0, 0.97),
    }
