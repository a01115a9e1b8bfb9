"""Which images and which masks to keep, decided on whole columns, with the reasons counted.

A reason is the name of the option that rejected, or ``"no_masks"``; the first that rejects wins, so that counts add up
to what was rejected.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ._columns import Check, Mask, filter_lists, first_failures, keep_top, list_lengths, to_numpy
from ._ids import hash_ids, is_int, read_ids
from ._option_checks import check_at_least_one, check_number, check_order, check_seed
from .errors import ConfigError

__all__ = ["AnnotationFilter", "ImageFilter", "Select", "read_ids"]

Select = Literal["predicted_iou", "stability_score", "area", "random", "first"]
"""By what `AnnotationFilter.max_masks` prefers masks; the scores and ``"area"`` prefer large values."""


@dataclass(frozen=True)
class AnnotationFilter:
    """Which masks of an image to keep. All limits are inclusive; None is no limit.

    Attributes
    ----------
    min_predicted_iou, min_stability_score
        Lowest scores; NaN and null never pass. Those of SA-1B begin at 0.88 and 0.95.
    min_area, max_area
        An int of 1 or more is in pixels; a float over 0 and up to 1.0 is a fraction of the image, width times height.
    max_masks
        Keep this many masks of those that pass, in their original order.
    select
        Which ones those are: the highest by a column (ties: the earlier), the first, or random ones.
    seed
        Of ``select="random"``, which depends on seed, image id and annotation id, not on the order of anything.

    Raises
    ------
    ConfigError
        An option is out of range, or the limits exclude each other.

    Examples
    --------
    >>> AnnotationFilter(min_area=0.001, max_masks=64, select="area").max_masks
    64

    """

    min_predicted_iou: float | None = None
    min_stability_score: float | None = None
    min_area: float | None = None
    max_area: float | None = None
    max_masks: int | None = None
    select: Select = "predicted_iou"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("min_predicted_iou", "min_stability_score"):
            check_number(name, getattr(self, name), "a finite number", lambda _: True)
        for name in ("min_area", "max_area"):
            check_number(
                name,
                getattr(self, name),
                "an int of 1 or more (pixels) or a float over 0 and up to 1.0 (fraction of the image)",
                lambda area: 1 <= area < 2**63 if is_int(area) else 0 < area <= 1,
            )
        check_at_least_one(self, "max_masks")
        check_order(self, "min_area", "max_area")
        if self.select not in get_args(Select):
            raise ConfigError(f"select: expected one of {list(get_args(Select))}, found {self.select!r}")
        check_seed(self.seed)

    @property
    def keeps_all(self) -> bool:
        """No limit is set."""
        return self == AnnotationFilter(select=self.select, seed=self.seed)

    def apply(
        self,
        annotations: pa.ListArray | pa.LargeListArray,
        *,
        width: pa.Array,
        height: pa.Array,
        image_id: pa.Array,
    ) -> tuple[pa.ListArray | pa.LargeListArray, dict[str, int]]:
        """Filter the masks of a batch of images.

        Parameters
        ----------
        annotations
            One list of annotations per image, of any type with the fields of `features.ANNOTATION_TYPE` that the
            options name; slices and null lists are fine.
        width, height
            Pixels, one per image.
        image_id
            One per image.

        Returns
        -------
        pa.ListArray or pa.LargeListArray
            As many lists, of exactly the same type; the same object if no mask is rejected.
        dict of str to int
            Number of rejected masks by reason, without zeros.
        """
        if self.keeps_all:
            return annotations, {}
        lengths = list_lengths(annotations)
        values = annotations.flatten()
        keep, counts = first_failures(self._checks(values, lengths, width, height), len(values))
        if self.max_masks is not None:
            cut = keep_top(keep, lengths, self.max_masks, self._sort_key(values, lengths, image_id))
            counts["max_masks"] = int(np.count_nonzero(keep) - np.count_nonzero(cut))
            keep = cut
        counts = {reason: count for reason, count in counts.items() if count}
        return (filter_lists(annotations, values, lengths, keep) if counts else annotations), counts

    def _checks(
        self, values: pa.StructArray, lengths: NDArray[np.int64], width: pa.Array, height: pa.Array
    ) -> Iterable[Check]:
        for column in ("predicted_iou", "stability_score"):
            minimum = getattr(self, f"min_{column}")
            if minimum is not None:
                yield f"min_{column}", _column(values, column) >= minimum
        if self.min_area is None and self.max_area is None:
            return
        area = _column(values, "area")
        # Both factors are exact in float64, which also turns a null size into NaN, and NaN passes no limit.
        pixels = np.repeat(to_numpy(width).astype(np.float64) * to_numpy(height), lengths)
        if self.min_area is not None:
            yield "min_area", area >= (self.min_area if is_int(self.min_area) else self.min_area * pixels)
        if self.max_area is not None:
            yield "max_area", area <= (self.max_area if is_int(self.max_area) else self.max_area * pixels)

    def _sort_key(self, values: pa.StructArray, lengths: NDArray[np.int64], image_id: pa.Array) -> NDArray[Any] | None:
        """Give numbers of which the smallest are preferred, or None to prefer the first."""
        if self.select == "first":
            return None
        if self.select == "random":
            image_hash = hash_ids(self.seed, to_numpy(image_id.fill_null(0)))
            return hash_ids(np.repeat(image_hash, lengths), _column(values, "id"))
        # NaN sorts last, negated or not.
        return -_column(values, self.select)


@dataclass(frozen=True)
class ImageFilter:
    """Which images to keep. All limits are inclusive; None is no limit.

    Attributes
    ----------
    min_width, min_height, max_width, max_height
        Pixels.
    min_short_side
        Pixels, of the smaller of width and height.
    ids
        Image ids; anything that `read_ids` takes is turned into a frozenset.
    sample_fraction
        Keep about this part of the images, over 0 and up to 1. Which ones depends on seed and image id alone, and of
        one seed a smaller fraction is a subset of a larger one.
    seed
        Of `sample_fraction`.
    drop_empty
        Drop images without masks, or without any left by an `AnnotationFilter`.

    Raises
    ------
    ConfigError
        An option is out of range, or the limits exclude each other.

    Examples
    --------
    >>> ImageFilter(ids=[560, 561]).accepts_id(1)
    'ids'

    """

    min_width: int | None = None
    min_height: int | None = None
    max_width: int | None = None
    max_height: int | None = None
    min_short_side: int | None = None
    ids: frozenset[int] | None = None
    sample_fraction: float | None = None
    seed: int = 0
    drop_empty: bool = False

    def __post_init__(self) -> None:
        for name in ("min_width", "min_height", "max_width", "max_height", "min_short_side"):
            check_at_least_one(self, name)
        check_order(self, "min_width", "max_width")
        check_order(self, "min_height", "max_height")
        expected = "a fraction over 0 and up to 1"
        check_number("sample_fraction", self.sample_fraction, expected, lambda fraction: 0 < fraction <= 1)
        check_seed(self.seed)
        if self.ids is not None:
            object.__setattr__(self, "ids", read_ids(self.ids))

    @property
    def keeps_all(self) -> bool:
        """No limit is set."""
        return self == ImageFilter(seed=self.seed)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle alike what is equal: caches are keyed by the pickle, and the order of a set is accidental."""
        values = (getattr(self, field.name) for field in fields(self))
        return ImageFilter, tuple(sorted(value) if isinstance(value, frozenset) else value for value in values)

    def accepts_id(self, image_id: int) -> str | None:
        """Tell why an image is rejected by its id alone, before any of its bytes are read; None if it is not."""
        if self.ids is not None and image_id not in self.ids:
            return "ids"
        if self.sample_fraction is not None and not self._sample(np.array([image_id], np.int64))[0]:
            return "sample_fraction"
        return None

    def describe_ids(self) -> str:
        """Give a short text that is the same for filters that `accepts_id` alike."""
        ids = None if self.ids is None else sorted(self.ids)
        return hashlib.sha256(repr((ids, self.sample_fraction, self.seed)).encode()).hexdigest()

    def keep_ids(self, image_ids: NDArray[np.int64]) -> Mask:
        """Tell for many ids at once what `accepts_id` tells for one.

        Parameters
        ----------
        image_ids
            Shape (n,).

        Returns
        -------
        NDArray[np.bool_]
            Shape (n,), True where the image is kept.
        """
        image_ids = np.asarray(image_ids, np.int64)
        keep = np.ones(image_ids.shape, np.bool_) if self.ids is None else np.isin(image_ids, self._sorted_ids)
        return keep if self.sample_fraction is None else keep & self._sample(image_ids)

    def apply(self, batch: pa.RecordBatch | Mapping[str, pa.Array]) -> tuple[Mask | None, dict[str, int]]:
        """Filter a batch of images by size and number of masks; ids are the matter of `accepts_id` and `keep_ids`.

        Parameters
        ----------
        batch
            Columns ``width`` and ``height`` if a size is limited, ``annotations`` for `drop_empty`.

        Returns
        -------
        NDArray[np.bool_] or None
            Shape (n,), True where the image is kept; None if all are.
        dict of str to int
            Number of rejected images by reason, without zeros.

        Raises
        ------
        ConfigError
            A column is missing.
        """
        checks = list(self._checks(batch))
        keep, counts = first_failures(checks, len(checks[0][1]) if checks else 0)
        counts = {reason: count for reason, count in counts.items() if count}
        return (keep if counts else None), counts

    def _checks(self, batch: pa.RecordBatch | Mapping[str, pa.Array]) -> Iterable[Check]:
        for side in ("width", "height"):
            minimum, maximum = getattr(self, f"min_{side}"), getattr(self, f"max_{side}")
            if minimum is not None:
                yield f"min_{side}", to_numpy(_batch_column(batch, side)) >= minimum
            if maximum is not None:
                yield f"max_{side}", to_numpy(_batch_column(batch, side)) <= maximum
        if self.min_short_side is not None:
            width, height = (to_numpy(_batch_column(batch, side)) for side in ("width", "height"))
            yield "min_short_side", np.minimum(width, height) >= self.min_short_side
        if self.drop_empty:
            yield "no_masks", list_lengths(_batch_column(batch, "annotations")) > 0

    def _sample(self, image_ids: NDArray[np.int64]) -> Mask:
        fraction = 1.0 if self.sample_fraction is None else self.sample_fraction
        if fraction == 1:
            return np.ones(image_ids.shape, np.bool_)
        sampled: Mask = hash_ids(self.seed, image_ids) < np.uint64(int(fraction * 2**64))
        return sampled

    @functools.cached_property
    def _sorted_ids(self) -> NDArray[np.int64]:
        return np.array(sorted(self.ids or ()), np.int64)


def _column(values: pa.StructArray, name: str) -> NDArray[Any]:
    if values.type.get_field_index(name) < 0:
        raise ConfigError(f"AnnotationFilter: annotations need the field {name!r}, found only {values.type}")
    return to_numpy(pc.struct_field(values, name).fill_null(0) if name == "id" else pc.struct_field(values, name))


def _batch_column(batch: pa.RecordBatch | Mapping[str, pa.Array], name: str) -> pa.Array:
    try:
        return batch[name]
    except KeyError:
        raise ConfigError(f"ImageFilter: the column {name!r} is needed and missing; add it to columns") from None
