"""One shard to parts: read, transform, resize, write, publish, and leave a manifest. Done once, whatever happens."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from ._convert_options import ConvertOptions
from ._disk import disk_problem, make_folder, sync_folder
from ._halt import Halt
from ._lock import ShardLock
from ._manifest import Input, Manifest, OutPlaces, read_input, read_manifest
from ._parquet_parts import ParquetParts
from ._parts import Drafts, PartSink, remove
from ._row_groups import iter_groups
from ._webdataset_parts import WebDatasetParts
from .errors import ConfigError, RecordError, SA1BError, SourceError
from .exports import make_export
from .faults import Faults
from .reader import iter_batches
from .reports import PassReport
from .sources import ShardSource, options_for

__all__ = ["ShardJob", "Watch", "publish_parts"]

_MAX_WAITING: Final = 2  # groups: a disk that pauses for a moment holds nobody up
_PASSING: Final = frozenset(
    [
        "timeout",
        "connection-lost",
        "truncated-source",
        "wrong-range",
        "no-ranges",
        "past-end",
        "not-a-shard",
        "empty",
        "content-encoding",
        "bad-redirect",
        "untrusted-certificate",
        "not-a-file",
        "permission-denied",
        "io-error",
        "source-changed",
        "scratch-full",
        "scratch-lost",
    ]
)

Watch = Callable[[int, int], None]
"""Called now and then with the images and bytes written since the last call; may raise to stop."""


def _look_away(_images: int, _bytes: int) -> None:
    pass


@dataclass
class ShardJob:
    """The conversion of one shard.

    Attributes
    ----------
    source
        The shard.
    out
        Folder of the conversion.
    options
        See `ConvertOptions`.
    watch
        See `Watch`.
    halt
        Ends the wait for another process that has the shard.
    was_done
        The manifest said that nothing was left to do; known after `run`.

    """

    source: ShardSource
    out: Path
    options: ConvertOptions
    watch: Watch = _look_away
    halt: Halt = field(default_factory=Halt)
    was_done: bool = False
    _report: PassReport = field(default_factory=PassReport)
    _lost: list[tuple[RecordError, int]] = field(default_factory=list)

    def run(self) -> Manifest:
        """Convert, unless that is done.

        Raises
        ------
        ShardError, RecordError
            The shard is damaged and ``on_error="raise"``; it cannot be read at all; or the disk is full.

        """
        places = OutPlaces(self.out, self.source.name)
        make_folder(places.hidden)
        make_folder(places.manifest.parent)
        with ShardLock(places.lock, self.halt, doing="converts"):
            # read under the lock: another process may have finished it just now
            location = self.source.location
            found = read_input(self.source, options_for(location, self.options.read.storage_options))
            manifest = read_manifest(places.manifest)
            fingerprint = self.options.fingerprint()
            if manifest and manifest.is_of(found, fingerprint) and manifest.is_there(self.out):
                self.was_done = True
                for leftover in (places.drafts, places.plan):
                    remove(leftover)  # of a run that was killed right after its manifest
                return manifest
            return self._convert(places, found, fingerprint)

    def _convert(self, places: OutPlaces, found: Input, fingerprint: str) -> Manifest:
        self._report = PassReport()
        drafts = Drafts(places.drafts, self.out)
        try:
            self._write(drafts)
            self._check_source(found)
            config = self.options.config()
            manifest = Manifest(self.source.name, found, config, fingerprint, tuple(drafts.parts), self._report)
            publish_parts(places, drafts, manifest)
        except OSError as error:
            if isinstance(error, SA1BError):
                raise
            raise disk_problem(error, places.drafts, self.source.name) from None
        finally:
            drafts.close()
        return manifest

    def _write(self, drafts: Drafts) -> None:
        options = self.options
        sink = self._sink(drafts)
        written = 0
        # Packing, hashing and writing take as long as reading, and both leave the interpreter to others meanwhile.
        with ThreadPoolExecutor(1, "sa1b-write") as writer:
            under_way: deque[Future[None]] = deque()
            for group in iter_groups(self._tables(), options.row_group_rows, options.row_group_bytes):
                while len(under_way) >= _MAX_WAITING:
                    self._await(under_way.popleft())
                size = drafts.size()
                self.watch(group.num_rows, size - written)
                written = size
                under_way.append(writer.submit(sink.write, group))
            while under_way:
                self._await(under_way.popleft())
            self.watch(0, drafts.size() - written)
        sink.finish()

    def _await(self, under_way: Future[None]) -> None:
        """Wait for a group to be written, and take back what could not be."""
        under_way.result()
        while self._lost:
            self._lose(*self._lost.pop(0))

    def _tables(self) -> Iterator[pa.Table]:
        options, source = self.options, self.source
        read = replace(options.read, storage_options=options_for(source.location, options.read.storage_options))
        schema = options.features().arrow_schema
        for batch in iter_batches(source.location, source.name, read, self._report, source.part):
            table = pa.Table.from_batches([batch])
            for transform in options.transforms:
                rows, table = table.num_rows, transform(table)
                _check_transform(transform, table, rows)
            if table.schema != schema:
                raise ConfigError(f"transforms: expected columns {schema.names} as promised, found {table.schema}")
            yield self._resize(table)

    def _resize(self, table: pa.Table) -> pa.Table:
        resize = self.options.row_resize
        if resize is None:
            return table
        resized, errors = resize(table)
        for error in errors:
            self._lose(error, 0)
        if errors:
            self._report.num_annotations -= _num_annotations(table) - _num_annotations(resized)
        return resized

    def _lose(self, error: RecordError, num_annotations: int) -> None:
        """Take back an image that was delivered already."""
        self._report.delivered -= 1
        self._report.num_annotations -= num_annotations
        Faults(self.source.name, self.options.read.on_error, self._report).skip_image(error)

    def _note(self, error: RecordError, num_annotations: int) -> None:
        # by the thread that writes; the report is the other one's
        self._lost.append((error, num_annotations))

    def _sink(self, drafts: Drafts) -> PartSink:
        options, name = self.options, self.source.name
        if options.format == "parquet":
            final = f"data/train/{name}-{{:05d}}.parquet"
            return ParquetParts(drafts, final, options.features(), options.metadata(), options.part_bytes)
        if options.format == "webdataset":
            return WebDatasetParts(drafts, f"data/train/{name}-{{:05d}}.tar", options.part_bytes)
        return make_export(options.format, drafts, name, options.metadata(), self._note)

    def _check_source(self, found: Input) -> None:
        """Refuse to call a shard done whose end a network or a disk withheld: the next run may have it."""
        for broken in self._report.broken:
            if _may_pass(broken.reason):
                advice = "it is not done; run again"
                raise SourceError(f"{broken.message}; {advice}", reason=broken.reason, shard=self.source.name)
        now = read_input(self.source, options_for(self.source.location, self.options.read.storage_options))
        if any(now.get(key) != value for key, value in found.items() if key != "md5"):
            message = "the shard's file was replaced while it was converted; run again"
            raise SourceError(message, reason="source-changed", shard=self.source.name)


def _may_pass(reason: str) -> bool:
    """Tell whether another attempt may read further, see `sa1b_hf.transport.open_raw`; damage stays where it is."""
    return reason in _PASSING or reason.startswith("http-")


def publish_parts(places: OutPlaces, drafts: Drafts, manifest: Manifest) -> None:
    """Replace what an earlier run left by the drafts; killed at any step, the next run does it all again.

    No manifest ever stands beside parts that are not its own, and what could lie around is on a list meanwhile.
    """
    fresh = {part.path for part in manifest.parts}
    stale = _known_parts(places) - fresh
    drafts.put(places.plan, json.dumps(sorted(fresh | stale)))
    places.manifest.unlink(missing_ok=True)
    sync_folder(places.manifest.parent)
    for path in sorted(stale):
        remove(places.out / path)
    drafts.publish()
    drafts.put(places.manifest, manifest.to_json())
    remove(places.plan)


def _known_parts(places: OutPlaces) -> set[str]:
    """Give the parts that earlier runs may have left."""
    earlier = read_manifest(places.manifest)
    known = {part.path for part in earlier.parts} if earlier else set()
    with contextlib.suppress(OSError, ValueError):
        known |= set(json.loads(places.plan.read_text(encoding="utf-8")))
    return known


def _check_transform(transform: Any, table: Any, rows: int) -> None:
    if not isinstance(table, pa.Table) or table.num_rows != rows:
        found = f"{table.num_rows} rows" if isinstance(table, pa.Table) else type(table).__name__
        raise ConfigError(f"{type(transform).__name__}: expected a table with the same {rows} rows, found {found}")


def _num_annotations(table: pa.Table) -> int:
    if "annotations" not in table.schema.names:
        return 0
    return int(pa.compute.sum(pa.compute.list_value_length(table["annotations"])).as_py() or 0)
