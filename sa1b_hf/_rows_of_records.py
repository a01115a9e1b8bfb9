"""Records to rows: documents parsed, filters applied, JPEGs checked and copied into place."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ._read_options import ReadOptions
from .annotations import ParsedDocuments, parse_documents
from .errors import ImageError, RecordError
from .features import sa1b_features
from .image_column import ImageColumn
from .pairing import Record
from .reports import PassReport

__all__ = ["Rows", "RowsOfRecords"]


class Rows(NamedTuple):
    """What became of some records.

    Attributes
    ----------
    batch
        The good rows.
    numbers
        For each the number of its record.
    num_annotations
        Of the good rows.
    bad
        Numbers of unusable records, and why.

    """

    batch: pa.RecordBatch
    numbers: NDArray[np.int64]
    num_annotations: int
    bad: list[tuple[int, RecordError]]


class RowsOfRecords:
    """Makes rows for one pass over a shard; what filters drop is counted in its report."""

    def __init__(self, shard: str, options: ReadOptions, report: PassReport) -> None:
        self._shard = shard
        self._options = options
        self._report = report
        self._schema = sa1b_features(options.columns).arrow_schema
        self.with_images = "image" in options.columns

    def make(self, records: list[Record]) -> Rows:
        """Make the rows of some records."""
        parsed = parse_documents(
            [record.document for record in records],
            image_ids=[record.image_id for record in records],
            shard=self._shard,
        )
        bad: list[tuple[int, RecordError]] = [(document.index, document.error) for document in parsed.bad]
        columns, rows = self._filter(parsed)
        if self.with_images:
            torn = self._add_images(columns, [records[row] for row in rows.tolist()])
            bad += [(int(rows[row]), error) for row, error in torn]
            rows = np.delete(rows, [row for row, _ in torn])
        columns["shard"] = pa.repeat(pa.scalar(self._shard), len(rows))
        batch = pa.RecordBatch.from_arrays([columns[name] for name in self._schema.names], schema=self._schema)
        num_annotations: int = pa.compute.sum(columns["annotations"].value_lengths()).as_py() or 0
        return Rows(batch, rows, num_annotations, bad)

    def _add_images(self, columns: dict[str, pa.Array], records: list[Record]) -> list[tuple[int, ImageError]]:
        """Add the column of images to the others; take out, and give, those whose JPEG is not what it should be."""
        images = ImageColumn([record.image for record in records if record.image])
        shapes = zip(columns["width"].to_pylist(), columns["height"].to_pylist(), strict=True)
        errors = [
            images.check(row, width=width, height=height, image_id=record.image_id, shard=self._shard)
            for row, (record, (width, height)) in enumerate(zip(records, shapes, strict=True))
        ]
        columns["image"] = images.to_arrow(columns["file_name"])
        if found := [(row, error) for row, error in enumerate(errors) if error]:
            whole = pa.array([error is None for error in errors])
            columns.update({name: column.filter(whole) for name, column in columns.items()})
        return found

    def _filter(self, parsed: ParsedDocuments) -> tuple[dict[str, pa.Array], NDArray[np.int64]]:
        table, rows = parsed.table, parsed.rows
        columns = dict(zip(table.schema.names, table.columns, strict=True))
        columns["annotations"], dropped = self._options.annotation_filter.apply(
            columns["annotations"], width=columns["width"], height=columns["height"], image_id=columns["image_id"]
        )
        self._report.filtered_annotations.update(dropped)
        mask, rejected = self._options.image_filter.apply(columns)
        if mask is not None and not mask.all():
            self._report.filtered.update(rejected)
            columns = {name: column.filter(pa.array(mask)) for name, column in columns.items()}
            rows = rows[mask]
        return columns, rows
