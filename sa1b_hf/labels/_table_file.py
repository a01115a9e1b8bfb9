"""Tables of labels and captions: Parquet, CSV, JSON lines, or what is in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset

from sa1b_hf.errors import ConfigError

__all__ = ["read_table"]

_FORMATS = {".parquet": "parquet", ".csv": "csv", ".tsv": "tsv", ".jsonl": "json", ".json": "json", ".ndjson": "json"}


def read_table(source: Any, *, columns: Sequence[str] | None = None, explode: str | None = None) -> Any:
    """Read a table.

    Parameters
    ----------
    source
        Path of a Parquet, CSV, TSV or JSON-lines file, or of a folder of Parquet files; several paths; an Arrow table;
        or a `datasets.Dataset`.
    columns
        Those to read, of which `explode` is one if it is given; all by default.
    explode
        A column of lists of structs: each struct becomes a row, with the structs' fields as columns and the other
        columns repeated. SACap-1M keeps its masks in such a column, ``"segments_info"``.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    ConfigError
        There is no such file or column, or it cannot be read.

    Examples
    --------
    >>> table = pa.table({"imagename": ["sa_1.jpg"], "segments_info": [[{"anno_id": 7, "caption": "a dog"}]]})
    >>> read_table(table, explode="segments_info").to_pylist()
    [{'imagename': 'sa_1.jpg', 'anno_id': 7, 'caption': 'a dog'}]

    """
    try:
        table = _open(source, columns)
    except (OSError, pa.ArrowException, TypeError) as error:
        raise ConfigError(f"table: expected Parquet, CSV or JSON lines, found: {error!s:.300}") from error
    return table if explode is None else _explode(table, explode)


def _open(source: Any, columns: Sequence[str] | None) -> Any:
    names = None if columns is None else list(columns)
    if isinstance(source, datasets.Dataset):
        source = source.with_format("arrow")[:]
    if isinstance(source, pa.Table):
        check_columns(source, names or ())
        return source if names is None else source.select(names)
    paths = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    files = [Path(path).expanduser() for path in paths]
    if not files:
        raise ConfigError("table: expected at least one file, found none")
    folder_or_suffix = "" if files[0].is_dir() else files[0].suffix.lower()
    kind = _FORMATS.get(folder_or_suffix, "parquet" if not folder_or_suffix else None)
    if kind is None:
        raise ConfigError(f"table: expected a file named {sorted(_FORMATS)}, found {files[0].name}")
    found = [str(file) for file in files]
    opened = pyarrow.dataset.dataset(found[0] if len(found) == 1 else found, format=_format(kind))
    check_columns(opened, names or ())
    return opened.to_table(columns=names)


def _format(kind: str) -> Any:
    if kind == "tsv":
        return pyarrow.dataset.CsvFileFormat(pa.csv.ParseOptions(delimiter="\t"))
    return kind


def check_columns(table: Any, names: Sequence[str]) -> None:
    """Refuse names that a table does not have."""
    if missing := [name for name in names if name not in table.schema.names]:
        raise ConfigError(f"table: expected columns {missing}, found {table.schema.names}")


def _explode(table: Any, column: str) -> Any:
    check_columns(table, [column])
    lists = table.column(column).combine_chunks()
    kind = lists.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        raise ConfigError(f"table: expected lists of structs in {column!r}, found {kind}")
    lists = pa.concat_arrays(lists.chunks) if isinstance(lists, pa.ChunkedArray) else lists
    rows = table.drop_columns([column]).take(pc.list_parent_indices(lists))
    structs = lists.flatten()
    # as in a join, a field that shares its name with a column of the row is told by the column it comes from
    for field, values in zip(structs.type, structs.flatten(), strict=True):
        name = f"{column}.{field.name}" if field.name in rows.schema.names else field.name
        rows = rows.append_column(name, values)
    return rows
