"""Labels of masks as the training set of a classifier: crops with a label and a weight, split by image."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from datasets import Dataset, IterableDataset
from datasets import Image as ImageFeature
from numpy.typing import ArrayLike, NDArray

from sa1b_hf._ids import hash_ids, is_int
from sa1b_hf.errors import ConfigError
from sa1b_hf.images import decode_image

from ._cutout import Background, check_crop, cut_crop
from ._read_column import LabelArrays, join_labels, read_labels
from .quality import Thresholds, select_balanced

__all__ = ["PseudoLabeled", "Split", "Weight", "is_validation"]

Split = Literal["train", "validation", "all"]
"""Which images' masks to take."""

Weight = Literal["score", "margin", "one"]
"""How much an example counts: the score of its label, its margin over the next one, or as much as every other."""

_CACHED_IMAGES = 4


def is_validation(image_ids: ArrayLike, share: float, seed: int = 0) -> NDArray[np.bool_]:
    """Tell which images are for validation, by a hash of their ids: the same on every machine, in any order.

    Parameters
    ----------
    image_ids
        Shape (N,).
    share
        Part of all images that is for validation, 0 to 1.
    seed
        Another one is another split.

    Returns
    -------
    NDArray[np.bool_]
        Shape (N,).

    Examples
    --------
    >>> bool(is_validation([1, 2, 3], 1.0).all())
    True

    """
    if not 0 <= share <= 1:
        raise ConfigError(f"validation_share: expected 0 to 1, found {share!r}")
    hashed = hash_ids(seed, np.asarray(image_ids, np.int64))
    return np.asarray(hashed.astype(np.float64) / 2.0**64 < share)


