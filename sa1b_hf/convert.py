"""Shards to files that train: Parquet parts or WebDataset tars, made once, in any number of processes.

The unit of work is `process_shard`. It writes drafts into a hidden folder, gives them their names when the shard is
done, and leaves a manifest, keyed by the identity of the shard's file and by the options: a rerun skips what is done,
and does again what changed or was cut short, to the same bytes.

A folder holds ``data/train/<shard>-00000.parquet`` (or ``.tar``) … and ``manifests/<shard>.json``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._convert_options import ConvertOptions, OutFormat
from ._convert_pool import Done, Failure, convert_shards
from ._convert_shard import ShardJob
from ._ids import is_int
from ._manifest import Manifest, read_manifests
from .errors import ConfigError
from .reports import PassReport
from .sources import ShardSource, find_shards

__all__ = [
    "ConvertOptions",
    "ConvertResult",
    "Done",
    "Failure",
    "Manifest",
    "OutFormat",
    "convert",
    "iter_convert",
    "list_shards",
    "process_shard",
    "read_manifests",
]


@dataclass
class ConvertResult:
    """What `convert` did.

    Attributes
    ----------
    manifests
        Of the shards that are complete now, by name.
    num_done
        How many of these were complete before.
    failures
        Of the others, with ``on_error="warn"``.

    """

    manifests: list[Manifest] = field(default_factory=list)
    num_done: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def report(self) -> PassReport:
        """The sum over all shards."""
        total = PassReport()
        for manifest in self.manifests:
            total.merge(manifest.report)
        return total


def process_shard(
    source: str | os.PathLike[str] | ShardSource,
    out: str | os.PathLike[str],
    options: ConvertOptions | None = None,
) -> Manifest:
    """Convert one shard, unless that is done.

    Parameters
    ----------
    source
        A path or URL, or a shard of `sa1b_hf.sources`.
    out
        Folder to write to. Any number of processes may write to it; a shard is one process's at a time.
    options
        See `ConvertOptions`.

    Returns
    -------
    Manifest
        The same as on disk.

    Raises
    ------
    ShardError, RecordError
        The shard is damaged and ``on_error="raise"``; it cannot be read at all; or the disk is full.

    """
    return ShardJob(_as_source(source), Path(out), options or ConvertOptions()).run()


def convert(  # noqa: PLR0917 -- the usual three numbers of a job
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | ShardSource],
    out: str | os.PathLike[str],
    options: ConvertOptions | None = None,
    num_proc: int = 1,
    rank: int = 0,
    world_size: int = 1,
    *,
    progress: bool = True,
) -> ConvertResult:
    """Convert shards.

    Parameters
    ----------
    sources
        Paths and URLs of shards or of folders of them, or shards of `sa1b_hf.sources`.
    out
        Folder to write to.
    options
        See `ConvertOptions`.
    num_proc
        Processes to use, each of which converts a shard at a time. They are started afresh (`spawn`): a script that
        calls this needs the usual ``if __name__ == "__main__":``.
    rank, world_size
        Convert every `world_size`-th shard, from the one at `rank` on: for jobs of many machines on one folder.
    progress
        Show a bar, unless `datasets.disable_progress_bars` was called.

    Returns
    -------
    ConvertResult

    Raises
    ------
    ConfigError
        An option makes no sense, or two shards have one name.
    ShardError, RecordError
        A shard could not be converted and ``on_error="raise"``. What was complete stays; the same call goes on.

    """
    result = ConvertResult()
    for done in iter_convert(sources, out, options, num_proc, rank, world_size, progress=progress):
        if isinstance(done, Failure):
            result.failures.append(done)
        else:
            result.manifests.append(done.manifest)
            result.num_done += done.was_done
    result.manifests.sort(key=lambda manifest: manifest.shard)
    return result


def iter_convert(  # noqa: PLR0917
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | ShardSource],
    out: str | os.PathLike[str],
    options: ConvertOptions | None = None,
    num_proc: int = 1,
    rank: int = 0,
    world_size: int = 1,
    *,
    progress: bool = True,
) -> Iterator[Done | Failure]:
    """Convert shards, and tell of each as it is done; otherwise as `convert`."""
    options = options or ConvertOptions()
    for name, value, least in (("num_proc", num_proc, 1), ("world_size", world_size, 1), ("rank", rank, 0)):
        if not is_int(value) or value < least:
            raise ConfigError(f"{name}: expected an int of {least} or more, found {value!r}")
    if rank >= world_size:
        raise ConfigError(f"rank: expected 0 to {world_size - 1} with world_size={world_size}, found {rank}")
    shards = list_shards(sources, options)[rank::world_size]
    return convert_shards(shards, Path(out), options, num_proc, progress=progress)


def list_shards(sources: Any, options: ConvertOptions) -> list[ShardSource]:
    """List the shards of what `convert` takes as sources.

    Raises
    ------
    ConfigError
        Two of them have one name.
    MissingShardsError
        A folder has none.

    """
    if isinstance(sources, (str, os.PathLike, ShardSource)):
        sources = [sources]
    found: list[ShardSource] = []
    for source in sources:
        if not isinstance(source, ShardSource) and _is_folder(os.fspath(source)):
            listed = find_shards(data_dir=os.fspath(source), storage_options=options.read.storage_options)
            found += [shard for shards in listed.values() for shard in shards]
        else:
            found.append(_as_source(source))
    names = [shard.name for shard in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"sources: expected each shard once, found {twice} more than once; their parts would collide")
    return found


def _is_folder(place: str) -> bool:
    if "://" in place:
        return not place.partition("?")[0].endswith((".tar", ".tar.gz", ".tgz"))
    return Path(place).is_dir()


def _as_source(source: str | os.PathLike[str] | ShardSource) -> ShardSource:
    if isinstance(source, ShardSource):
        return source
    ((found,),) = find_shards(data_files={"train": [os.fspath(source)]}).values()
    return found
