"""Rows of a table → images with masks → labels, whatever the labeler does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from sa1b_hf import rle
from sa1b_hf._example import check_mask_sizes, original_size
from sa1b_hf._rows import read_annotations, split_rows
from sa1b_hf.errors import ConfigError, MissingExtraError, RecordError

from ._types import ImageMasks, Labeler, MaskLabels

__all__ = ["LabelCounts", "label_images", "read_images"]

_COLUMNS = ("image", "image_id", "width", "height", "file_name", "shard", "annotations")
_MAX_NAMED = 5  # annotation ids in a message; `where` has them all


@dataclass
class LabelCounts:
    """What became of masks.

    Attributes
    ----------
    images, masks
        Seen.
    without_masks
        Images that have none.
    labelled, abstained
        Masks with and without a label; together `masks`.
    not_finite
        Masks that are abstained from because the model gave NaN or infinity.
    failed
        Images whose masks are all abstained from because something raised, by reason.

    """

    images: int = 0
    masks: int = 0
    without_masks: int = 0
    labelled: int = 0
    abstained: int = 0
    not_finite: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, labels: MaskLabels) -> None:
        """Count the masks of one image."""
        abstained = int(labels.abstained.sum())
        self.images += 1
        self.masks += len(labels)
        self.without_masks += not len(labels)
        self.labelled += len(labels) - abstained
        self.abstained += abstained
        self.not_finite += int(labels.not_finite.sum())

    def merge(self, other: LabelCounts) -> None:
        """Add the counts of another pass."""
        for name in ("images", "masks", "without_masks", "labelled", "abstained", "not_finite"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failed.update(other.failed)

    def to_dict(self) -> dict[str, Any]:
        """Give the counts as JSON can hold them."""
        return {**self.__dict__, "failed": dict(sorted(self.failed.items()))}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LabelCounts:
        """Give back what `to_dict` gave."""
        return cls(**{**content, "failed": Counter(content["failed"])})

    def __str__(self) -> str:
        """One line for people."""
        parts = [f"{self.masks:,} masks of {self.images:,} images", f"{self.labelled:,} labelled"]
        parts.append(f"{self.abstained:,} abstained")
        parts += [f"{self.not_finite:,} of them not finite"] if self.not_finite else []
        parts += [f"{count:,} images failed ({reason})" for reason, count in sorted(self.failed.items())]
        return ", ".join(parts)


def read_images(data: Any) -> list[ImageMasks]:
    """Take the images of a table, or of a batch or row of `datasets`.

    Parameters
    ----------
    data
        With ``annotations`` and, as far as needed, ``image``, ``image_id``, ``width``, ``height``, ``file_name`` and
        ``shard``. From a table no mask becomes a Python object.

    Returns
    -------
    list of ImageMasks

    Raises
    ------
    AnnotationError, RLEError
        The annotations of a row are not what they should be; ``where`` has its ``image_id``.
    ConfigError
        A column is missing.

    """
    rows = split_rows(data, _COLUMNS)
    return [_read_row(row) for row in ([data] if rows is None else rows)]


def _read_row(row: Any) -> ImageMasks:
    if "annotations" not in row:
        raise ConfigError(f"expected a column 'annotations', found {sorted(row)}")
    image_id = None if row.get("image_id") is None else int(row["image_id"])
    annotations = read_annotations(row["annotations"], image_id)
    image = row.get("image")
    if isinstance(image, Mapping) and all(value is None for value in image.values()):
        image = None
    # An image whose size nobody tells is of no use to a labeler either.
    size = original_size(row, image, annotations)
    try:
        check_mask_sizes(annotations, size)
        boxes = annotations.boxes()
        boxes = rle.bbox(annotations.values).astype(np.float64) if boxes is None else boxes
    except RecordError as error:
        where = {**error.where, "image_id": image_id}
        shard = row.get("shard") or error.shard
        raise type(error)(f"sa_{image_id}: {error.message}", reason=error.reason, shard=shard, **where) from error
    ids = annotations.numbers("id", np.int64)
    ids = np.full(len(annotations), -1, np.int64) if ids is None else ids
    names = {name: row.get(name) for name in ("file_name", "shard")}
    return ImageMasks(image, size, annotations.values, boxes, ids, image_id, **names)


def label_images(
    labeler: Labeler, images: Sequence[ImageMasks], counts: LabelCounts, *, tolerant: bool
) -> list[MaskLabels]:
    """Label a batch; a failure is pinned to its image.

    Parameters
    ----------
    labeler
        Called with all images first, and with each of them if that raises.
    images
        Of the batch.
    counts
        To add to.
    tolerant
        Abstain from all masks of an image that fails, and from masks without finite scores, and count them.

    Returns
    -------
    list of MaskLabels
        One per image.

    Raises
    ------
    RecordError
        An image failed: ``where`` has ``image_id`` and ``annotation_ids``, ``reason`` is that of the failure,
        ``"labeler"`` if it has none, ``"not-finite"`` for scores that are NaN or infinite.

    """
    try:
        results = _call(labeler, images)
    except (ConfigError, MissingExtraError):
        raise  # the options are wrong, not an image
    except Exception:
        results = [_label_one(labeler, image, counts, tolerant=tolerant) for image in images]
    for image, labels in zip(images, results, strict=True):
        if not tolerant and (missing := labels.not_finite).any():
            count = f"{int(missing.sum())} of {len(labels)} masks"
            advice = "float16 overflows where bfloat16 does not; on_error='skip' abstains and counts"
            message = f"expected finite scores, found NaN or infinity for {count}; {advice}"
            raise _error(labeler, image, "not-finite", message, image.annotation_ids[missing])
        counts.add(labels)
    return results


def _call(labeler: Labeler, images: Sequence[ImageMasks]) -> list[MaskLabels]:
    results = list(labeler.label(images))
    if len(results) != len(images):
        raise ValueError(f"expected labels for each of {len(images)} images, found {len(results)}")
    num_names = len(labeler.provenance.vocabulary)
    for image, labels in zip(images, results, strict=True):
        if len(labels) != len(image):
            raise ValueError(f"expected labels for each of {len(image)} masks, found {len(labels)}")
        if labels.label_ids.size and not -1 <= labels.label_ids.min() <= labels.label_ids.max() < num_names:
            raise ValueError(f"expected label ids of -1 to {num_names - 1}, found {labels.label_ids.max()}")
    return results


def _label_one(labeler: Labeler, image: ImageMasks, counts: LabelCounts, *, tolerant: bool) -> MaskLabels:
    try:
        return _call(labeler, [image])[0]
    except Exception as error:
        reason = error.reason if isinstance(error, RecordError) else "labeler"
        if not tolerant:
            message = f"{type(error).__name__}: {error}"
            raise _error(labeler, image, reason, message, image.annotation_ids) from error
        counts.failed[reason] += 1
        return MaskLabels.nothing(len(image), labeler.provenance.embedding_dim)


def _error(labeler: Labeler, image: ImageMasks, reason: str, message: str, ids: Any) -> RecordError:
    named = [int(one) for one in ids]
    shown = ", ".join(map(str, named[:_MAX_NAMED])) + (", …" if len(named) > _MAX_NAMED else "")
    place = f"sa_{image.image_id}, annotations {shown or 'none'}"
    text = f"{place}: {type(labeler).__name__}: {message}"
    return RecordError(text, reason=reason, shard=image.shard, image_id=image.image_id, annotation_ids=named)


def iter_slices(table: pa.Table, rows: int) -> list[pa.Table]:
    """Cut a table into slices of some rows; nothing is copied."""
    return [table.slice(first, rows) for first in range(0, table.num_rows, rows)]
