"""Pixels back to annotations: the JPEGs of rows that came without, from the user's own shards, by image id."""

from __future__ import annotations

import atexit
import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, get_args

import pyarrow as pa
from datasets import Dataset, Features, Image, IterableDataset

from .catalog import shard_of
from .errors import ConfigError, MissingShardsError, PairingError, ShardError
from .features import COLUMNS
from .jpeg import check_jpeg
from .shard import SA1BShard
from .sources import ShardSource, find_shards, options_for

__all__ = ["rehydrate"]

OnMissing = Literal["raise", "drop", "none"]

_log = logging.getLogger("sa1b_hf")

_MAX_OPEN: Final = 32
_BATCH_ROWS: Final = 32
_NEEDED: Final = ("image_id", "shard", "width", "height", "file_name")


def rehydrate(
    dataset: Any,
    shards: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    on_missing: OnMissing = "raise",
    index_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    num_proc: int | None = None,
) -> Any:
    """Add the images to rows that came without them.

    Parameters
    ----------
    dataset
        A `Dataset` or `IterableDataset`, or a dictionary of these by split, with ``image_id``; without ``shard``
        all shards are searched.
    shards
        A folder of shards, a links file, or paths and URLs of shards.
    on_missing
        What to do with a row whose image is in none of them: ``"raise"``, ``"drop"``, or ``"none"``, which leaves its
        image empty.
    index_dir
        Folder of indexes, see `sa1b_hf.ReadOptions`; a temporary one by default. An index takes a pass over its shard,
        and is made when the first image of it is asked for.
    storage_options
        Of the file system of remote shards.
    num_proc
        Processes to use for a `Dataset`.

    Returns
    -------
    The same kind of dataset
        With the column ``image`` at its place: the bytes of the shard, checked. Rows stay in their order.

    Raises
    ------
    ConfigError
        The dataset has images already, or no ids.
    MissingShardsError
        There are no shards.
    PairingError
        Images are in none of the shards, and ``on_missing="raise"``: of a `Dataset` all are counted before any is read,
        of a stream it is said at the first one.
    ShardError
        A shard is damaged, and ``on_missing="raise"``; otherwise it counts as not there.
    ImageError
        While reading: a JPEG is not as large as its row says.

    """
    if on_missing not in get_args(OnMissing):
        raise ConfigError(f"on_missing: expected one of {list(get_args(OnMissing))}, found {on_missing!r}")
    if isinstance(dataset, Mapping):
        again = partial(rehydrate, on_missing=on_missing, index_dir=index_dir, storage_options=storage_options)
        return type(dataset)({split: again(one, shards, num_proc=num_proc) for split, one in dataset.items()})  # type: ignore[call-arg]
    if not isinstance(dataset, (Dataset, IterableDataset)) or dataset.features is None:
        raise ConfigError(f"dataset: expected a dataset with features, found {type(dataset).__name__}")
    features = _with_image(dataset.features)
    found = _list_shards(shards, storage_options)
    add = _AddImages(found, features, on_missing, Path(index_dir or _temporary_folder()), storage_options)
    if isinstance(dataset, Dataset):
        add.check(dataset)
    options: dict[str, Any] = {"batched": True, "batch_size": _BATCH_ROWS, "features": features}
    if isinstance(dataset, Dataset):
        options |= {"num_proc": num_proc, "writer_batch_size": _BATCH_ROWS, "desc": "Adding images"}
    return dataset.with_format("arrow").map(add, **options).with_format(None)


def _with_image(features: Features) -> Features:
    if "image" in features or "image_id" not in features:
        raise ConfigError(f"dataset: expected a column image_id and none named image, found {list(features)}")
    all_features = {**features, "image": Image()}
    order = [*(name for name in COLUMNS if name in all_features), *(name for name in features if name not in COLUMNS)]
    return Features({name: all_features[name] for name in order})


def _list_shards(shards: Any, storage_options: Mapping[str, Any] | None) -> tuple[ShardSource, ...]:
    if isinstance(shards, (str, os.PathLike)):
        place = os.fspath(shards)
        if place.endswith(".txt"):
            listed = find_shards(links=place)
        elif place.endswith((".tar", ".tar.gz", ".tgz")):
            listed = find_shards(data_files={"train": [place]})
        else:
            listed = find_shards(data_dir=place, storage_options=storage_options)
    else:
        listed = find_shards(data_files={"train": [os.fspath(shard) for shard in shards]})
    found = tuple(shard for sources in listed.values() for shard in sources)
    if not found:
        raise MissingShardsError("shards: expected a folder of shards or their paths, found none")
    return found


