"""The hook for `datasets` that turns a row into arrays to train on: image and masks decoded at one size, together."""

from __future__ import annotations

import dataclasses
import operator
import sys
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset
from datasets import Image as ImageFeature
from numpy.typing import NDArray

from . import rle
from ._example import check_mask_sizes, describe, original_size
from ._layouts import Layout, Task, lay_out
from ._rows import Annotations, read_annotations, split_rows
from .errors import ConfigError, RecordError
from .images import Resample, decode_image
from .resizing import Geometry, Resize, check_target, pad_planes
from .sampling import Select, sample_masks

__all__ = ["DecodeMasks"]

_DTYPES = {
    ("stack", "nearest"): ("uint8", "bool"),
    ("stack", "area"): ("float32", "uint8"),
    ("crops", "nearest"): ("uint8", "bool"),
    ("label_map", "nearest"): ("uint8", "uint16", "uint32"),
    ("bits", "nearest"): ("uint8",),
}
_PER_MASK = ("masks", "boxes_xywh", "points_xy", "annotation_ids", "areas", "predicted_iou", "stability_score")
_PER_IMAGE = ("image_id", "original_size", "size", "scale_xy")
_SORT_KEYS = {"area": "area", "stratified": "area", "predicted_iou": "predicted_iou"}


@dataclass(frozen=True, kw_only=True)
class DecodeMasks:
    """Decode the image and the masks of a row, or of a batch of rows, at the size to train on.

    For `Dataset.map`, `IterableDataset.map` (each with ``batched=True`` or not), `Dataset.with_transform`, a
    ``collate_fn``, or a plain call. It can be pickled, has no state, and gives the same for the same row, `seed` and
    `epoch` in every process.

    Attributes
    ----------
    size
        Pixels of the side that `resize` names; or (h, w) with ``resize="exact"``; None for the original size.
    max_masks
        Most masks of an image; None for all.
    select
        Which ones: see `sa1b_hf.sampling.Select`. They keep their order.
    layout
        Form of ``masks``, with N masks of h x w pixels: ``"stack"``: (N, h, w). ``"label_map"``: (h, w), 0 for none
        and i + 1 for mask i, small masks over large ones. ``"bits"``: (N, h, ceil(w / 8)) uint8, as `numpy.packbits`
        gives. ``"crops"``: N arrays, each tight, and ``crop_boxes_xywh``, their places in whole pixels.
    resize
        ``"longest"``, ``"shortest"`` or ``"exact"``, see `sa1b_hf.resizing.Resize`. Small images are enlarged.
    pad
        Pad at the bottom and right to a square of `size`.
    pad_value
        What to pad the image with; masks get 0.
    image
        Decode the image too. A row without one, or whose image shall rest, needs ``image=False``.
    resample
        Filter for the image: ``"bilinear"``, ``"bicubic"``, ``"box"`` or ``"lanczos"``.
    mode
        How masks are resized: ``"nearest"``, with the pixels of ``cv2.INTER_NEAREST``, or ``"area"``, the share of
        each pixel that the mask covers, for ``"stack"`` only.
    dtype
        Of ``masks``: uint8 or bool for a stack and crops; float32 (0 to 1) or uint8 (0 to 255) with ``mode="area"``;
        uint8, uint16 or uint32 for a label map. By default the first of these that is sure to suffice.
    keep
        Further columns of the row to pass on, when it has them.
    seed, epoch
        Of the random selection, together with the image's id. See `with_epoch`.
    threads
        To decode the masks of one image with.

    Raises
    ------
    ConfigError
        An option is out of range, or does not go with another.

    Notes
    -----
    The result has ``image`` (h, w, 3) uint8 RGB; ``masks``; ``boxes_xywh`` (N, 4) and ``points_xy`` (N, K, 2) float32
    in pixels of the result, the boxes in SA-1B's convention, in which w is xmax - xmin; ``annotation_ids``, ``areas``
    int64 (pixels of the original), ``predicted_iou`` and ``stability_score`` float32, all (N,); ``image_id``,
    ``original_size`` and ``size`` (h, w) int64, the latter without padding; ``scale_xy`` float64 (2,).
    Where annotations lack a key its values are measured from the mask (boxes, areas), NaN or, for ids, -1.

    A dataset decodes a JPEG at its full size before anything else, unless told not to: see `attach`.

    Examples
    --------
    >>> mask = {"id": 7, "segmentation": {"size": [4, 6], "counts": [4, 8, 12]}}
    >>> decode = DecodeMasks(size=3, image=False)
    >>> example = decode({"image_id": 1, "height": 4, "width": 6, "annotations": [mask]})
    >>> example["masks"].tolist(), example["boxes_xywh"].tolist()
    ([[[0, 1, 0], [0, 1, 0]]], [[0.5, 0.0, 0.5, 1.5]])

    """

    size: int | tuple[int, int] | None = 1024
    max_masks: int | None = 64
    select: Select = "random"
    layout: Layout = "stack"
    resize: Resize = "longest"
    pad: bool = False
    pad_value: int = 0
    image: bool = True
    resample: Resample = "bilinear"
    mode: Literal["nearest", "area"] = "nearest"
    dtype: Literal["uint8", "bool", "float32", "uint16", "uint32"] | None = None
    keep: tuple[str, ...] = ()
    seed: int = 0
    epoch: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        check_target(self.size, self.resize, pad=self.pad)
        for name, options in (("select", Select), ("layout", Layout), ("resample", Resample)):
            _check_option(name, getattr(self, name), get_args(options))
        modes = [mode for layout, mode in _DTYPES if layout == self.layout]
        _check_option(f"mode of layout {self.layout!r}", self.mode, modes)
        dtypes = [None, *_DTYPES[self.layout, self.mode]]
        _check_option(f"dtype of layout {self.layout!r} and mode {self.mode!r}", self.dtype, dtypes)
        _check_integer("pad_value", self.pad_value, 0, 255)
        _check_integer("threads", self.threads, 1, 1024)
        _check_integer("seed", self.seed, 0)
        _check_integer("epoch", self.epoch, 0)
        if self.max_masks is not None:
            _check_integer("max_masks", self.max_masks, 1)
        if not isinstance(self.keep, tuple):
            raise ConfigError(f"keep: expected a tuple of column names, found {self.keep!r}")

    def with_epoch(self, epoch: int) -> DecodeMasks:
        """Give the same hook for another epoch, in which random selection selects anew."""
        return dataclasses.replace(self, epoch=epoch)

    def attach(self, dataset: Any) -> Any:
        """Make a dataset give decoded examples, in the fastest way.

        Parameters
        ----------
        dataset
            `Dataset` or `IterableDataset` with the rows of SA-1B. A format that it has is given up.

        Returns
        -------
        Dataset or IterableDataset
            The same rows through `with_transform` or `map`, from JPEG bytes that `datasets` leaves alone.

        Raises
        ------
        ConfigError
            It is something else, such as a dictionary of splits.

        """
        if not isinstance(dataset, (Dataset, IterableDataset)):
            expected = "expected a Dataset or an IterableDataset"
            raise ConfigError(f"{expected}, found {type(dataset).__name__}; of several splits, choose one")
        columns = dataset.column_names or []
        if "image" in columns:
            dataset = dataset.cast_column("image", ImageFeature(decode=False))
        if isinstance(dataset, Dataset):
            return dataset.with_transform(self)
        return dataset.with_format(None).map(
            self, remove_columns=[name for name in columns if name not in self._names()]
        )

    def __call__(self, data: Any, epoch: int | None = None) -> dict[str, Any]:
        """Decode.

        Parameters
        ----------
        data
            A row, a batch (a mapping of lists) or an Arrow table, with ``annotations`` and, as far as needed,
            ``image``, ``image_id``, ``width`` and ``height``.
        epoch
            In place of the attribute.

        Returns
        -------
        dict
            Of a row, its arrays, see Notes above; of a batch or table, a list of them under each name.

        Raises
        ------
        RLEError, ImageError, AnnotationError
            The row is unusable; ``where`` has its ``image_id``.
        ConfigError
            A column is missing; or it is `IterableDataset.map` that calls, of a stream in Arrow format.

        """
        if isinstance(data, (pa.Table, pa.RecordBatch)):
            _refuse_stream(sys._getframe(1).f_globals.get("__name__"))  # noqa: SLF001 (who wants a table back)
        columns = ("image", *self._columns()) if self.image else self._columns()
        rows = split_rows(data, columns)
        if rows is None:
            return self._decode(data, epoch)
        examples = [self._decode(row, epoch) for row in rows]
        names = examples[0] if examples else self._names()
        return {name: [example[name] for example in examples] for name in names}

    def _columns(self) -> tuple[str, ...]:
        return ("image_id", "shard", "width", "height", "annotations", *self.keep)

    def _names(self) -> tuple[str, ...]:
        crops = ("crop_boxes_xywh",) if self.layout == "crops" else ()
        return (*(("image",) if self.image else ()), *_PER_MASK, *crops, *_PER_IMAGE, *self.keep)

    def _decode(self, row: Any, epoch: int | None) -> dict[str, Any]:
        if "annotations" not in row:
            raise ConfigError(f"expected a column 'annotations', found {sorted(row)}")
        image_id = None if row.get("image_id") is None else operator.index(row["image_id"])
        try:
            return self._decode_row(row, image_id, self.epoch if epoch is None else epoch)
        except RecordError as error:
            raise _locate(error, row, image_id) from error

    def _decode_row(self, row: Any, image_id: int | None, epoch: int) -> dict[str, Any]:
        image = self._image_of(row)
        annotations = read_annotations(row["annotations"], image_id)
        size = original_size(row, image, annotations)
        check_mask_sizes(annotations, size)
        geometry = Geometry.fit(size, self.size, self.resize)
        canvas = (self.size, self.size) if self.pad and isinstance(self.size, int) else geometry.size
        chosen = annotations.take(self._choose(annotations, image_id, epoch))
        task = Task(self.layout, self._mask_dtype(), self.mode, self.threads, geometry, canvas)
        example: dict[str, Any] = {}
        if self.image:
            pixels = decode_image(image, geometry.size, original_size=size, resample=self.resample)
            example["image"] = _pad_image(pixels, canvas, self.pad_value)
        example |= lay_out(chosen.values, task)
        example |= describe(chosen, geometry)
        example["image_id"] = -1 if image_id is None else image_id
        return example | {name: row[name] for name in self.keep if name in row}

    def _image_of(self, row: Any) -> Any:
        if not self.image:
            return None
        if "image" not in row:
            raise ConfigError("expected a column 'image'; set image=False if only masks are wanted")
        return row["image"]

    def _choose(self, annotations: Annotations, image_id: int | None, epoch: int) -> NDArray[np.int64]:
        if self.max_masks is None or len(annotations) <= self.max_masks:
            return np.arange(len(annotations))
        if image_id is None and self.select in ("random", "stratified"):
            raise ConfigError(f"expected a column 'image_id', from which select={self.select!r} draws the masks")
        rng = np.random.default_rng([self.seed, epoch, abs(image_id or 0)])
        values = annotations.numbers(_SORT_KEYS[self.select], np.float64) if self.select in _SORT_KEYS else None
        if values is None and self.select == "predicted_iou":
            raise ConfigError("select: expected annotations with 'predicted_iou', found none")
        if values is None and self.select != "random":
            values = rle.area(annotations.values)
        return sample_masks(len(annotations), self.max_masks, self.select, rng, values)

    def _mask_dtype(self) -> str:
        if self.dtype is not None:
            return self.dtype
        if self.layout == "label_map":
            # the same for every image, so that maps can be stacked
            most = self.max_masks or 2**16
            return next(kind for kind in _DTYPES["label_map", "nearest"] if most <= np.iinfo(kind).max)
        return _DTYPES[self.layout, self.mode][0]


