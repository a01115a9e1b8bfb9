"""A file in COCO's format → the segments of each SA-1B image, in groups that are matched on their own."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pycocotools import mask as coco

from sa1b_hf import rle
from sa1b_hf.errors import ConfigError

from ._names import image_ids_of

__all__ = ["CocoFile", "Segment", "read_coco", "segmentation_of"]

_MIN_POLYGON = 6  # three points


@dataclass(frozen=True, slots=True)
class Segment:
    """One annotation of a file.

    Attributes
    ----------
    segmentation
        As in the file: run lengths, or polygons.
    label_id
        Place of its name among `CocoFile.names`.
    is_crowd
        Whether it shows several things at once.

    """

    segmentation: Any
    label_id: int
    is_crowd: bool = False


@dataclass(frozen=True)
class CocoFile:
    """The content of a file, by SA-1B's image ids.

    Attributes
    ----------
    name
        Of the file, without its folder.
    digest
        SHA-256 of the file, as 64 hexadecimal digits.
    names
        Of classes: categories in the order of their ids; or the texts of pairs, sorted.
    groups
        Of each image, lists of segments that do not share a mask: all of them; or those of each pair.
    negatives
        Of each image, label ids of pairs without annotations: what is not to be seen.
    num_rows
        Annotations in the file.
    unusable
        Annotations of it that are in no group, by reason.

    """

    name: str
    digest: str
    names: tuple[str, ...]
    groups: Mapping[int, list[list[Segment]]]
    negatives: Mapping[int, list[int]]
    num_rows: int
    unusable: Counter[str] = field(default_factory=Counter)


def read_coco(path: str | os.PathLike[str]) -> CocoFile:
    """Read a file in COCO's format.

    Parameters
    ----------
    path
        JSON with ``images``, ``annotations`` and ``categories``. The ``file_name`` of an image ends with SA-1B's, such
        as ``"sa_000020/sa_226692.jpg"``; images of other names are left out and counted.

    Returns
    -------
    CocoFile

    Raises
    ------
    ConfigError
        It is no such file, or names nothing.

    Notes
    -----
    Where images have a ``text_input``, as in SA-Co/Gold (SAM 3, ``scripts/eval/gold/README.md``), an entry is a pair of
    image and noun phrase, which takes the place of the category; a pair without annotations is a negative.

    """
    path = Path(path)
    try:
        data = path.read_bytes()
        content = json.loads(data)
        images = {image["id"]: image for image in content["images"]}
        annotations = content["annotations"]
        is_pairs = any("text_input" in image for image in images.values())
        names = _pair_names(images) if is_pairs else _category_names(content["categories"])
        targets = _image_ids(images)
        reader = _Reader(is_pairs, names, images, targets)
        for annotation in annotations:
            reader.add(annotation)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        expected = "expected JSON with 'images', 'annotations' and 'categories'"
        raise ConfigError(f"{path.name}: {expected}, found {error!r:.200}") from error
    if not names:
        raise ConfigError(f"{path.name}: expected categories, or images with 'text_input', found none")
    digest = hashlib.sha256(data).hexdigest()
    groups, negatives = reader.by_image()
    return CocoFile(path.name, digest, tuple(names), groups, negatives, len(annotations), reader.unusable)


class _Reader:
    """Sorts annotations by the entry of ``images`` that they belong to."""

    def __init__(self, is_pairs: bool, names: Mapping[str, Any], images: Mapping[Any, Any], targets: Any) -> None:
        self.unusable: Counter[str] = Counter()
        self._label_of = {key: index for index, keys in enumerate(names.values()) for key in keys}
        self._is_pairs, self._images, self._targets = is_pairs, images, targets
        self._segments: dict[Any, list[Segment]] = {}

    def add(self, annotation: Mapping[str, Any]) -> None:
        entry = annotation["image_id"]
        label_id = self._label_of.get(entry if self._is_pairs else annotation.get("category_id"))
        if reason := self._fault(annotation, entry, label_id):
            self.unusable[reason] += 1
            return
        is_crowd = bool(annotation.get("iscrowd", 0))
        segment = Segment(_sized(annotation["segmentation"], self._images[entry]), label_id or 0, is_crowd)
        self._segments.setdefault(entry, []).append(segment)

    def _fault(self, annotation: Mapping[str, Any], entry: Any, label_id: int | None) -> str | None:
        if entry not in self._images:
            return "image-unknown"
        if self._targets[entry] < 0:
            return "image-name"
        if label_id is None:
            return "category-unknown"
        return None if annotation.get("segmentation") else "no-segmentation"

    def by_image(self) -> tuple[dict[int, list[list[Segment]]], dict[int, list[int]]]:
        groups: dict[int, list[list[Segment]]] = {}
        negatives: dict[int, list[int]] = {}
        for entry, image_id in self._targets.items():
            if entry in self._segments:
                groups.setdefault(image_id, []).append(self._segments[entry])
            elif self._is_pairs and image_id >= 0 and entry in self._label_of:
                negatives.setdefault(image_id, []).append(self._label_of[entry])
        return groups, negatives


def _category_names(categories: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Ids of each name, names in the order of their first id."""
    names: dict[str, list[Any]] = {}
    for category in sorted(categories, key=lambda one: one["id"]):
        names.setdefault(category["name"], []).append(category["id"])
    return names


def _pair_names(images: Mapping[Any, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Entries of each text."""
    names: dict[str, list[Any]] = {}
    for entry, image in images.items():
        if text := str(image.get("text_input") or "").strip():
            names.setdefault(text, []).append(entry)
    return dict(sorted(names.items()))


def _image_ids(images: Mapping[Any, Mapping[str, Any]]) -> dict[Any, int]:
    names = pa.array([image.get("file_name") or "" for image in images.values()], pa.string())
    return dict(zip(images, image_ids_of(names).tolist(), strict=True))


def _sized(segmentation: Any, image: Mapping[str, Any]) -> Any:
    """Run lengths as they are; polygons with the size of their image, as ``{"size", "polygons"}``."""
    if isinstance(segmentation, Mapping):
        return segmentation
    return {"size": [image.get("height"), image.get("width")], "polygons": segmentation}


def segmentation_of(segment: Segment) -> Any:
    """Give the run lengths of a segment.

    Parameters
    ----------
    segment
        Of a `CocoFile`.

    Returns
    -------
    dict or None
        ``{"size", "counts"}``; None if it is malformed.

    """
    mask = segment.segmentation
    try:
        if "polygons" in mask:
            return _draw(mask["polygons"], *mask["size"])
        rle.validate(mask)
    except (ValueError, TypeError, KeyError):  # every error of run lengths is a ValueError
        return None
    return mask


def _draw(polygons: Any, height: int, width: int) -> dict[str, Any]:
    if not (0 < height <= rle.MAX_SIDE and 0 < width <= rle.MAX_SIDE and height * width <= rle.MAX_PIXELS):
        raise ValueError("size")
    parts = [np.asarray(part, np.float64) for part in polygons]
    for part in parts:
        # pycocotools neither checks the length of what it reads nor where a corner lies
        inside = part.ndim == 1 and len(part) >= _MIN_POLYGON and not len(part) % 2
        if not inside or not (np.abs(part - max(height, width) / 2) <= max(height, width)).all():
            raise ValueError("polygon")
    drawn: dict[str, Any] = coco.merge(coco.frPyObjects([part.tolist() for part in parts], height, width))
    return drawn
