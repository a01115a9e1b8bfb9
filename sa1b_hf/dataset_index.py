"""A converted folder as a whole: where each image is, what it is like, and any of them at once.

`sa1b_hf.index` is about one original shard; this is about the Parquet parts that `sa1b_hf.convert` wrote.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ._disk import disk_problem, publish
from ._ids import hash_ids, is_int
from ._manifest import Manifest, read_manifests
from ._option_checks import check_seed
from ._row_summaries import SUMMARIES, summarise
from .errors import ConfigError, PairingError

__all__ = ["INDEX_NAME", "ConvertedDataset", "SubsetKey", "build_dataset_index", "load_dataset_index", "subset"]

INDEX_NAME: Final = "index.parquet"
_KEY: Final = b"sa1b_hf.dataset_index"
_PLACES: Final = {
    "image_id": pa.int64(),
    "shard": pa.string(),
    "part": pa.string(),
    "row_group": pa.int32(),
    "row": pa.int32(),
    "width": pa.int32(),
    "height": pa.int32(),
}
_SCHEMA: Final = pa.schema({**_PLACES, **SUMMARIES})
_ELEMENT: Final = "annotations.list.element"

SubsetKey = Literal["num_masks", "area", "predicted_iou"]
"""By what `subset` spreads images: their number of masks, or the mean area or score of these."""


def build_dataset_index(folder: str | os.PathLike[str]) -> Path:
    """Write the index of a converted folder, ``index.parquet``; JPEGs and masks are not read.

    Parameters
    ----------
    folder
        Where `sa1b_hf.convert` wrote Parquet to.

    Returns
    -------
    Path
        The index: a row for each image, ascending by id, with ``image_id``; ``shard``; ``part`` (path below the
        folder), ``row_group`` and ``row`` (in the part, from 0); ``width`` and ``height``; and the summaries
        ``num_masks``, ``area_sum``, ``area_min``, ``area_max`` (pixels), ``predicted_iou_mean`` and ``_min``,
        ``stability_score_mean`` and ``_min``. What the rows do not have is null.

    Raises
    ------
    ConfigError
        The folder was not converted, or not to Parquet.
    SourceError
        It cannot be written to.

    """
    folder = Path(folder)
    manifests = read_manifests(folder)
    if other := sorted({manifest.config["format"] for manifest in manifests} - {"parquet"}):
        raise ConfigError(f"{folder}: expected Parquet parts to index, found {other}; convert with format='parquet'")
    tables = [_index_part(folder, manifest, part.path) for manifest in manifests for part in manifest.parts]
    table = pa.concat_tables(tables) if tables else _SCHEMA.empty_table()
    table = table.sort_by("image_id").replace_schema_metadata({_KEY: _digest(manifests)})
    path = folder / INDEX_NAME
    draft = folder / ".sa1b" / f"{INDEX_NAME}.{os.getpid()}.draft"
    try:
        pq.write_table(table, draft, compression="zstd", use_dictionary=["shard", "part"])
        publish(draft, path)
    except OSError as error:
        raise disk_problem(error, path) from None
    finally:
        draft.unlink(missing_ok=True)
    return path


def load_dataset_index(folder: str | os.PathLike[str]) -> pa.Table:
    """Read the index of a converted folder.

    Parameters
    ----------
    folder
        With ``index.parquet``.

    Returns
    -------
    pyarrow.Table
        As `build_dataset_index` says.

    Raises
    ------
    ConfigError
        There is none, or the folder was converted anew since.

    """
    path = Path(folder) / INDEX_NAME
    advice = f"run  sa1b index {folder}"
    if not path.is_file():
        raise ConfigError(f"{path}: expected the index of a converted folder, found none; {advice}")
    table = pq.read_table(path)
    if (table.schema.metadata or {}).get(_KEY) != _digest(read_manifests(folder)):
        raise ConfigError(f"{path}: expected the index of the parts that are there, found that of others; {advice}")
    return table


def subset(index: pa.Table, n: int, by: SubsetKey = "num_masks", seed: int = 0) -> NDArray[np.int64]:
    """Choose images that are spread as all of them are: one at random out of each of `n` strata of equal size.

    Parameters
    ----------
    index
        From `load_dataset_index`.
    n
        How many; all if there are not more.
    by
        What strata are made by.
    seed
        Equal seeds choose equal images.

    Returns
    -------
    NDArray[np.int64]
        Image ids, ascending, for ``ids=`` of `sa1b_hf.ImageFilter` and others.

    Raises
    ------
    ConfigError
        An option makes no sense.

    """
    if by not in get_args(SubsetKey):
        raise ConfigError(f"by: expected one of {list(get_args(SubsetKey))}, found {by!r}")
    if not is_int(n) or n < 1:
        raise ConfigError(f"n: expected an int of 1 or more, found {n!r}")
    check_seed(seed)
    ids = index["image_id"].to_numpy()
    hashes = hash_ids(seed, ids)
    order = np.lexsort((hashes, _stratum_key(index, by)))
    borders = np.linspace(0, len(order), min(n, len(order)) + 1).astype(np.int64)
    chosen = [start + int(hashes[order[start:stop]].argmin()) for start, stop in pairwise(borders)]
    return np.sort(ids[order[chosen]])


def _stratum_key(index: pa.Table, by: str) -> NDArray[np.float64]:
    if by == "num_masks":
        column = index["num_masks"]
    elif by == "area":
        column = pc.divide(pc.cast(index["area_sum"], pa.float64()), pc.cast(index["num_masks"], pa.float64()))
    else:
        column = index["predicted_iou_mean"]
    key: NDArray[np.float64] = pc.fill_null(pc.cast(column, pa.float64()), -1.0).to_numpy()
    return key


class ConvertedDataset:
    """Random access to the rows of a converted folder, ascending by image id; for `torch.utils.data.DataLoader` too.

    Parameters
    ----------
    folder
        Converted and indexed.
    columns
        Which columns to read; all by default.
    max_open
        Most files that are held open.

    Raises
    ------
    ConfigError
        The folder has no index that fits.

    Attributes
    ----------
    index
        See `build_dataset_index`.

    Notes
    -----
    A row costs the reading of its row group: convert with a small ``row_group_rows`` for random access to be fast. The
    row group read last is kept.

    """

    def __init__(
        self, folder: str | os.PathLike[str], columns: Sequence[str] | None = None, *, max_open: int = 8
    ) -> None:
        self.index = load_dataset_index(folder)
        self._folder = Path(folder)
        self._columns = None if columns is None else list(columns)
        self._max_open = max_open
        self._ids = self.index["image_id"].to_numpy()
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        self._group: tuple[str, int] | None = None
        self._table: Any = None
        self._owner = os.getpid()

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Give the row at a position; negative ones count from the end."""
        return self._read(range(len(self))[number])

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Give some rows; those of one row group are read together."""
        places = [self._place(range(len(self))[number]) for number in numbers]
        rows: dict[int, dict[str, Any]] = {}
        for at in sorted(range(len(places)), key=lambda at: places[at]):
            rows[at] = self._row(*places[at])
        return [rows[at] for at in range(len(places))]

    def by_id(self, image_id: int) -> dict[str, Any]:
        """Give the row of an image.

        Raises
        ------
        PairingError
            The folder has no such image.

        """
        number = int(np.searchsorted(self._ids, image_id))
        if number == len(self) or self._ids[number] != image_id:
            message = f"expected image {image_id} in {self._folder}, found none; see ConvertedDataset.index"
            raise PairingError(message, reason="no-image", image_id=image_id)
        return self._read(number)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))

    def _read(self, number: int) -> dict[str, Any]:
        return self._row(*self._place(number))

    def _place(self, number: int) -> tuple[str, int, int]:
        part, group, row = (self.index[name][number].as_py() for name in ("part", "row_group", "row"))
        return part, group, row

    def _row(self, part: str, group: int, row: int) -> dict[str, Any]:
        file = self._open(part)
        if self._group != (part, group):
            self._table, self._group = file.read_row_group(group, columns=self._columns), (part, group)
        start = sum(file.metadata.row_group(earlier).num_rows for earlier in range(group))
        (found,) = self._table.slice(row - start, 1).to_pylist()
        return dict(found)

    def _open(self, part: str) -> pq.ParquetFile:
        if self._owner != os.getpid():  # forked: files are not shared
            self._files, self._group, self._owner = OrderedDict(), None, os.getpid()
        if part not in self._files:
            self._files[part] = pq.ParquetFile(self._folder / part, memory_map=True)
            while len(self._files) > self._max_open:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(part)
        return self._files[part]

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind."""
        return {**self.__dict__, "_files": OrderedDict(), "_group": None, "_table": None}

    def close(self) -> None:
        """Let go of open files."""
        while self._files:
            self._files.popitem()[1].close()
        self._group, self._table = None, None