class PseudoLabeled:
    """Examples (crop, label, weight), one for each labelled mask; a map-style dataset for `torch.utils.data`.

    Parameters
    ----------
    dataset
        `Dataset` with the rows of SA-1B and a column of labels.
    split
        The masks of one image are all in the same split.
    size, context, background
        Of the crops: pixels of their side, what is added around the mask's box on each side as a share of its longer
        side, and what becomes of pixels outside of the mask, see `Background`.
    column
        Of the labels.
    thresholds
        What the label of a mask must reach.
    classes
        Label ids to take; the label of an example is its label id's place among them. By default all, as they are.
    weight
        See `Weight`.
    max_per_class
        Most examples of a class, those of the highest scores; all by default.
    validation_share, seed
        See `is_validation`.
    transform
        Takes a crop, and gives what stands in its place, such as a float tensor.

    Attributes
    ----------
    label_ids
        int64, shape (N,): label of each example.
    weights
        float32, shape (N,), of mean 1.
    annotation_ids
        int64, shape (N,): mask of each example.
    image_ids
        int64, shape (N,).

    Raises
    ------
    ConfigError
        It is no `Dataset`, a column is missing, or an option is out of range.

    Notes
    -----
    Only the columns of ids and labels are read at first. Examples of one image stand together, and the last few images
    stay decoded: read them in an order of `shuffled`, not in one that jumps between images.

    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split = "all",
        *,
        size: int = 224,
        context: float = 0.1,
        background: Background = "keep",
        column: str = "labels",
        thresholds: Thresholds | None = None,
        classes: Sequence[int] | None = None,
        weight: Weight = "score",
        max_per_class: int | None = None,
        validation_share: float = 0.1,
        seed: int = 0,
        transform: Callable[[NDArray[np.uint8]], Any] | None = None,
    ) -> None:
        check_crop(size, context, background)
        _check_dataset(dataset, column)
        for name, value, options in (("split", split, Split), ("weight", weight, Weight)):
            if value not in get_args(options):
                raise ConfigError(f"{name}: expected one of {list(get_args(options))}, found {value!r}")
        self._cut = partial(cut_crop, size=size, context=context, background=background)
        self._transform = transform
        self._rows = dataset.cast_column("image", ImageFeature(decode=False)).with_format("arrow")
        image_ids, labels = _read_columns(dataset, column)
        chosen = (Thresholds() if thresholds is None else thresholds).passing(labels)
        if split != "all":
            wanted = is_validation(image_ids, validation_share, seed) == (split == "validation")
            chosen &= wanted[labels.rows]
        found = _relabel(labels.label_ids, classes)
        chosen &= found >= 0
        index = np.flatnonzero(chosen)
        if max_per_class is not None:
            index = index[select_balanced(found[index], max_per_class, scores=labels.scores[index])]
        self._row = labels.rows[index]
        self._mask = index - labels.row_starts[self._row]
        self.label_ids = found[index]
        self.weights = _weights(labels, index, weight)
        self.annotation_ids = labels.annotation_ids[index]
        self.image_ids = image_ids[self._row]
        self._cache: OrderedDict[int, tuple[NDArray[np.uint8], Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.label_ids)

    def __getitem__(self, index: int) -> tuple[Any, int, float]:
        """Cut one example.

        Parameters
        ----------
        index
            0 to N - 1, or negative from the end.

        Returns
        -------
        crop : NDArray[np.uint8]
            Shape (size, size, 3), RGB; or what `transform` makes of it.
        label : int
        weight : float

        Raises
        ------
        IndexError
            There is no such example.
        ImageError, RLEError
            The image or the mask is unusable; ``where`` has the ``image_id`` of an image.

        """
        at = range(len(self))[index]
        pixels, annotations = self._open(int(self._row[at]), int(self.image_ids[at]))
        crop: Any = self._cut(pixels, annotations[int(self._mask[at])].as_py())
        return self._transform(crop) if self._transform else crop, int(self.label_ids[at]), float(self.weights[at])

    def __getstate__(self) -> dict[str, Any]:
        """Workers decode for themselves."""
        return {**self.__dict__, "_cache": OrderedDict()}

    def shuffled(self, seed: int = 0) -> NDArray[np.int64]:
        """Give a random order of the examples, in which those of an image follow one another.

        Parameters
        ----------
        seed
            Another one for each epoch.

        Returns
        -------
        NDArray[np.int64]
            Shape (N,): a ``sampler`` for a `DataLoader`.

        """
        rng = np.random.default_rng(seed)
        images, which = np.unique(self.image_ids, return_inverse=True)
        return np.lexsort((rng.random(len(self)), rng.permutation(len(images))[which]))

    def _open(self, row: int, image_id: int) -> tuple[NDArray[np.uint8], Any]:
        if row in self._cache:
            self._cache.move_to_end(row)
            return self._cache[row]
        table = self._rows[row]
        image = table.column("image")[0].as_py()
        entry = decode_image(image, image_id=image_id), table.column("annotations")[0].values
        self._cache[row] = entry
        if len(self._cache) > _CACHED_IMAGES:
            self._cache.popitem(last=False)
        return entry


def _check_dataset(dataset: Any, column: str) -> None:
    if not isinstance(dataset, Dataset):
        advice = "; prepare the stream first, or take(n) and collect it" if isinstance(dataset, IterableDataset) else ""
        raise ConfigError(f"dataset: expected a Dataset, found {type(dataset).__name__}{advice}")
    names = ("image", "image_id", "annotations", column)
    if missing := [name for name in names if name not in dataset.column_names]:
        raise ConfigError(f"dataset: expected columns {missing}, found {dataset.column_names}")


def _read_columns(dataset: Dataset, column: str) -> tuple[NDArray[np.int64], LabelArrays]:
    """Read ids and labels bit by bit: with embeddings the column can be larger than memory."""
    tables = dataset.select_columns(["image_id", column]).with_format("arrow").iter(batch_size=1000)
    ids, parts = [np.zeros(0, np.int64)], []
    for table in tables:
        ids.append(table.column("image_id").to_numpy())
        parts.append(read_labels(table, column))
    return np.concatenate(ids), join_labels(parts)


def _relabel(label_ids: NDArray[np.int32], classes: Sequence[int] | None) -> NDArray[np.int64]:
    if classes is None:
        return label_ids.astype(np.int64)
    if not len(classes) or not all(is_int(one) and one >= 0 for one in classes) or len(set(classes)) != len(classes):
        raise ConfigError(f"classes: expected label ids, each once, found {list(classes)!s:.80}")
    place = np.full(max(int(label_ids.max(initial=0)), *classes) + 2, -1)
    place[list(classes)] = np.arange(len(classes))
    return place[label_ids]  # -1, for abstained, reads the last one, which no class has


def _weights(labels: LabelArrays, index: NDArray[np.int64], weight: Weight) -> NDArray[np.float32]:
    if weight == "one" or not len(index):
        return np.ones(len(index), np.float32)
    values = np.nan_to_num({"score": labels.scores, "margin": labels.margins}[weight][index].astype(np.float64))
    mean = values.mean()
    return np.asarray(values / mean if mean > 0 else np.ones(len(values)), np.float32)
