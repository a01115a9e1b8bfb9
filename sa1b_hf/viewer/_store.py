"""Rows read forward from any place, and then there at random: numbers in memory, the rest in a scratch file."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sa1b_hf._mask_columns import read_example, read_mask_columns
from sa1b_hf.errors import ConfigError, RecordError, SA1BError

from ._cache import ByteCache

__all__ = ["RowStore", "RowSummary"]

_CACHED: Final = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class RowSummary:
    """What the grid and the filters need of a row.

    Attributes
    ----------
    image_id, file_name, shard, width, height
        Of the row; pixels.
    ids, areas, predicted_iou, stability_score, label_ids, label_scores
        Of its N masks, see `sa1b_hf._mask_columns.MaskColumns`.
    has_labels
        The row has a ``labels`` column.

    """

    image_id: int
    file_name: str
    shard: str
    width: int
    height: int
    ids: NDArray[np.int64]
    areas: NDArray[np.int64]
    predicted_iou: NDArray[np.float64]
    stability_score: NDArray[np.float64]
    label_ids: NDArray[np.int64]
    label_scores: NDArray[np.float64]
    has_labels: bool


class RowStore:
    """The rows of a stream, as far as they were asked for.

    Parameters
    ----------
    tables
        Read forward, one table after another, when rows are asked for that are not known yet.
    limit
        Most rows to read: they lie in an unlinked scratch file, a megabyte each for full-size images.
    cached_bytes
        Of rows kept in memory.

    Attributes
    ----------
    problem
        Why reading ended early, in words; None if it did not.

    """

    def __init__(self, tables: Iterable[pa.Table], *, limit: int = 2000, cached_bytes: int = _CACHED) -> None:
        if limit < 1:
            raise ConfigError(f"limit: expected at least 1 row, found {limit}")
        self._tables = iter(tables)
        self._limit = limit
        self._summaries: list[RowSummary] = []
        self._numbers: dict[int, int] = {}
        self._places: list[tuple[int, int]] = []
        # an unlinked file: nothing is left behind, whatever ends the process
        self._scratch = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in `close`
        self._end = 0
        self._reading, self._seeking = threading.Lock(), threading.Lock()
        self._rows: ByteCache[pa.Table] = ByteCache(cached_bytes, lambda table: int(table.nbytes))
        self.is_complete = False
        self.num_skipped = 0
        self.problem: str | None = None

    def __len__(self) -> int:
        """Rows known so far."""
        return len(self._summaries)

    @property
    def cached_bytes(self) -> int:
        """Bytes of the rows in memory."""
        return self._rows.num_bytes

    def ensure(self, count: int) -> None:
        """Read until so many rows are known, or there are no more."""
        with self._reading:
            while len(self) < count and not self.is_complete:
                self._read_on()

    def find(self, image_id: int) -> int | None:
        """Give the number of an image's row, reading on until it comes; None if it does not."""
        while image_id not in self._numbers and not self.is_complete:
            self.ensure(len(self) + 1)
        return self._numbers.get(image_id)

    def summary(self, number: int) -> RowSummary:
        """Give the summary of a known row."""
        return self._summaries[number]

    def summaries(self) -> list[RowSummary]:
        """Give those of all rows known so far."""
        return self._summaries[:]

    def row(self, number: int) -> dict[str, Any]:
        """Give a known row, its annotations as Arrow values."""
        return read_example(self._rows.get(number, lambda: self._load(number)))

    def close(self) -> None:
        """Let go of the scratch file and of the place that is read."""
        with self._reading:
            self.is_complete = True
            close = getattr(self._tables, "close", None)
            if close is not None:
                close()
            self._scratch.close()

    def _read_on(self) -> None:
        try:
            table = next(self._tables, None)
            if table is None:
                self.is_complete = True
                return
            for start in range(table.num_rows):
                if len(self) >= self._limit:
                    self.is_complete = True
                    self.problem = f"only the first {self._limit:,} images are shown; see --limit"
                    return
                self._keep(table.slice(start, 1))
        except (SA1BError, OSError) as error:
            self.is_complete = True
            self.problem = str(error)

    def _keep(self, row: pa.Table) -> None:
        try:
            summary = _summarise(read_example(row))
        except RecordError:
            self.num_skipped += 1
            return
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, row.schema) as writer:
            writer.write_table(row)
        data = sink.getvalue()
        with self._seeking:
            self._scratch.seek(self._end)
            self._scratch.write(data)
        self._places.append((self._end, data.size))
        self._end += data.size
        self._numbers.setdefault(summary.image_id, len(self))
        self._summaries.append(summary)

    def _load(self, number: int) -> pa.Table:
        start, size = self._places[number]
        with self._seeking:
            self._scratch.seek(start)
            data = self._scratch.read(size)
        return pa.ipc.open_stream(data).read_all()


def _summarise(row: dict[str, Any]) -> RowSummary:
    columns = read_mask_columns(row)
    return RowSummary(
        image_id=int(row["image_id"]),
        file_name=str(row.get("file_name") or f"sa_{row['image_id']}.jpg"),
        shard=str(row.get("shard") or ""),
        width=int(row["width"]),
        height=int(row["height"]),
        ids=columns.ids,
        areas=columns.areas,
        predicted_iou=columns.predicted_iou,
        stability_score=columns.stability_score,
        label_ids=columns.label_ids,
        label_scores=columns.label_scores,
        has_labels=columns.has_labels,
    )
