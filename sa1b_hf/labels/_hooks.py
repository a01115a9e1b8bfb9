"""Labels for whole datasets: the hook of `map` and of converting, and the function that applies it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, IterableDataset

from sa1b_hf._ids import is_int
from sa1b_hf.errors import ConfigError

from ._batching import LabelCounts, iter_slices, label_images, read_images
from ._columns import label_features, labels_array, put_column
from ._types import Labeler
from ._vocabulary import sha256_of

__all__ = ["LabelTransform", "OnError", "label_masks"]

_LOG = logging.getLogger("sa1b_hf.labels")

OnError = Literal["raise", "skip"]
"""What an image does that cannot be labelled: end everything, or be abstained from and counted."""


class LabelTransform:
    """Table in, table with a column of labels out.

    Parameters
    ----------
    labeler
        What names the masks.
    batch_images
        Images that the labeler is given at a time, as the bytes of their JPEGs.
    on_error
        ``"raise"``, or ``"skip"``: abstain from the masks of an image that fails, and from those without finite
        scores, and count them.
    column
        Name of the new column; one of that name is replaced.

    Attributes
    ----------
    provenance
        What the labels come from, as JSON can hold it.
    fingerprint
        Identity of what it does: of the labeler, the column and `on_error`; not of how many images at a time.
    counts
        Of all images so far, in this process.

    Raises
    ------
    ConfigError
        An option is out of range, or `labeler` is no labeler.

    """

    def __init__(
        self, labeler: Any, *, batch_images: int = 32, on_error: OnError = "raise", column: str = "labels"
    ) -> None:
        if not isinstance(labeler, Labeler):
            expected = "expected an object with `provenance` and `label(images)`"
            raise ConfigError(f"labeler: {expected}, found {type(labeler).__name__}")
        if not is_int(batch_images) or batch_images < 1:
            raise ConfigError(f"batch_images: expected an int of 1 or more, found {batch_images!r}")
        if on_error not in get_args(OnError):
            raise ConfigError(f"on_error: expected one of {list(get_args(OnError))}, found {on_error!r}")
        self.labeler: Labeler = labeler
        self.batch_images = batch_images
        self.on_error = on_error
        self.column = column
        self.provenance: Mapping[str, Any] = {**self.labeler.provenance.to_dict(), "column": column}
        self.fingerprint = sha256_of([self.labeler.provenance.fingerprint, column, on_error])
        self.counts = LabelCounts()

    def features(self, features: Features) -> Features:
        """Give the features of the result.

        Parameters
        ----------
        features
            Of the table.

        Returns
        -------
        datasets.Features

        """
        embeddings = self.labeler.provenance.embedding_dim is not None
        return Features({**features, self.column: label_features(embeddings=embeddings)})

    def __call__(self, table: pa.Table) -> pa.Table:
        """Label all masks of a table.

        Parameters
        ----------
        table
            Rows of SA-1B.

        Returns
        -------
        pa.Table
            The same rows with one column more.

        Raises
        ------
        RecordError
            An image cannot be labelled, with ``on_error="raise"``.
        ConfigError
            A column is missing.

        """
        results, ids = [], []
        for part in iter_slices(table, self.batch_images):
            images = read_images(part)
            results += label_images(self.labeler, images, self.counts, tolerant=self.on_error == "skip")
            ids += [np.asarray(image.annotation_ids, np.int64) for image in images]
        embeddings = self.labeler.provenance.embedding_dim is not None
        return put_column(table, self.column, labels_array(results, ids, embeddings=embeddings))


def label_masks(
    dataset: Any,
    labeler: Labeler,
    *,
    batch_images: int = 32,
    on_error: OnError = "raise",
    column: str = "labels",
    **map_options: Any,
) -> Any:
    """Add labels to a dataset.

    Parameters
    ----------
    dataset
        `Dataset` or `IterableDataset` with the rows of SA-1B, of one split.
    labeler, batch_images, on_error, column
        See `LabelTransform`.
    map_options
        Further arguments of ``map``, such as ``num_proc`` for a `Dataset`.

    Returns
    -------
    Dataset or IterableDataset
        The same rows with one column more, labelled now or as they are read. JPEG bytes are not decoded and encoded
        again, and the features are known, so that the result can be pushed. A `Dataset` is cached under the
        labeler's fingerprint, and what failed is logged at the end. For the counts of a stream, map a `LabelTransform`
        of your own.

    Raises
    ------
    ConfigError
        It is something else, its features are not known, or an option is out of range.
    RecordError
        An image cannot be labelled.

    """
    if not isinstance(dataset, (Dataset, IterableDataset)):
        expected = "expected a Dataset or an IterableDataset"
        raise ConfigError(f"{expected}, found {type(dataset).__name__}; of several splits, choose one")
    transform = LabelTransform(labeler, batch_images=batch_images, on_error=on_error, column=column)
    if dataset.features is None:
        raise ConfigError("expected a dataset whose features are known, found none; give map(..., features=...) them")
    options: dict[str, Any] = {"batched": True, "batch_size": batch_images, **map_options}
    options["features"] = transform.features(dataset.features)
    if isinstance(dataset, IterableDataset):
        return dataset.with_format("arrow").map(transform, **options).with_format(None)
    # `map` would otherwise hash the model itself.
    fingerprint = sha256_of([dataset._fingerprint, transform.fingerprint])[:16]  # noqa: SLF001
    options = {"new_fingerprint": fingerprint, "desc": "Labelling", **options}
    original = dataset.format
    labelled = dataset.with_format("arrow").map(transform, **options)
    if transform.counts.failed or transform.counts.not_finite:
        _LOG.warning("%s: %s", transform.column, transform.counts)
    return labelled.with_format(original["type"], **original["format_kwargs"])
