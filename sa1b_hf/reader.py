"""One shard to Arrow: open, walk, pair, parse, filter, and pack into batches of the schema of `features.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ._ids import is_int
from .annotations import ParsedDocuments, parse_documents
from .errors import ConfigError, ImageError, RecordError, ShardError
from .faults import Faults, OnError
from .features import COLUMNS, sa1b_features
from .filters import AnnotationFilter, ImageFilter
from .image_column import ImageColumn
from .inflate import resolve_engine
from .pairing import DEFAULT_RAM_CAP, Pairing, Record
from .parts import PartReader
from .reports import PassReport
from .salvage import SalvageReport, iter_salvaged_members
from .source import Cursor, open_shard
from .tar import Member, iter_members
from .transport import Source

__all__ = ["ReadOptions", "iter_batches"]

_MAX_BATCH_BYTES: Final = 64 << 20
_MAX_BATCH_ROWS: Final = 16
_MAX_THREADS: Final = 64


@dataclass(frozen=True)
class ReadOptions:
    """How to read a shard.

    Attributes
    ----------
    columns
        Names from `sa1b_hf.features.COLUMNS`. Without ``"image"`` no JPEG is kept, waited for or checked.
    annotation_filter, image_filter
        What to keep.
    on_error
        ``"raise"`` or ``"warn"``, see `sa1b_hf.faults.Faults`.
    ram_cap
        Bytes of waiting halves kept in memory.
    scratch_dir
        Folder for what does not fit there.
    engine
        What inflates gzip, see `sa1b_hf.inflate.resolve_engine`.
    batch_rows
        Largest number of rows of a batch. The first batches are smaller, so that the first example comes early.
    storage_options
        Passed to the file system of a remote source.
    index_dir
        Folder of indexes, ``<shard>.index.parquet``, by which parts of a shard find their missing halves; built when
        they are not there, which takes a pass over the shard.
    inflate_threads
        How many threads inflate a gzip shard that is read front to back; more than one costs some 30 MB each.
    salvage
        Read on behind damage, with ``on_error="warn"``: images that it did not touch come out, each loss is reported
        as a break of the shard. Off by default: behind damage the checksum of the shard proves nothing any more, and
        whoever accepts that should say so.

    """

    columns: tuple[str, ...] = COLUMNS
    annotation_filter: AnnotationFilter = field(default_factory=AnnotationFilter)
    image_filter: ImageFilter = field(default_factory=ImageFilter)
    on_error: OnError = "raise"
    ram_cap: int = DEFAULT_RAM_CAP
    scratch_dir: str | None = None
    engine: str = "auto"
    batch_rows: int = _MAX_BATCH_ROWS
    storage_options: Mapping[str, Any] | None = None
    index_dir: str | None = None
    inflate_threads: int = 1
    salvage: bool = False

    def __post_init__(self) -> None:
        if self.batch_rows < 1:
            raise ConfigError(f"batch_rows: expected at least 1, found {self.batch_rows}")
        if self.ram_cap < 0:
            raise ConfigError(f"ram_cap: expected a number of bytes, found {self.ram_cap}")
        if self.on_error not in get_args(OnError):
            raise ConfigError(f"on_error: expected one of {list(get_args(OnError))}, found {self.on_error!r}")
        if not is_int(self.inflate_threads) or not 1 <= self.inflate_threads <= _MAX_THREADS:
            raise ConfigError(f"inflate_threads: expected 1 to {_MAX_THREADS}, found {self.inflate_threads!r}")
        if self.salvage and self.on_error != "warn":
            raise ConfigError("salvage: expected on_error='warn' with it: on_error='raise' ends at the first damage")
        resolve_engine(self.engine)


def iter_batches(
    source: Source,
    shard: str,
    options: ReadOptions | None = None,
    report: PassReport | None = None,
    part: tuple[int, int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read one shard.

    Parameters
    ----------
    source
        Where the shard is: a path, a URL, or a signed link.
    shard
        Its name for the ``shard`` column, messages and the report, such as ``"sa_000020"``.
    options
        See `ReadOptions`.
    report
        Counts are added to it while batches come out; it is complete when the iterator ends.
    part
        (index, of): read only this part of the shard, counted from 0, see `sa1b_hf.parts`. All parts together are the
        shard.

    Yields
    ------
    pyarrow.RecordBatch
        Rows in the order in which images became complete, with exactly the Arrow schema of
        ``sa1b_features(options.columns)``; never empty.

    Raises
    ------
    ShardError
        The shard cannot be read on, and ``on_error="raise"``. Every image that was complete before has come out.
    RecordError
        An image or document is unusable, and ``on_error="raise"``.

    """
    options = options or ReadOptions()
    report = PassReport() if report is None else report
    if part is not None and options.salvage:
        raise ConfigError("salvage: expected whole shards with it, found a part of one; drop parts= or salvage=")
    yield from _ShardPass(source, shard, options, report, part).run()


