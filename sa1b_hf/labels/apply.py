"""A transform of Arrow tables, applied to a dataset."""

from __future__ import annotations

import hashlib
from typing import Any

from datasets import Dataset, IterableDataset

from sa1b_hf.errors import ConfigError

__all__ = ["apply_transform"]


def apply_transform(dataset: Any, transform: Any, *, batch_rows: int = 64) -> Any:
    """Apply a transform that adds columns.

    Parameters
    ----------
    dataset
        `Dataset` or `IterableDataset` with the rows of SA-1B, of one split.
    transform
        Has ``fingerprint``, ``features(features)`` and takes an Arrow table, such as `JoinColumn` and `AddHierarchy`.
    batch_rows
        Rows of a table.

    Returns
    -------
    Dataset or IterableDataset
        The same rows with more columns, in the same format; JPEG bytes are passed on as they are.

    Raises
    ------
    ConfigError
        It is something else, or its features are not known.

    """
    if not isinstance(dataset, (Dataset, IterableDataset)):
        expected = "expected a Dataset or an IterableDataset"
        raise ConfigError(f"{expected}, found {type(dataset).__name__}; of several splits, choose one")
    if dataset.features is None:
        raise ConfigError("expected a dataset whose features are known, found none; give map(..., features=...) them")
    options: dict[str, Any] = {"batched": True, "batch_size": batch_rows}
    options["features"] = transform.features(dataset.features)
    if isinstance(dataset, IterableDataset):
        return dataset.with_format("arrow").map(transform, **options).with_format(None)
    # The transform may hold a table of gigabytes, which `map` would hash.
    identity = f"{dataset._fingerprint} {transform.fingerprint}"  # noqa: SLF001
    options["new_fingerprint"] = hashlib.sha256(identity.encode()).hexdigest()[:16]
    # a cached result would leave the transform's counts empty
    options["load_from_cache_file"] = False
    original = dataset.format
    changed = dataset.with_format("arrow").map(transform, **options)
    return changed.with_format(original["type"], **original["format_kwargs"])
