"""Synthetic JSON documents and the JPEGs that belong to them, each a function of an image id and a seed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .photos import tag_jpeg
from .presets import Preset, get_preset, nearest_preset
from .scenes import Scene, make_scene

__all__ = ["document_bytes", "encode_document", "image_size", "jpeg_bytes", "make_document", "make_jpeg"]

_FIRST_ANNOTATION_ID = (1 << 30) + 1
_IDS_PER_IMAGE = 1024
_HANDFUL = 5


def _rng(image_id: int, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, image_id])


def _variant(image_id: int, seed: int, preset: Preset) -> int:
    # Neighbouring ids show different pictures: an odd factor walks through the whole pool.
    return (image_id * 7 + seed * 3) % preset.pool


def image_size(image_id: int, *, seed: int = 0, preset: str = "small") -> tuple[int, int]:
    """Width and height in pixels of an image of a preset."""
    chosen = get_preset(preset)
    return chosen.size(_variant(image_id, seed, chosen))


def _scene(image_id: int, seed: int, preset: Preset, width: int, height: int) -> Scene:
    return make_scene(preset.name, width, height, _variant(image_id, seed, preset))


def _kept(rng: np.random.Generator, count: int, sparse: float) -> list[int]:
    """Positions of the annotations that an image keeps of its picture's: most of them, rarely a handful."""
    least, most = (1, min(count, _HANDFUL)) if rng.random() < sparse else (max(1, round(0.8 * count)), count)
    keep = int(rng.integers(least, most + 1))
    return sorted(rng.permutation(count)[:keep].tolist())


def document_bytes(image_id: int, *, seed: int = 0, preset: str = "small") -> bytes:
    """Give the JSON file of an image; the same as ``encode_document(make_document(...))``, only faster."""
    width, height = image_size(image_id, seed=seed, preset=preset)
    chosen = get_preset(preset)
    annotations = _scene(image_id, seed, chosen, width, height).annotations
    first = _FIRST_ANNOTATION_ID + image_id * _IDS_PER_IMAGE
    kept = _kept(_rng(image_id, seed), len(annotations), chosen.sparse)
    body = ", ".join(f"{annotations[k][0]}{first + k}{annotations[k][1]}" for k in kept)
    image = {"image_id": image_id, "width": width, "height": height, "file_name": f"sa_{image_id}.jpg"}
    return f'{{"image": {json.dumps(image)}, "annotations": [{body}]}}'.encode("ascii")


def jpeg_bytes(image_id: int, *, seed: int = 0, preset: str = "small") -> bytes:
    """Give the JPEG file of an image of a preset: `make_jpeg` at `image_size`."""
    width, height = image_size(image_id, seed=seed, preset=preset)
    return _tagged(image_id, seed, get_preset(preset), width, height)


def _tagged(image_id: int, seed: int, preset: Preset, width: int, height: int) -> bytes:
    rng = _rng(image_id, seed)
    # No 0xFF in the filler: a reader that looks for markers must not find any.
    filler = rng.integers(0, 255, int(rng.integers(preset.max_comment + 1)), np.uint8).tobytes()
    comment = f"synthetic sa_{image_id} seed {seed} ".encode("ascii") + filler
    return tag_jpeg(_scene(image_id, seed, preset, width, height).jpeg, comment)


def make_document(image_id: int, *, seed: int = 0, preset: str = "small") -> dict[str, Any]:
    """Make a document in Meta's keys and key order.

    Parameters
    ----------
    image_id
        Id of the image, at least 0.
    seed
        Documents of one id and different seeds differ.
    preset
        Key of `PRESETS`.

    Returns
    -------
    dict
        ``image`` and ``annotations``. Boxes are XYWH in pixels with w = xmax-xmin, floats; ``size`` is (h, w);
        ``counts`` is COCO RLE text by pycocotools; scores are exact in float32; ids exceed 2**30 and are unique
        over all images.

    Raises
    ------
    ConfigError
        There is no such preset.

    Examples
    --------
    >>> document = make_document(226381)
    >>> document["image"]["file_name"], list(document["annotations"][0])[:3]
    ('sa_226381.jpg', ['bbox', 'area', 'segmentation'])

    """
    document: dict[str, Any] = json.loads(document_bytes(image_id, seed=seed, preset=preset))
    return document


def encode_document(document: dict[str, Any]) -> bytes:
    """Write a document as the real ones are written: one line of ASCII, ``", "`` and ``": "`` between tokens."""
    return json.dumps(document).encode("ascii")


def make_jpeg(image_id: int, *, width: int, height: int, seed: int = 0) -> bytes:
    """Make the photograph-like JPEG of an image.

    Parameters
    ----------
    image_id
        Id of the image, at least 0; each id has its own bytes.
    width, height
        In pixels. The size that `make_document` states gives the picture in which that document's masks are seen.
    seed
        The same as the document's.

    Returns
    -------
    bytes
        Baseline JFIF without EXIF, from SOI to EOI.

    """
    return _tagged(image_id, seed, nearest_preset(width, height), width, height)
