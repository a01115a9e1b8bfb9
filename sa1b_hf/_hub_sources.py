"""What can be pushed: a converted folder, datasets in memory or on disk, and streams."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, IterableDataset
from datasets.table import table_cast

from ._card_statistics import Statistics
from ._convert_options import ConvertOptions
from ._hub_parts import PART_BYTES, DataPart, count_part, hash_file, write_parts
from ._hub_pixels import image_columns, pixel_columns, tidy_images
from ._manifest import Manifest, read_manifests
from .errors import ConfigError
from .loading import iter_builders, report
from .reports import PassReport

__all__ = ["PushSource", "open_source"]

_BATCH_ROWS: Final = 32


class PushSource(Protocol):
    """Rows to be pushed.

    Attributes
    ----------
    features
        Of the rows that are pushed.
    dropped
        Columns that stay here, since they could hold pixels.

    """

    features: Features
    dropped: tuple[str, ...]

    def stage(self, folder: Path, statistics: Statistics) -> Iterator[DataPart]:
        """Write what is not on disk yet, and count all rows."""

    def provenance(self) -> dict[str, Any]:
        """Say how the rows came about, see `sa1b_hf.card.CardFacts`; complete after `stage`."""


def open_source(
    source: Any, *, include_images: bool, allow_reencoded: bool = False, part_bytes: int = PART_BYTES
) -> PushSource:
    """Find out what a source is.

    Parameters
    ----------
    source
        A folder that `sa1b_hf.convert` wrote, a `Dataset` or `IterableDataset`, or a dictionary of these by split.
    include_images
        Whether columns that could hold pixels are pushed.
    allow_reencoded
        See `sa1b_hf._hub_pixels.tidy_images`.
    part_bytes
        About how long a part gets; those of a folder stay as they are.

    Raises
    ------
    ConfigError
        It is nothing of these, or lacks what a push needs.

    """
    if isinstance(source, (str, os.PathLike)):
        return _Folder(Path(source), include_images)
    splits = dict(source) if isinstance(source, Mapping) else {_split_name(source): source}
    if not splits or not all(isinstance(dataset, (Dataset, IterableDataset)) for dataset in splits.values()):
        raise ConfigError(
            f"source: expected a folder of sa1b convert, a Dataset, an IterableDataset, or a dictionary of these by "
            f"split, found {type(source).__name__}"
        )
    return _Datasets(
        {str(split): dataset for split, dataset in splits.items()}, include_images, allow_reencoded, part_bytes
    )


class _Folder:
    def __init__(self, folder: Path, include_images: bool) -> None:
        self._folder = folder
        self._manifests = _consistent(read_manifests(folder), folder)
        self._parts = [part for manifest in self._manifests for part in manifest.parts]
        if not self._parts:
            raise ConfigError(f"{folder}: expected rows to push, found none; its filters keep nothing")
        schemas = {part.path: self._schema(part.path) for part in self._parts}
        stored = Features.from_arrow_schema(schemas[self._parts[0].path])
        for path, schema in schemas.items():
            if Features.from_arrow_schema(schema) != stored:
                raise ConfigError(
                    f"{folder / path}: expected columns {list(stored)}, found {schema.names}; convert again"
                )
        self.dropped = () if include_images else pixel_columns(stored)
        self.features = Features({name: feature for name, feature in stored.items() if name not in self.dropped})
        _check_features(self.features)
        self._metadata = json.loads((schemas[self._parts[0].path].metadata or {}).get(b"sa1b_hf", b"{}"))

    def _schema(self, path: str) -> pa.Schema:
        try:
            return pq.read_schema(self._folder / path)
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"{self._folder / path}: expected a Parquet part ({error}); convert again") from None

    def stage(self, folder: Path, statistics: Statistics) -> Iterator[DataPart]:
        for part in self._parts:
            file = self._folder / part.path
            _, split, name = part.path.rsplit("/", 2)
            if (found := hash_file(file)) != part.sha256:
                raise ConfigError(f"{file}: expected SHA-256 {part.sha256}, found {found}; convert this shard again")
            if self.dropped:
                place = (split, name)
                yield from write_parts(
                    self._tables(file), folder, place, self.features, self._metadata, statistics, part_bytes=1 << 62
                )
            else:
                count_part(file, split, statistics)
                yield DataPart(split, name, file, part.sha256, part.size, part.rows)

    def _tables(self, file: Path) -> Iterator[pa.Table]:
        schema = self.features.arrow_schema
        for batch in pq.ParquetFile(file).iter_batches(batch_size=_BATCH_ROWS, columns=list(self.features)):
            yield table_cast(pa.Table.from_batches([batch]), schema)

    def provenance(self) -> dict[str, Any]:
        total = PassReport()
        for manifest in self._manifests:
            total.merge(manifest.report)
        config = self._manifests[0].config
        options = dict(config.get("filters") or {})
        if resize := config.get("resize"):
            options["resize"] = resize
        transforms = [record.get("provenance", record) for record in config.get("transforms") or []]
        return {"filters": options, "report": total.to_dict(), "transforms": transforms}


@dataclass
class _Datasets:
    splits: dict[str, Any]
    include_images: bool
    allow_reencoded: bool
    part_bytes: int
    features: Features = field(init=False)
    dropped: tuple[str, ...] = field(init=False)
    _before: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        described = {split: dataset.features for split, dataset in self.splits.items()}
        for split, features in described.items():
            if not re.fullmatch(r"\w+", split):
                raise ConfigError(f"split: expected a word, found {split!r}")
            if features is None:
                raise ConfigError(
                    f"{split}: expected a dataset with features, found a stream without; pass features= to map"
                )
        first, *others = described.values()
        if any(features != first for features in others):
            raise ConfigError(f"splits: expected the same features in all of {list(described)}, found different ones")
        self.dropped = () if self.include_images else pixel_columns(first)
        self.features = Features(
            {
                name: Image() if isinstance(feature, Image) else feature  # `decode=False` is about this pass only
                for name, feature in first.items()
                if name not in self.dropped
            }
        )
        _check_features(self.features)
        self._before = self._report()

    def stage(self, folder: Path, statistics: Statistics) -> Iterator[DataPart]:
        for split, dataset in self.splits.items():
            place = (split, "part-{:05d}.parquet")
            tables = self._tables(dataset)
            yield from write_parts(tables, folder, place, self.features, {"version": 1}, statistics, self.part_bytes)

    def _tables(self, dataset: Any) -> Iterator[pa.Table]:
        names, schema, images = list(self.features), self.features.arrow_schema, image_columns(self.features)
        # a map-style dataset keeps the bytes of images that a function returns without a name: they are the user's own
        allowed = self.allow_reencoded or isinstance(dataset, Dataset)
        for table in dataset.select_columns(names).with_format("arrow").iter(batch_size=_BATCH_ROWS):
            if table.num_rows:
                yield tidy_images(table_cast(table.select(names), schema), images, allow_reencoded=allowed)

    def provenance(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for dataset in self.splits.values():
            for builder in iter_builders(dataset) if isinstance(dataset, IterableDataset) else ():
                options |= ConvertOptions(read=builder.config.read_options()).filters()
        return {"filters": options, "report": _difference(self._report(), self._before), "transforms": []}

    def _report(self) -> dict[str, Any]:
        """Give the counts of all passes so far, nothing if they are not known."""
        with suppress(ConfigError):
            return report(self.splits).to_dict()
        return {}


def _split_name(dataset: Any) -> str:
    found = re.match(r"\w+", str(getattr(dataset, "split", None) or "train"))
    return found.group() if found else "train"


def _check_features(features: Features) -> None:
    if "image_id" not in features:
        raise ConfigError(
            f"columns: expected image_id among them, found {list(features)}; images are found again by it"
        )


def _consistent(manifests: list[Manifest], folder: Path) -> list[Manifest]:
    formats = {str(manifest.config.get("format")) for manifest in manifests}
    if formats != {"parquet"}:
        raise ConfigError(f"{folder}: expected Parquet parts, found {sorted(formats)}; convert with format='parquet'")
    if len({manifest.fingerprint for manifest in manifests}) > 1:
        raise ConfigError(f"{folder}: expected shards converted with the same options, found different; convert again")
    return manifests


def _difference(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Subtract the counts of earlier passes over a stream."""
    if before == after:
        return after  # a prepared dataset, whose only pass was long ago
    result: dict[str, Any] = {}
    for name, value in after.items():
        earlier = before.get(name)
        if isinstance(value, dict):
            counts = {reason: count - (earlier or {}).get(reason, 0) for reason, count in value.items()}
            result[name] = {reason: count for reason, count in counts.items() if count}
        else:
            result[name] = value[len(earlier or []) :] if isinstance(value, list) else value - (earlier or 0)
    return result
