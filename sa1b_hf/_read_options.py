"""How to read a shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from ._ids import is_int
from .errors import ConfigError
from .faults import OnError
from .features import COLUMNS
from .filters import AnnotationFilter, ImageFilter
from .inflate import resolve_engine
from .pairing import DEFAULT_RAM_CAP

__all__ = ["ReadOptions"]

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