class _AddImages:
    """Adds the column to a table; opens each shard when it is first needed, and keeps the last ones open."""

    def __init__(
        self,
        shards: tuple[ShardSource, ...],
        features: Features,
        on_missing: OnMissing,
        index_dir: Path,
        storage_options: Mapping[str, Any] | None,
    ) -> None:
        self._shards = {shard.name: shard for shard in shards}
        self._identity = [shard.identity() for shard in shards]  # `datasets` knows by it that a cached result is stale
        self._told: set[str] = set()
        self._features = features
        self._on_missing = on_missing
        self._index_dir = index_dir
        self._storage_options = storage_options
        self._open: OrderedDict[str, SA1BShard | None] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind; another process opens its own."""
        return {**vars(self), "_open": OrderedDict()}

    def __call__(self, table: pa.Table) -> pa.Table:
        count, names = table.num_rows, set(table.schema.names)
        values = {name: table[name].to_pylist() if name in names else [None] * count for name in _NEEDED}
        images = []
        for image_id, shard, width, height, name in zip(*values.values(), strict=True):
            data = self._find(image_id, shard)
            if data is not None and width is not None and height is not None:
                check_jpeg(memoryview(data), width=width, height=height, image_id=image_id, shard=shard)
            images.append(None if data is None else {"bytes": data, "path": name or f"sa_{image_id}.jpg"})
        schema = self._features.arrow_schema
        columns = {name: table[name] for name in names}
        columns["image"] = pa.array(images, schema.field("image").type)
        result = pa.table({name: columns[name] for name in schema.names}).cast(schema)
        return (
            result.filter(pa.array([image is not None for image in images])) if self._on_missing == "drop" else result
        )

    def check(self, dataset: Dataset) -> None:
        """Count what is in none of the shards, a shard after the other."""
        columns = [name for name in ("image_id", "shard") if name in dataset.features]
        rows = dataset.select_columns(columns).with_format(None).to_dict()
        keys = list(zip(rows["image_id"], rows.get("shard") or [None] * len(dataset), strict=True))
        missing = [image_id for image_id, hint in sorted(keys, key=_by_shard) if self._place(image_id, hint) is None]
        if missing and self._on_missing == "raise":
            raise _missing(f"{len(missing):,} of {len(keys):,} images, such as sa_{missing[0]}.jpg,", self._shards)
        if missing:
            _log.warning("%d of %d images are in none of the shards", len(missing), len(keys))
            self._told.update(hint for _, hint in keys if hint is not None)

    def _place(self, image_id: int, hint: str | None) -> SA1BShard | None:
        """Give the shard that has an image."""
        likely = [hint] if hint is not None else [f"sa_{number:06d}" for number in shard_of(image_id)]
        others = [] if hint is not None else [name for name in self._shards if name not in likely]
        opened = (self._opened(name) for name in (*likely, *others) if name in self._shards)
        return next((shard for shard in opened if shard and shard.index.find(image_id, "jpg") is not None), None)

    def _find(self, image_id: int, hint: str | None) -> bytes | None:
        """Give the JPEG of an image, or None."""
        shard = self._place(image_id, hint)
        if shard is not None:
            return shard.read(image_id, "jpg")
        if self._on_missing == "raise":
            raise _missing(f"sa_{image_id}.jpg", self._shards, hint)
        if hint is not None and hint not in self._told:
            self._told.add(hint)
            _log.warning("%s: images of it are in none of the shards", hint)
        return None

    def _opened(self, name: str) -> SA1BShard | None:
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        shard = self._open[name] = self._try_open(self._shards[name])
        if len(self._open) > _MAX_OPEN and (oldest := self._open.popitem(last=False)[1]):
            oldest.close()
        return shard

    def _try_open(self, source: ShardSource) -> SA1BShard | None:
        """Open a shard; one that is damaged counts as not there, if rows may go without images."""
        self._index_dir.mkdir(parents=True, exist_ok=True)
        index = self._index_dir / f"{source.name}.index.parquet"
        options = options_for(source.location, self._storage_options)
        try:
            return SA1BShard(source.location, index, shard=source.name, storage_options=options)
        except ShardError as error:
            if self._on_missing == "raise":
                raise
            _log.warning("%s is left out, its images are missing: %s", source.name, error)
            return None


def _by_shard(key: tuple[int, str | None]) -> str:
    return key[1] or ""


def _missing(what: str, shards: Mapping[str, ShardSource], hint: str | None = None) -> PairingError:
    where = f"in any of {len(shards)} shards" if hint is None else f"in shard {hint}, one of {len(shards)}"
    message = f"expected {what} {where}, found none; add the shards, or pass on_missing='drop'"
    return PairingError(message, reason="no-jpg", shard=hint)


def _temporary_folder() -> str:
    folder = tempfile.TemporaryDirectory(prefix="sa1b_hf-index-")
    atexit.register(folder.cleanup)
    return folder.name