class _ShardPass:
    def __init__(
        self, source: Source, shard: str, options: ReadOptions, report: PassReport, part: tuple[int, int] | None
    ) -> None:
        self._part = part
        self._source = source
        self._shard = shard
        self._options = options
        self._report = report
        self._faults = Faults(shard, options.on_error, report)
        self._schema = sa1b_features(options.columns).arrow_schema
        self._with_images = "image" in options.columns

    def run(self) -> Iterator[pa.RecordBatch]:
        options, report = self._options, self._report
        report.passes += 1
        image_filter = options.image_filter
        pairing = Pairing(
            self._faults,
            images=self._with_images,
            reject=None
            if image_filter.ids is None and image_filter.sample_fraction is None
            else image_filter.accepts_id,
            ram_cap=options.ram_cap,
            scratch_dir=options.scratch_dir,
        )
        reader: Cursor | PartReader | None = None
        try:
            if options.salvage and self._part is None:
                yield from self._iter_complete(pairing.iter_records(self._iter_salvaged()))
            else:
                reader = self._open()
                yield from self._iter_complete(self._iter_records(reader, pairing))
        except ShardError as error:
            if abandoned := pairing.abandon():
                report.skipped["incomplete"] += abandoned
            error.shard = error.shard or self._shard
            self._faults.break_shard(error, reader.offset if reader else 0)
        finally:
            pairing.close()
            if reader:
                reader.close()
        report.completed += 1

    def _open(self) -> Cursor | PartReader:
        engine, storage_options = self._options.engine, self._options.storage_options
        if self._part is not None:
            folder = self._options.index_dir
            return PartReader(
                self._source,
                self._part,
                engine=engine,
                shard=self._shard,
                storage_options=storage_options,
                index=None if folder is None else Path(folder) / f"{self._shard}.index.parquet",
            )
        return open_shard(
            self._source,
            engine=engine,
            shard=self._shard,
            storage_options=storage_options,
            inflate_threads=self._options.inflate_threads,
        )

    def _iter_salvaged(self) -> Iterator[Member]:
        options, found = self._options, SalvageReport()
        yield from iter_salvaged_members(
            self._source, found, engine=options.engine, storage_options=options.storage_options
        )
        for loss in found.lost:
            where = f"bytes {loss.start:,} to {loss.stop:,} of the file, {loss.name or 'no name is known'}"
            self._faults.break_shard(
                ShardError(f"lost {where}; download it again", reason=loss.reason, shard=self._shard, member=loss.name),
                None,
            )

    def _iter_records(self, reader: Cursor | PartReader, pairing: Pairing) -> Iterator[Record]:
        if isinstance(reader, PartReader):
            return reader.iter_records(pairing, images=self._with_images)
        return pairing.iter_records(iter_members(reader))

    def _iter_complete(self, records: Iterator[Record]) -> Iterator[pa.RecordBatch]:
        """Turn records into batches; an error of the records comes after the rows that were complete before it."""
        waiting: list[Record] = []
        waiting_bytes = 0
        limit = 1
        failure: RecordError | ShardError | None = None
        while True:
            try:
                record = next(records, None)
            except (RecordError, ShardError) as error:
                failure, record = error, None
            if record is not None:
                waiting.append(record)
                waiting_bytes += len(record.document) + (record.image.size if record.image else 0)
                if len(waiting) < limit and waiting_bytes < _MAX_BATCH_BYTES:
                    continue
            yield from self._pack(waiting)
            if record is None:
                break
            waiting, waiting_bytes, limit = [], 0, min(limit * 2, self._options.batch_rows)
        if failure is not None:
            raise failure

    def _pack(self, records: list[Record]) -> Iterator[pa.RecordBatch]:
        """Give the good rows of some records as one batch, then report the bad ones."""
        if not records:
            return
        parsed = parse_documents(
            [record.document for record in records],
            image_ids=[record.image_id for record in records],
            shard=self._shard,
        )
        bad: list[RecordError] = [document.error for document in parsed.bad]
        columns, rows = self._filter(parsed)
        if self._with_images:
            bad += self._add_images(columns, [records[row] for row in rows.tolist()])
        count = len(columns["image_id"])
        if count:
            columns["shard"] = pa.repeat(pa.scalar(self._shard), count)
            self._report.delivered += count
            self._report.num_annotations += pa.compute.sum(columns["annotations"].value_lengths()).as_py() or 0
            yield pa.RecordBatch.from_arrays([columns[name] for name in self._schema.names], schema=self._schema)
        for error in bad:
            self._faults.skip_image(error)

    def _add_images(self, columns: dict[str, pa.Array], records: list[Record]) -> list[ImageError]:
        """Add the column of images to the others; take out, and give, those whose JPEG is not what it should be."""
        images = ImageColumn([record.image for record in records if record.image])
        shapes = zip(columns["width"].to_pylist(), columns["height"].to_pylist(), strict=True)
        errors = [
            images.check(row, width=width, height=height, image_id=record.image_id, shard=self._shard)
            for row, (record, (width, height)) in enumerate(zip(records, shapes, strict=True))
        ]
        columns["image"] = images.to_arrow(columns["file_name"])
        if found := [error for error in errors if error]:
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
