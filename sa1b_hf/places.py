"""Where rows can be looked at: shards, converted directories, repositories of the Hub; and their rows as Arrow tables.

One reading for all that only look: the viewer, statistics, pictures. Training reads with `load_dataset`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from .data_files import as_data_files
from .errors import ConfigError, MissingShardsError, SourceError
from .features import COLUMNS
from .links import mask_url
from .reader import ReadOptions, iter_batches
from .reports import PassReport
from .sources import ENVIRONMENT_VARIABLE, ShardSource, check_links, find_shards, select_shards

__all__ = ["Place", "find_place", "iter_tables", "read_label_names"]

_ROWS: Final = 16
_RAM_CAP: Final = 128 << 20  # who only looks shall not need more; the rest waits in a scratch file
_SHARD_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")
_REPOSITORY: Final = re.compile(r"[\w.-]+/[\w.-]+")
_METADATA_KEY: Final = b"sa1b_hf"

Kind = Literal["sample", "shards", "parquet", "hub"]


@dataclass(frozen=True)
class Place:
    """Somewhere with rows.

    Attributes
    ----------
    kind
        ``"sample"``, ``"shards"``, ``"parquet"`` (a converted directory, or Parquet files) or ``"hub"``.
    name
        To show, without secrets.
    shards
        Of kinds ``"sample"`` and ``"shards"``, in order.
    files
        Of kind ``"parquet"``, in order.
    repository, split
        Of kind ``"hub"``.
    arguments
        Of the call of `load_dataset` that reads the same rows, the path first under the key ``"path"``.

    """

    kind: Kind
    name: str
    shards: tuple[ShardSource, ...] = ()
    files: tuple[str, ...] = ()
    repository: str | None = None
    split: str = "train"
    arguments: Mapping[str, Any] = field(default_factory=dict)


def find_place(place: str | None, *, split: str = "train") -> Place:
    """Tell what a place is.

    Parameters
    ----------
    place
        A shard or a folder of shards, local or not; a links file; a folder of `sa1b convert` or other Parquet files;
        a repository ``owner/name``; None for the embedded sample, or what ``SA1B_HF_SHARDS`` names.
    split
        Of a repository.

    Returns
    -------
    Place

    Raises
    ------
    ConfigError
        It is nothing of these.
    MissingShardsError
        A folder has neither shards nor Parquet files.
    LinkExpiredError
        The links of a links file have expired.

    """
    if place is None:
        return _default()
    path = Path(place).expanduser()
    if path.is_dir():
        return _find_in_folder(place, path)
    if path.is_file() and place.endswith(".parquet"):
        return _parquet(place, [str(path)], str(path))
    if path.is_file() and place.endswith(".txt"):
        return _shards(place, links=str(path))
    if "://" in place or (path.is_file() and place.endswith(_SHARD_SUFFIXES)):
        return _shards(place, **{"data_files" if place.endswith(_SHARD_SUFFIXES) else "data_dir": place})
    if _REPOSITORY.fullmatch(place) and not path.exists():
        arguments = {"path": place, "split": split, "streaming": True}
        return Place("hub", place, repository=place, split=split, arguments=arguments)
    expected = "expected a shard, a folder, a links file, a converted directory or a repository owner/name"
    found = "a file of another kind" if path.exists() else "nothing there"
    raise ConfigError(f"{mask_url(place)}: {expected}, found {found}")


def iter_tables(
    place: Place, columns: Sequence[str] | None = None, report: PassReport | None = None
) -> Iterator[pa.Table]:
    """Read the rows of a place, front to back.

    Parameters
    ----------
    place
        From `find_place`.
    columns
        Names to read, where present; by default those of `sa1b_hf.features.COLUMNS`, and ``labels``.
    report
        Of shards: what was delivered, skipped and found broken is added to it. Nothing of that ends the reading.

    Yields
    ------
    pyarrow.Table
        A few rows, never none. Images are bytes; no pixel is decoded.

    Raises
    ------
    SourceError
        A Parquet file or a repository cannot be read.

    """
    wanted = (*COLUMNS, "labels") if columns is None else tuple(columns)
    if place.kind == "parquet":
        yield from _iter_parquet(place, wanted)
    elif place.kind == "hub":
        yield from _iter_repository(place, wanted)
    else:
        columns = tuple(name for name in COLUMNS if name in wanted)
        options = ReadOptions(columns=columns, on_error="warn", ram_cap=_RAM_CAP)
        for shard in place.shards:
            for batch in iter_batches(shard.location, shard.name, options, report):
                yield pa.Table.from_batches([batch])


def read_label_names(place: Place) -> tuple[str, ...]:
    """Read the names of label ids from the metadata of what was converted; none if there are none."""
    for file in place.files[:1]:
        content = (pq.read_schema(file).metadata or {}).get(_METADATA_KEY)
        try:
            transforms = json.loads(content or b"{}").get("transforms", [])
            names = [step["names"] for step in transforms if isinstance(step, dict) and step.get("names")]
            return tuple(map(str, names[-1])) if names else ()
        except (ValueError, AttributeError, TypeError) as error:
            raise SourceError(f"{file}: its metadata cannot be read: {error}", reason="metadata") from error
    return ()


def _default() -> Place:
    arguments = {"path": "sa1b.py", "split": "train", "streaming": True}
    found = find_shards()
    shards = tuple(select_shards(found)["train"])
    if found:
        return Place("shards", f"${ENVIRONMENT_VARIABLE}", shards, arguments=arguments)
    return Place("sample", "the embedded sample", shards, arguments=arguments)


def _find_in_folder(place: str, path: Path) -> Place:
    files = sorted(str(file) for file in path.rglob("*.parquet") if not file.name.endswith(".index.parquet"))
    if files:
        pattern = path / "data" / "train" / "*.parquet" if (path / "data" / "train").is_dir() else path / "**/*.parquet"
        return _parquet(place, files, str(pattern))
    return _shards(place, data_dir=str(path))


def _parquet(name: str, files: list[str], pattern: str) -> Place:
    arguments = {"path": "parquet", "data_files": pattern, "split": "train", "streaming": True}
    return Place("parquet", name, files=tuple(files), arguments=arguments)


def _shards(name: str, **source: str) -> Place:
    files = as_data_files(source.get("data_files"))
    found = find_shards(**{**source, **({"data_files": files} if files else {})})
    shards = tuple(shard for part in found.values() for shard in part)
    if not shards:
        raise MissingShardsError(f"{mask_url(name)}: expected shards, found none")
    check_links(shards)
    arguments = {"path": "sa1b.py", **source, "split": "train", "streaming": True}
    return Place("shards", mask_url(name), shards=shards, arguments=arguments)


def _iter_parquet(place: Place, wanted: Sequence[str]) -> Iterator[pa.Table]:
    for name in place.files:
        try:
            with pq.ParquetFile(name, pre_buffer=False) as file:
                columns = [column for column in file.schema_arrow.names if column in wanted]
                for batch in file.iter_batches(_ROWS, columns=columns):
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            message = f"{name}: expected a whole Parquet file: {error}; convert its shard anew"
            raise SourceError(message, reason="parquet") from error


def _iter_repository(place: Place, wanted: Sequence[str]) -> Iterator[pa.Table]:
    try:
        stream = datasets.load_dataset(str(place.repository), split=place.split, streaming=True)
        names = stream.column_names or []
        if "image" in names:
            stream = stream.cast_column("image", datasets.Image(decode=False))
        stream = stream.select_columns([name for name in names if name in wanted]) if names else stream
        yield from stream.with_format("arrow").iter(batch_size=_ROWS)
    except Exception as error:  # `datasets` and the Hub raise errors of many kinds
        message = f"{place.repository}: the repository cannot be read: {error}"
        raise SourceError(message, reason="repository") from error
