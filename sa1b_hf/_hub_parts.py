"""The Parquet files of a push: on disk before the first byte is sent, the same bytes for the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from ._card_statistics import FIGURES, Statistics
from ._disk import disk_problem
from ._parquet_parts import ParquetParts
from ._parts import Drafts
from ._row_groups import iter_groups
from .errors import ConfigError, SA1BError

__all__ = ["PART_BYTES", "DataPart", "count_part", "hash_file", "write_parts"]

PART_BYTES: Final = 500_000_000
_GROUP_ROWS: Final = 100
_GROUP_BYTES: Final = 32 << 20
_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class DataPart:
    """A Parquet file.

    Attributes
    ----------
    split, name
        Its folder and its name.
    file
        Where it is.
    sha256, size
        Of its bytes.
    rows
        Number of images.

    """

    split: str
    name: str
    file: Path
    sha256: str
    size: int
    rows: int


def write_parts(  # noqa: PLR0917 -- called here only, and all of it is needed
    tables: Iterable[pa.Table],
    folder: Path,
    place: tuple[str, str],
    features: Features,
    provenance: Mapping[str, Any],
    statistics: Statistics,
    part_bytes: int = PART_BYTES,
) -> Iterator[DataPart]:
    """Write rows; where they are cut does not depend on how the tables are.

    Parameters
    ----------
    tables
        Rows with the schema of `features`.
    folder
        Where to.
    place
        The split, and the file names, with ``{:05d}`` for the number of the part.
    features, provenance
        See `sa1b_hf._parquet_parts.ParquetParts`.
    statistics
        The rows are counted in it.
    part_bytes
        About how long a part gets.

    Yields
    ------
    DataPart
        When all are written.

    Raises
    ------
    SourceError
        The disk is full.

    """
    split, name = place
    drafts = Drafts(folder / ".drafts", folder)
    try:
        sink = ParquetParts(drafts, f"{split}/{name}", features, provenance, part_bytes)
        for group in iter_groups(tables, _GROUP_ROWS, _GROUP_BYTES):
            statistics.add(split, group)
            sink.write(group)
        sink.finish()
        drafts.publish()
    except OSError as error:
        if isinstance(error, SA1BError):
            raise
        raise disk_problem(error, folder) from None
    finally:
        drafts.close()
    for part in drafts.parts:
        file = folder / part.path
        _count_bytes(file, split, statistics)
        yield DataPart(split, part.path.rpartition("/")[2], file, part.sha256, part.size, part.rows)


def count_part(file: Path, split: str, statistics: Statistics) -> None:
    """Count the rows of a part that is there already, without reading its images."""
    parquet = pq.ParquetFile(file)
    wanted = {"image_id", *(f"annotations.list.element.{figure.name}" for figure in FIGURES)}
    columns = [
        path
        for path in (parquet.schema.column(number).path for number in range(len(parquet.schema)))
        if path in wanted or path.startswith("labels.list.element.label_ids")
    ]
    for batch in parquet.iter_batches(batch_size=_GROUP_ROWS, columns=columns):
        statistics.add(split, pa.Table.from_batches([batch]))
    _count_bytes(file, split, statistics)


def _count_bytes(file: Path, split: str, statistics: Statistics) -> None:
    metadata = pq.read_metadata(file)
    count = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    statistics.num_bytes[split] = statistics.num_bytes.get(split, 0) + count


def hash_file(file: Path) -> str:
    """Give the SHA-256 of a file, hexadecimal.

    Raises
    ------
    ConfigError
        It cannot be read.

    """
    found = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while block := opened.read(_BLOCK):
                found.update(block)
    except OSError as error:
        raise ConfigError(f"{file}: expected a part of the conversion, found none ({error}); convert again") from None
    return found.hexdigest()
