"""One shard to Arrow: open, walk, pair, parse, filter, and pack into batches of the schema of `features.py`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ._handover import Handover
from ._places import PlaceReader
from ._read_options import ReadOptions
from ._rows_of_records import Rows, RowsOfRecords
from ._shard_state import ShardState
from ._track import Track
from .errors import ConfigError, RecordError, ShardError
from .faults import Faults
from .pairing import Pairing, Record
from .parts import HAND_OVER_EVERY, PartReader, PartSums
from .reports import PassReport
from .salvage import SalvageReport, iter_salvaged_members
from .source import Cursor, open_shard
from .tar import Member, iter_members
from .transport import Source

__all__ = ["ReadOptions", "Resume", "iter_batches", "iter_resumable"]

_MAX_BATCH_BYTES: Final = 64 << 20
_MAX_GROUP_BYTES: Final = 16 << 20
_GROUP: Final = 4  # rows that a stream has to read again, or ahead, when it goes on


def iter_batches(
    source: Source,
    shard: str,
    options: ReadOptions | None = None,
    report: PassReport | None = None,
    part: tuple[int, int] | None = None,
    *,
    sums: PartSums | None = None,
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
    sums
        Shared by the parts of one shard that one process reads: with the last of them the gzip checksum is checked.

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
    yield from _ShardPass(source, shard, options, report, part=part, sums=sums).run()


def iter_resumable(
    source: Source,
    shard: str,
    options: ReadOptions,
    report: PassReport,
    *,
    part: tuple[int, int] | None = None,
    resume: Resume | None = None,
) -> Iterator[tuple[pa.RecordBatch, str | None]]:
    """Read one shard, or go on where an earlier pass stood.

    Parameters
    ----------
    source, shard, options, report, part
        As for `iter_batches`. A pass that goes on counts what it delivers itself, and what waited when it began.
    resume
        Where to go on; it takes a time that does not depend on the position.

    Yields
    ------
    tuple of (pyarrow.RecordBatch, str or None)
        A batch and the state at its beginning, for `Resume`; None where none can be had, as with ``salvage=True``.

    Raises
    ------
    ShardError, RecordError
        As `iter_batches`; `SourceChangedError` if the state is of another file.
    ConfigError
        The state is none.

    """
    if options.salvage:
        for batch in iter_batches(source, shard, options, report, part):
            yield batch, None
        return
    shard_pass = _ShardPass(source, shard, options, report, part=part or (0, 1), track=Track(), resume=resume)
    for batch in shard_pass.run():
        yield batch, shard_pass.state


@dataclass(frozen=True)
class Resume:
    """Where to go on.

    Attributes
    ----------
    state
        What `iter_resumable` gave with a batch.
    skip
        Rows of that batch that are not wanted again.

    """

    state: str
    skip: int = 0


class _ShardPass:
    def __init__(
        self,
        source: Source,
        shard: str,
        options: ReadOptions,
        report: PassReport,
        *,
        part: tuple[int, int] | None,
        sums: PartSums | None = None,
        track: Track | None = None,
        resume: Resume | None = None,
    ) -> None:
        self.state: str | None = None
        self._is_resumable = track is not None
        # readers of parts tell one another how far they are, now and then
        is_part = part is not None and part[1] > 1
        self._track = track or (Track(HAND_OVER_EVERY, is_resumable=False) if is_part else None)
        self._sums = sums
        self._resume = resume
        self._restored: ShardState | None = None
        self._limit = self._wanted = 1  # records of the next group, groups of the next batch
        self._reader: Cursor | PartReader | None = None
        self._part = part
        self._source = source
        self._shard = shard
        self._options = options
        self._report = report
        self._faults = Faults(shard, options.on_error, report)
        self._rows = RowsOfRecords(shard, options, report)

    def run(self) -> Iterator[pa.RecordBatch]:
        options, report = self._options, self._report
        report.passes += 1
        image_filter = options.image_filter
        pairing = Pairing(
            self._faults,
            images=self._rows.with_images,
            reject=None
            if image_filter.ids is None and image_filter.sample_fraction is None
            else image_filter.accepts_id,
            ram_cap=options.ram_cap,
            scratch_dir=options.scratch_dir,
            track=self._track,
        )
        reader: Cursor | PartReader | None = None
        try:
            if options.salvage and self._part is None:
                yield from self._iter_complete(pairing.iter_records(self._iter_salvaged()))
            else:
                reader = self._reader = self._open()
                if isinstance(reader, PartReader):
                    state = yield from self._restore(reader, pairing)
                    records = reader.iter_records(pairing, images=self._rows.with_images, state=state)
                else:
                    records = pairing.iter_records(iter_members(reader))
                yield from self._iter_complete(records)
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
        options = self._options
        common: dict[str, Any] = {
            "engine": options.engine,
            "shard": self._shard,
            "storage_options": options.storage_options,
        }
        if self._part is None:
            return open_shard(self._source, inflate_threads=options.inflate_threads, **common)
        # documents of images that nobody wants are not handed over, so readers have to want the same
        wanted = options.image_filter.describe_ids() + self._shard
        return PartReader(
            self._source,
            self._part,
            index=Path(options.index_dir) / f"{self._shard}.index.parquet" if options.index_dir else None,
            threads=options.inflate_threads,
            track=self._track,
            sums=self._sums,
            make_handover=partial(Handover, wanted=wanted, part=self._part, folder=options.scratch_dir),
            **common,
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

    def _restore(self, reader: PartReader, pairing: Pairing) -> Generator[pa.RecordBatch, None, ShardState | None]:
        """Give what is left of the batch at which an earlier pass stood, in the same pieces."""
        if self._resume is None:
            return None
        state = ShardState.decode(self._resume.state)
        reader.check_identity(state)
        places = PlaceReader(reader.open_data, engine=self._options.engine, shard=self._shard)
        state = state.without(self._resume.skip)
        for number, records in enumerate(pairing.restore(state, places)):
            self._restored = replace(state, tables=state.tables[number:])
            yield from self._pack(records, [len(records)])
        self._restored = None
        self._limit = state.limit
        return state

    def _iter_complete(self, records: Iterator[Record]) -> Iterator[pa.RecordBatch]:
        """Turn records into batches; an error of the records comes after the rows that were complete before it.

        Records come in groups, which are the same wherever reading began; batches are of one to four groups.
        """
        waiting: list[Record] = []
        ends = [0]
        size = [0, 0]  # of the batch and of the group
        failure: RecordError | ShardError | None = None
        while True:
            try:
                record = next(records, None)
            except (RecordError, ShardError) as error:
                failure, record = error, None
            if record is not None:
                waiting.append(record)
                weight = len(record.document) + (record.image.size if record.image else 0)
                size = [size[0] + weight, size[1] + weight]
                if len(waiting) - ends[-1] < self._limit and size[1] < _MAX_GROUP_BYTES:
                    continue
                ends.append(len(waiting))
                size[1] = 0
                self._limit = min(self._limit * 2, _GROUP, self._options.batch_rows)
                if len(ends) <= self._wanted and size[0] < _MAX_BATCH_BYTES:
                    continue
                if len(waiting) >= _GROUP:
                    self._wanted = min(self._wanted * 2, max(1, self._options.batch_rows // _GROUP))
            yield from self._pack(waiting, [*ends, len(waiting)])
            if record is None:
                break
            waiting, ends, size = [], [0], [0, 0]
        if failure is not None:
            raise failure

    def _pack(self, records: list[Record], ends: list[int]) -> Iterator[pa.RecordBatch]:
        """Give the good rows of some records, then report the bad ones."""
        if not records:
            return
        rows = self._rows.make(records)
        if rows.batch.num_rows:
            self._report.delivered += rows.batch.num_rows
            self._report.num_annotations += rows.num_annotations
            yield from self._cut(rows, records, ends) if self._is_resumable else [rows.batch]
        for _, error in rows.bad:
            self._faults.skip_image(error)

    def _cut(self, rows: Rows, records: list[Record], ends: list[int]) -> Iterator[pa.RecordBatch]:
        """Cut a batch where a pass that goes on within it would, and note the state at the beginning of each piece."""
        numbers = rows.numbers.tolist()
        bounds = [(begin, end) for begin, end in pairwise([0, *np.searchsorted(numbers, ends).tolist()]) if begin < end]
        tables = [b"".join(records[number].places for number in numbers[begin:end]) for begin, end in bounds]
        bad = b"".join(records[number].places for number, _ in rows.bad)
        state, head = self._restored, None
        if state is None and isinstance(self._reader, PartReader) and (state := self._reader.state()) is not None:
            state = replace(state, halves=1 + self._rows.with_images, limit=self._limit)
            head = state.encode_head()
        for number, (begin, end) in enumerate(bounds):
            if state is not None and self._restored is None:
                state = replace(state, tables=tables[number:], bad=bad)
            self.state = None if state is None else state.encode(head)
            yield rows.batch.slice(begin, end - begin)
