"""The `datasets` builder: options in, shards chosen, Arrow tables out. It composes the modules above, and no more."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import datasets
import pyarrow as pa
from datasets import DatasetInfo, Features, SplitGenerator

from ._at_exit import closed_at_exit
from ._ids import is_int
from ._resumable import make_resumable
from .data_files import as_data_files
from .errors import ConfigError
from .features import COLUMNS, sa1b_features
from .filters import AnnotationFilter, ImageFilter, read_ids
from .pairing import DEFAULT_RAM_CAP
from .parts import PartSums
from .reader import ReadOptions, Resume, iter_batches, iter_resumable
from .reports import PassReport, read_reports, temporary_directory, write_report
from .sources import NO_SOURCE_WARNING, ShardSource, check_links, find_shards, options_for, select_shards

__all__ = ["SA1B", "SA1BConfig"]

_log = logging.getLogger("sa1b_hf")

_VERSION = "1.0.0"  # part of every cache path: raise it whenever rows change
REPORT_FILE = "sa1b_report.json"
_RESHARD_PARTS = 8
_MAX_PARTS = 1024
# These change how rows are made, not which: a cache made with other values is as good.
_NOT_IN_CACHE_KEY = (
    "ram_cap",
    "scratch_dir",
    "engine",
    "report_dir",
    "source_options",
    "batch_rows",
    "index_dir",
    "inflate_threads",
)

_CITATION = """\
@inproceedings{kirillov2023segment,
  title     = {Segment Anything},
  author    = {Kirillov, Alexander and Mintun, Eric and Ravi, Nikhila and Mao, Hanzi and Rolland, Chloe and
               Gustafson, Laura and Xiao, Tete and Whitehead, Spencer and Berg, Alexander C. and Lo, Wan-Yen and
               Doll{\\'a}r, Piotr and Girshick, Ross},
  booktitle = {ICCV},
  year      = {2023}
}"""


@dataclass
class SA1BConfig(datasets.BuilderConfig):
    """Options of `load_dataset("sa1b.py", ...)`.

    Attributes
    ----------
    links
        Path of the links file, ``segment_anything_links.txt``; shards are read from their signed links.
    shards
        Numbers of shards, such as ``"0-9,20"`` or ``[0, 20]``.
    allow_missing
        Accept that shards of ``1pct``, ``10pct``, ``full`` or `shards` are not in the source.
    image
        False: annotations only. No JPEG is kept and nothing waits for its other half.
    columns
        Names from `sa1b_hf.features.COLUMNS`; all by default.
    min_predicted_iou, min_stability_score
        Keep annotations at or above it. SA-1B itself begins at 0.88 and 0.95.
    min_area, max_area
        Keep annotations of this area: pixels if an int, a fraction of the image if a float up to 1.0.
    max_masks
        Keep at most so many annotations an image, those that `select` prefers.
    select
        ``"predicted_iou"``, ``"stability_score"`` or ``"area"`` (largest first), ``"random"`` or ``"first"``.
    drop_empty
        Drop images that have no annotations, or none left.
    min_width, min_height, max_width, max_height
        Keep images of this size, in pixels.
    ids
        Keep these image ids: a list, or a file with one id or file name a line.
    sample_fraction
        Keep a random fraction of the images, always the same for one `seed`, whatever the shards and their order.
    seed
        Of `sample_fraction` and of ``select="random"``.
    on_error
        ``"raise"``, or ``"warn"``: faults are counted, and all good data around them comes out.
    ram_cap
        Bytes in memory for images that wait for their document, or the other way round.
    scratch_dir
        Folder of the scratch file that takes the rest.
    engine
        ``"auto"``, ``"zlib-ng"``, ``"isal"`` or ``"zlib"``.
    batch_rows
        Largest number of rows of an Arrow batch.
    report_dir
        Folder where each pass leaves its report; a temporary one by default.
    parts
        Cut each shard into so many parts, so that more processes or workers than shards can read. In the original
        order, at random, an image and its document are in different parts more often than not, and each part then
        looks through the whole shard; see `sa1b_hf.parts.PartReader`.
    index_dir, inflate_threads, salvage
        See `sa1b_hf.reader.ReadOptions`.

    """

    version: datasets.Version = datasets.Version(_VERSION)  # noqa: RUF009 -- immutable, and what `datasets` itself does
    links: str | None = None
    shards: str | int | Sequence[int] | None = None
    allow_missing: bool = False
    image: bool = True
    columns: Sequence[str] | None = None
    min_predicted_iou: float | None = None
    min_stability_score: float | None = None
    min_area: float | None = None
    max_area: float | None = None
    max_masks: int | None = None
    select: str = "predicted_iou"
    drop_empty: bool = False
    min_width: int | None = None
    min_height: int | None = None
    max_width: int | None = None
    max_height: int | None = None
    ids: str | Sequence[int] | None = None
    sample_fraction: float | None = None
    seed: int = 0
    on_error: Literal["raise", "warn"] = "raise"
    ram_cap: int = DEFAULT_RAM_CAP
    scratch_dir: str | None = None
    engine: str = "auto"
    batch_rows: int = 16
    report_dir: str | None = None
    source_options: Mapping[str, Any] | None = field(default=None, repr=False)  # the builder's storage_options
    parts: int = 1
    index_dir: str | None = None
    inflate_threads: int = 1
    salvage: bool = False

    def read_options(self, storage_options: Mapping[str, Any] | None = None) -> ReadOptions:
        """Give the options as the reader takes them.

        Raises
        ------
        ConfigError
            An option makes no sense.

        """
        columns = tuple(sa1b_features(COLUMNS if self.columns is None else self.columns))
        if not self.image:
            columns = tuple(name for name in columns if name != "image")
        ids = None if self.ids is None else read_ids(self.ids)
        chosen = {
            "columns": columns,
            "annotation_filter": AnnotationFilter(**self._pick(AnnotationFilter)),
            "image_filter": ImageFilter(**{**self._pick(ImageFilter), "ids": ids}),
            "storage_options": storage_options,
        }
        return ReadOptions(**{**self._pick(ReadOptions), **chosen})

    def _pick(self, options: type) -> dict[str, Any]:
        return {option.name: getattr(self, option.name) for option in fields(options) if hasattr(self, option.name)}

    def offered_shards(self) -> dict[str, list[ShardSource]]:
        """List all shards that the source offers, by split; none without a source."""
        return find_shards(
            data_dir=self.data_dir, data_files=self.data_files, links=self.links, storage_options=self.source_options
        )

    def choose_shards(self, offered: Mapping[str, Sequence[ShardSource]]) -> dict[str, list[ShardSource]]:
        """Keep the shards that this configuration reads, by split."""
        return select_shards(offered, subset=self.name, shards=self.shards, allow_missing=self.allow_missing)

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Features | None = None) -> str:
        """Name the cache by the options that change rows, and by the identity of the shards."""
        kwargs = {key: value for key, value in config_kwargs.items() if key not in _NOT_IN_CACHE_KEY}
        if offered := self.offered_shards():
            chosen = self.choose_shards(offered)
            kwargs["identity"] = [(split, source.identity()) for split in chosen for source in chosen[split]]
        config_id: str = super().create_config_id(kwargs, custom_features=custom_features)
        return config_id


class SA1B(datasets.ArrowBasedBuilder):
    """SA-1B from its original shards."""

    VERSION = datasets.Version(_VERSION)
    BUILDER_CONFIG_CLASS = SA1BConfig
    BUILDER_CONFIGS: ClassVar[list[SA1BConfig]] = [
        SA1BConfig(name="default", description="Every shard that the source offers."),
        SA1BConfig(name="1pct", description="Shards 0-9."),
        SA1BConfig(name="10pct", description="Shards 0-99."),
        SA1BConfig(name="full", description="All 1000 shards."),
    ]
    DEFAULT_CONFIG_NAME = "default"
    DEFAULT_WRITER_BATCH_SIZE = 32  # rows weigh a megabyte each

    def __init__(self, *args: Any, data_files: Any = None, **kwargs: Any) -> None:
        if kwargs.get("storage_options"):
            # a folder is listed before `datasets` has given them to the builder
            kwargs["source_options"] = kwargs["storage_options"]
        super().__init__(*args, data_files=as_data_files(data_files, kwargs.get("data_dir")), **kwargs)
        self._report_dir = self.config.report_dir

    def _info(self) -> DatasetInfo:
        return DatasetInfo(
            description="SA-1B: images with class-less masks, as COCO run-length encoding, from the original shards.",
            features=sa1b_features(self.config.read_options().columns),
            homepage="https://ai.meta.com/datasets/segment-anything/",
            license="SA-1B Dataset Research License, https://ai.meta.com/datasets/segment-anything-downloads/",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:  # noqa: ARG002 -- shards are read in place
        offered = self.config.offered_shards()
        splits = self.config.choose_shards(offered)
        check_links(source for sources in splits.values() for source in sources)
        if not offered:
            _log.warning("%s", NO_SOURCE_WARNING)
        if self._report_dir is None:
            self._report_dir = temporary_directory()
        parts = self.config.parts
        if not is_int(parts) or not 1 <= parts <= _MAX_PARTS:
            raise ConfigError(f"parts: expected an int from 1 to {_MAX_PARTS}, found {parts!r}")
        return [
            SplitGenerator(
                name=split, gen_kwargs={"shards": [part for source in sources for part in source.split(parts)]}
            )
            for split, sources in splits.items()
        ]

    def _generate_more_gen_kwargs(self, shards: Sequence[ShardSource]) -> Iterator[dict[str, Any]]:
        """Split shards for `IterableDataset.reshard`; parts are not split again."""
        for source in shards:
            yield {"shards": source.split(_RESHARD_PARTS)}

    def _generate_shards(self, shards: Sequence[ShardSource]) -> Iterator[str]:
        yield from (str(source.location) for source in shards)

    @closed_at_exit
    def _generate_tables(self, shards: Sequence[ShardSource]) -> Iterator[tuple[Any, pa.Table]]:
        sums: dict[Any, PartSums] = defaultdict(PartSums)
        for number, source in enumerate(shards):
            with self._reading(source) as (options, report):
                whole = sums[source.location]
                found = iter_batches(source.location, source.name, options, report, source.part, sums=whole)
                for index, batch in enumerate(found):
                    yield _key(number, index), pa.Table.from_batches([batch])

    @closed_at_exit
    def _iter_resumable(self, source: ShardSource, resume: Resume | None) -> Iterator[tuple[Any, pa.Table, str | None]]:
        """Read a shard, or go on within it; each table comes with the state at its first row."""
        with self._reading(source) as (options, report):
            found = iter_resumable(source.location, source.name, options, report, part=source.part, resume=resume)
            for index, (batch, state) in enumerate(found):
                yield _key(0, index), pa.Table.from_batches([batch]), state

    @contextmanager
    def _reading(self, source: ShardSource) -> Iterator[tuple[ReadOptions, PassReport]]:
        """Give what a pass over a shard needs, and leave its report where the others are."""
        report = PassReport()
        try:
            yield self.config.read_options(options_for(source.location, self.storage_options, self.token)), report
        finally:
            if self._report_dir:
                write_report(report, Path(self._report_dir))
            _log_summary(source.name, report)

    def _get_examples_iterable_for_split(self, split_generator: SplitGenerator) -> Any:
        return make_resumable(super()._get_examples_iterable_for_split(split_generator), self._iter_resumable)

    def _download_and_prepare(self, dl_manager: Any, verification_mode: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(dl_manager, verification_mode, **kwargs)
        # into the cache, beside the rows, so that a later run that reuses them still knows
        (Path(self._output_dir) / REPORT_FILE).write_text(json.dumps(self.report().to_dict()), encoding="utf-8")

    def report(self) -> PassReport:
        """Give what all passes of this builder, in all processes, delivered and skipped so far."""
        stored = Path(self._cache_dir) / REPORT_FILE
        if self._report_dir is None and stored.is_file():
            return PassReport.from_dict(json.loads(stored.read_text(encoding="utf-8")))
        return read_reports([Path(self._report_dir)] if self._report_dir else [])


def _log_summary(shard: str, report: PassReport) -> None:
    """Say what became of a shard: on stderr, unless the application has logging of its own or silenced `datasets`."""
    if not _log.hasHandlers() and not _log.handlers:
        _log.addHandler(logging.StreamHandler())
    if _log.level == logging.NOTSET:
        _log.setLevel(logging.INFO)
    if report.is_clean and datasets.logging.get_verbosity() > logging.WARNING:
        return
    _log.log(logging.INFO if report.is_clean else logging.WARNING, "%s: %s", shard, report)


def _key(shard: int, batch: int) -> Any:
    # `datasets` 3.6 has no Key and takes anything.
    return datasets.builder.Key(shard, batch) if hasattr(datasets.builder, "Key") else f"{shard}_{batch}"
