"""Labels for a folder of converted shards: each shard once, in files of their own, resumably."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features
from datasets.utils import are_progress_bars_disabled, tqdm

from sa1b_hf._convert_shard import publish_parts
from sa1b_hf._disk import disk_problem, make_folder
from sa1b_hf._halt import Halt
from sa1b_hf._lock import ShardLock
from sa1b_hf._manifest import Manifest, OutPlaces, read_manifest, read_manifests
from sa1b_hf._parquet_parts import ParquetParts
from sa1b_hf._parts import Drafts
from sa1b_hf.errors import ConfigError, SA1BError, SourceError

from ._batching import LabelCounts
from ._hooks import LabelTransform
from ._vocabulary import sha256_of

__all__ = ["LabelledShard", "iter_label_converted"]

_PART_BYTES = 500_000_000
_ROWS = 64  # read at a time


@dataclass(frozen=True)
class LabelledShard:
    """A shard whose masks have labels now.

    Attributes
    ----------
    manifest
        Of the labelled parts.
    was_done
        Nothing was left to do.

    """

    manifest: Manifest
    was_done: bool

    @property
    def counts(self) -> LabelCounts:
        """What became of its masks."""
        return LabelCounts.from_dict(self.manifest.config["counts"])


def iter_label_converted(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    transform: LabelTransform,
    *,
    shards: tuple[str, ...] | None = None,
    progress: bool = True,
) -> Iterator[LabelledShard]:
    """Label what `sa1b_hf.convert` wrote, a shard at a time.

    Parameters
    ----------
    folder
        With ``manifests`` and Parquet parts.
    out
        Another folder, for the same rows with labels. What is complete there is kept; what was made from other parts
        or with another labeler is made anew. Any number of processes may write to it.
    transform
        What labels.
    shards
        Names of those to label; all by default.
    progress
        Show a bar, unless `datasets.disable_progress_bars` was called.

    Yields
    ------
    LabelledShard
        As they are done.

    Raises
    ------
    ConfigError
        There is nothing to label, it is in another format, or `out` is `folder`.
    SourceError
        A part is missing or has another length than its manifest says, or the disk is full.
    RecordError
        An image cannot be labelled, with ``on_error="raise"``; what is complete stays.

    """
    folder, out = Path(folder), Path(out)
    if folder.resolve() == out.resolve():
        raise ConfigError("out: expected a folder other than the converted one, whose parts stay as they are")
    manifests = read_manifests(folder)
    if shards is not None:
        if unknown := sorted(set(shards) - {one.shard for one in manifests}):
            raise ConfigError(f"shards: expected converted ones, found {unknown}")
        manifests = [one for one in manifests if one.shard in shards]
    formats = {str(one.config.get("format")) for one in manifests}
    if formats != {"parquet"}:
        raise ConfigError(f"{folder}: expected shards converted to Parquet, found {sorted(formats)}")
    show = progress and not are_progress_bars_disabled()
    bar = tqdm(total=sum(part.rows for one in manifests for part in one.parts), unit="img", disable=not show)
    with bar:
        for manifest in manifests:
            yield _Job(manifest, folder, out, transform, bar).run()


@dataclass
class _Job:
    source: Manifest
    folder: Path
    out: Path
    transform: LabelTransform
    bar: Any
    _counts: LabelCounts = field(default_factory=LabelCounts)

    def run(self) -> LabelledShard:
        places = OutPlaces(self.out, self.source.shard)
        make_folder(places.hidden)
        make_folder(places.manifest.parent)
        digest = sha256_of([[part.path, part.sha256] for part in self.source.parts])
        identity = {"size": sum(part.size for part in self.source.parts), "sha256": digest}
        with ShardLock(places.lock, Halt(), doing="labels"):
            found = read_manifest(places.manifest)
            if found and found.is_of(identity, self.transform.fingerprint) and found.is_there(self.out):
                self.bar.update(sum(part.rows for part in found.parts))
                return LabelledShard(found, was_done=True)
            self._check_parts()
            return LabelledShard(self._label(places, identity), was_done=False)

    def _check_parts(self) -> None:
        if not self.source.is_there(self.folder):
            advice = "convert this shard again"
            message = f"expected the parts of its manifest in {self.folder}, found some missing or changed; {advice}"
            raise SourceError(message, reason="not-a-file", shard=self.source.shard)

    def _label(self, places: OutPlaces, identity: Mapping[str, Any]) -> Manifest:
        drafts = Drafts(places.drafts, self.out)
        before = self.transform.counts
        self.transform.counts = self._counts
        try:
            self._write(drafts)
            config = {**self.source.config, "labels": self.transform.provenance, "counts": self._counts.to_dict()}
            name, report = self.source.shard, self.source.report
            manifest = Manifest(name, identity, config, self.transform.fingerprint, tuple(drafts.parts), report)
            publish_parts(places, drafts, manifest)
        except OSError as error:
            if isinstance(error, SA1BError):
                raise
            raise disk_problem(error, places.drafts, self.source.shard) from None
        finally:
            drafts.close()
            before.merge(self._counts)
            self.transform.counts = before
        return manifest

    def _write(self, drafts: Drafts) -> None:
        sink: ParquetParts | None = None
        for part in self.source.parts:
            with pq.ParquetFile(self.folder / part.path) as file:
                schema = file.schema_arrow
                if sink is None:
                    features = self.transform.features(Features.from_arrow_schema(schema))
                    name = f"data/train/{self.source.shard}-{{:05d}}.parquet"
                    size = int(self.source.config.get("part_bytes", _PART_BYTES))
                    sink = ParquetParts(drafts, name, features, self._metadata(schema), size)
                for batch in file.iter_batches(_ROWS):
                    table = self.transform(pa.Table.from_batches([batch]))
                    sink.write(table.cast(features.arrow_schema))
                    self.bar.update(table.num_rows)
        if sink is not None:
            sink.finish()

    def _metadata(self, schema: pa.Schema) -> dict[str, Any]:
        """Give the provenance of the rows, with that of the labels behind it."""
        known = json.loads((schema.metadata or {}).get(b"sa1b_hf", b"{}"))
        column = self.transform.column
        earlier = [one for one in known.get("transforms", []) if one.get("column") != column]
        return {"version": 1, **known, "transforms": [*earlier, self.transform.provenance]}
