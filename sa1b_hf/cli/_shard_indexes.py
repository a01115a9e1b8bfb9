"""Indexes of shards, for `sa1b index`: where the members of each image are."""

from __future__ import annotations

from pathlib import Path

from sa1b_hf._progress import make_bar
from sa1b_hf._random_bytes import RandomBytes
from sa1b_hf.errors import ConfigError, ShardError
from sa1b_hf.index import ShardIndex, build_index
from sa1b_hf.sources import ShardSource, find_shards
from sa1b_hf.transport import local_path

from ._common import Format, show


def index_shards(places: tuple[str, ...], out: Path | None, *, force: bool, style: Format) -> int:
    """Index shards and folders of shards; give the number of those that are damaged."""
    failed = 0
    for source in _list_shards(places):
        path = _index_path(source, out)
        try:
            is_new = _make(source, path, force=force, style=style)
        except ShardError as error:
            failed += 1
            show(style, f"{source.name}  damaged  {error}", {"shard": source.name, "error": error.reason})
            continue
        found = ShardIndex.load(path)
        fields = {"shard": source.name, "index": str(path), "images": len(found.image_ids), "is_new": is_new}
        line = f"{source.name}  {'indexed' if is_new else 'was there'}  {fields['images']:,} images  {path}"
        show(style, line, fields)
    return failed


def _list_shards(places: tuple[str, ...]) -> list[ShardSource]:
    found = []
    for place in places:
        is_folder = "://" not in place and Path(place).is_dir()
        offered = find_shards(data_dir=place) if is_folder else find_shards(data_files={"train": [place]})
        found += offered["train"]
    return found


def _index_path(source: ShardSource, out: Path | None) -> Path:
    place = local_path(source.location)
    if out is None and place is None:
        raise ConfigError(f"{source.name}: its index needs a folder on this machine: pass --out")
    folder = out if out is not None else place.parent  # type: ignore[union-attr]
    return folder / f"{source.name}.index.parquet"


def _make(source: ShardSource, path: Path, *, force: bool, style: Format) -> bool:
    """Build an index unless a fitting one is there; tell whether it was built."""
    with RandomBytes(source.location) as data:
        size = data.size
    if not force and path.is_file() and _fits(path, source, size):
        return False
    bar = make_bar(size, source.name, enabled=style == "human")
    try:
        built = build_index(source.location, shard=source.name, on_bytes=bar.update if bar is not None else None)
    finally:
        if bar is not None:
            bar.close()
    built.save(path)
    return True


def _fits(path: Path, source: ShardSource, size: int) -> bool:
    place = local_path(source.location)
    if place is not None and place.stat().st_mtime_ns > path.stat().st_mtime_ns:
        return False
    try:
        return ShardIndex.load(path).file_size == size
    except ConfigError:
        return False