def _index_part(folder: Path, manifest: Manifest, part: str) -> pa.Table:
    with pq.ParquetFile(folder / part) as file:
        groups, start = [], 0
        for number in range(file.num_row_groups):
            group = _index_group(file, number)
            rows = len(group["image_id"])
            group["shard"] = pa.repeat(pa.scalar(manifest.shard), rows)
            group["part"] = pa.repeat(pa.scalar(part), rows)
            group["row_group"] = pa.repeat(pa.scalar(number, pa.int32()), rows)
            group["row"] = pa.array(np.arange(start, start + rows, dtype=np.int32))
            columns = [
                group.get(name, pa.nulls(rows, kind)) for name, kind in zip(_SCHEMA.names, _SCHEMA.types, strict=True)
            ]
            groups.append(pa.table(columns, _SCHEMA))
            start += rows
    return pa.concat_tables(groups) if groups else _SCHEMA.empty_table()


def _index_group(file: pq.ParquetFile, number: int) -> dict[str, pa.Array]:
    wanted = [name for name in ("image_id", "width", "height") if name in file.schema_arrow.names]
    leaves = [f"{_ELEMENT}.{name}" for name in ("area", "predicted_iou", "stability_score")]
    has_masks = "annotations" in file.schema_arrow.names
    table = file.read_row_group(number, columns=[*wanted, *(leaves if has_masks else [])])
    found = {name: table[name].combine_chunks() for name in wanted}
    return {**found, **(summarise(table["annotations"].combine_chunks()) if has_masks else {})}


def _digest(manifests: Sequence[Manifest]) -> bytes:
    """Tell these parts from others."""
    lines = "".join(f"{part.path} {part.sha256}\n" for manifest in manifests for part in manifest.parts)
    return hashlib.sha256(lines.encode()).hexdigest().encode()
