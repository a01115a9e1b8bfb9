"""SA-1B's JSON through `pyarrow.json`: accepted where flat columns prove it sound, else left to the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from numpy.typing import NDArray

from ._json_tree import MAX_ANNOTATIONS
from .features import DOCUMENT_SCHEMA

__all__ = ["ROW_SCHEMA", "parse_with_pyarrow"]

ROW_SCHEMA = pa.schema([*DOCUMENT_SCHEMA.field("image").type, DOCUMENT_SCHEMA.field("annotations")])
"""Columns of a parsed document: those of ``image``, then ``annotations``."""

# Quotes in a document without unknown keys: around 6 keys and the file name, then 10 keys and the counts of each mask.
_QUOTES, _QUOTES_PER_ANNOTATION = 14, 22
_WHITESPACE = b" \t\r\n"
_RLE_FIRST, _RLE_LAST, _RLE_CONTINUES = 48, 111, 0x20

_Mask = NDArray[np.bool_]
_Rows = NDArray[np.int64]


def parse_with_pyarrow(documents: Sequence[bytes], image_ids: _Rows | None) -> tuple[pa.RecordBatch, _Mask]:
    """Parse the documents that are plain and sound.

    Parameters
    ----------
    documents
        JSON texts, none of them oversized, less than 2 GiB together.
    image_ids
        The id that each document must have, int64; any when None.

    Returns
    -------
    RecordBatch
        Schema `ROW_SCHEMA`, one row for each accepted document, in order.
    NDArray[np.bool_]
        For each document whether it was accepted. One that was not may still be sound.

    """
    accepted = np.zeros(len(documents), bool)
    batches = [pa.RecordBatch.from_pylist([], ROW_SCHEMA)]
    plain = np.array([row for row, document in enumerate(documents) if _is_plain(document)], np.int64)
    for rows, batch in _read(documents, plain):
        doubts = _Doubts(batch)
        if image_ids is not None:
            doubts.rows |= doubts.numbers("image_id") != image_ids[rows]
        quotes = np.array([documents[row].count(b'"') for row in rows], np.int64)
        doubts.rows |= quotes != _QUOTES + _QUOTES_PER_ANNOTATION * doubts.lengths
        accepted[rows] = ~doubts.rows
        batches.append(batch.filter(pa.array(~doubts.rows)) if doubts.rows.any() else batch)
    table = pa.Table.from_batches(batches).combine_chunks()
    return next(iter(table.to_batches()), batches[0]), accepted


def _is_plain(document: bytes) -> bool:
    """Tell whether the document can stand beside others.

    Between a document that ends in ``}`` and one that begins with ``{`` there is no JSON in which the joint lies
    inside a value, so as many rows as documents means one row each.
    """
    text = document.strip(_WHITESPACE)
    if not (text.startswith(b"{") and text.endswith(b"}")) or b"\0" in text:
        return False
    try:
        return text.isascii() or bool(text.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _read(documents: Sequence[bytes], rows: _Rows) -> Iterator[tuple[_Rows, pa.RecordBatch]]:
    """Read in one go, or else by halves: a document that `pyarrow` refuses is left out alone."""
    if not len(rows):
        return
    batch = _read_rows([documents[row] for row in rows])
    if batch is not None:
        yield rows, batch
    elif len(rows) > 1:
        middle = len(rows) // 2
        yield from _read(documents, rows[:middle])
        yield from _read(documents, rows[middle:])


def _read_rows(documents: list[bytes]) -> pa.RecordBatch | None:
    text = b"\n".join(documents)
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(text),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=DOCUMENT_SCHEMA, newlines_in_values=True, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowException:
        return None
    if len(table) != len(documents):
        return None
    image, annotations = (column.combine_chunks() for column in table.columns)
    image, annotations = (c.chunk(0) if isinstance(c, pa.ChunkedArray) else c for c in (image, annotations))
    return pa.RecordBatch.from_arrays([*image.flatten(), annotations], schema=ROW_SCHEMA)


class _Doubts:
    """Which rows of a batch are not proven sound; every check is over one flat column.

    Attributes
    ----------
    rows
        One bool for each row of the batch.
    lengths
        The number of annotations of each row, int64.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        self.rows = np.zeros(len(batch), bool)
        for column in batch.columns:
            self.rows |= _is_null(column)
        self.rows |= (self.numbers("width") <= 0) | (self.numbers("height") <= 0)
        annotations = batch.column("annotations")
        self.lengths = _lengths(annotations)
        self.rows |= self.lengths > MAX_ANNOTATIONS
        self._check_annotations(annotations.flatten(), np.asarray(pc.list_parent_indices(annotations)))

    def numbers(self, name: str) -> NDArray[Any]:
        """Give a column as numbers, 0 for null."""
        return _filled(self._batch.column(name))

    def _flag(self, doubtful: _Mask, rows: _Rows) -> None:
        self.rows[rows[doubtful]] = True

    def _check_annotations(self, annotations: pa.StructArray, rows: _Rows) -> None:
        # A field of `flatten()` is null where its struct is: one look at each leaf finds every null.
        fields = dict(zip(_names(annotations), annotations.flatten(), strict=True))
        segmentation = dict(zip(("size", "counts"), fields.pop("segmentation").flatten(), strict=True))
        for column in (*fields.values(), *segmentation.values()):
            self._flag(_is_null(column), rows)
        self._flag(_filled(fields["area"]) < 0, rows)
        for name in ("predicted_iou", "stability_score"):
            self._flag(~np.isfinite(_filled(fields[name])), rows)
        for name in ("bbox", "crop_box"):
            self._check_fixed(fields[name], rows, 4)
        points = fields["point_coords"]
        self._check_fixed(points.flatten(), rows[np.asarray(pc.list_parent_indices(points))], 2)
        size, size_rows = self._check_fixed(segmentation["size"], rows, 2)
        expected = np.stack([self.numbers("height"), self.numbers("width")], axis=1)[size_rows]
        self._flag((size != expected).any(axis=1), size_rows)
        self._check_counts(segmentation["counts"], rows)

    def _check_fixed(self, lists: pa.ListArray, rows: _Rows, length: int) -> tuple[NDArray[Any], _Rows]:
        """Check for finite numbers, so many in each list; give those of the lists that are long enough."""
        fits = _lengths(lists) == length
        self._flag(~fits, rows)
        if not fits.all():
            lists, rows = lists.filter(pa.array(fits)), rows[fits]
        values = lists.flatten()
        numbers = _filled(values).reshape(-1, length)
        self._flag((_is_null(values).reshape(-1, length) | ~np.isfinite(numbers)).any(axis=1), rows)
        return numbers, rows

    def _check_counts(self, counts: pa.StringArray, rows: _Rows) -> None:
        _, offset_buffer, data_buffer = counts.buffers()
        if data_buffer is None or not len(counts):
            return self._flag(np.ones(len(counts), bool), rows)
        offsets = np.frombuffer(offset_buffer, np.int32)[counts.offset : counts.offset + len(counts) + 1]
        data = np.frombuffer(data_buffer, np.uint8)[: offsets[-1]]
        wrong = np.flatnonzero((data < _RLE_FIRST) | (data > _RLE_LAST))
        wrong = wrong[wrong >= offsets[0]]
        self._flag(np.bincount(np.searchsorted(offsets, wrong, "right") - 1, minlength=len(counts)) > 0, rows)
        empty = offsets[1:] == offsets[:-1]
        self._flag(empty, rows)
        last = data[offsets[1:][~empty] - 1]
        return self._flag(((last - _RLE_FIRST) & _RLE_CONTINUES) > 0, rows[~empty])


def _names(structs: pa.StructArray) -> list[str]:
    return [field.name for field in structs.type]


def _is_null(column: pa.Array) -> _Mask:
    return np.asarray(column.is_null())


def _filled(column: pa.Array) -> NDArray[Any]:
    return np.asarray(pc.fill_null(column, 0) if column.null_count else column)


def _lengths(lists: pa.ListArray) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)