def _refuse_stream(caller: object) -> None:
    """Say what to do where `datasets` would only say that it wants a table back."""
    if caller == "datasets.iterable_dataset":
        found = "found map over a stream in Arrow format, whose results have to be Arrow tables"
        advice = "use DecodeMasks(...).attach(stream), or the DataLoader's collate_fn=partial(collate_pad, decode=...)"
        raise ConfigError(f"expected a call that takes arrays, {found}; {advice}")


def _pad_image(pixels: NDArray[np.uint8], canvas: tuple[int, int], value: int) -> NDArray[np.uint8]:
    if pixels.shape[:2] == canvas:
        return pixels
    return np.ascontiguousarray(pad_planes(pixels.transpose(2, 0, 1), canvas, value).transpose(1, 2, 0))


def _locate(error: RecordError, row: Any, image_id: int | None) -> RecordError:
    """Name the image and its shard in the error of a codec that knows neither."""
    name = f"sa_{image_id}"
    message = error.message if image_id is None or str(image_id) in error.message else f"{name}: {error.message}"
    shard = row["shard"] if "shard" in row and isinstance(row["shard"], str) else error.shard
    return type(error)(message, reason=error.reason, shard=shard, **{**error.where, "image_id": image_id})


def _check_option(name: str, value: Any, options: Any) -> None:
    if value not in options:
        raise ConfigError(f"{name}: expected one of {list(options)}, found {value!r}")


def _check_integer(name: str, value: Any, low: int, high: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        raise ConfigError(
            f"{name}: expected an integer of {low} {f'to {high}' if high else 'or more'}, found {value!r}"
        )
