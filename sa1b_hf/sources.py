"""Which shards a configuration reads, and from where."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from fsspec.core import url_to_fs
from fsspec.registry import known_implementations

from .catalog import SUBSETS, parse_shard_name, parse_shard_ranges, shard_file_name
from .errors import ConfigError, MissingShardsError
from .links import ShardLink, SignedUrl, check_expiry, is_signed, mask_url, read_links
from .sample import sample_shards

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "NO_SOURCE_WARNING",
    "ShardSource",
    "check_links",
    "find_shards",
    "options_for",
    "select_shards",
]

ENVIRONMENT_VARIABLE: Final = "SA1B_HF_SHARDS"
_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")
_HOW_TO: Final = (
    "point to shards with data_dir='folder', data_files=['sa_000000.tar', …] (local, https://, hf://, s3:// …), "
    f"links='segment_anything_links.txt', or the environment variable {ENVIRONMENT_VARIABLE}"
)
NO_SOURCE_WARNING: Final = (
    "No shards were given: these are the synthetic images of the embedded sample, not SA-1B. For the real ones, "
    f"{_HOW_TO}."
)


@dataclass(frozen=True)
class ShardSource:
    """One shard and where to read it.

    Attributes
    ----------
    name
        Value of the ``shard`` column, such as ``"sa_000020"``.
    location
        A path, a URL, or a signed link, which never shows its secret.
    part
        (index, of) if only one of several parts of it is meant, see `sa1b_hf.parts`; None for all of it.

    """

    name: str
    location: str | SignedUrl
    part: tuple[int, int] | None = None

    def split(self, of: int) -> list[ShardSource]:
        """Give its parts, or itself if it is one already."""
        if self.part is not None:
            return [self]
        return [replace(self, part=(index, of)) for index in range(of)] if of > 1 else [self]

    @property
    def number(self) -> int | None:
        """Number of the shard in SA-1B, or None for other files."""
        return parse_shard_name(self.name)

    def identity(self) -> tuple[str, ...]:
        """Give what tells this file from another one of the same name, for cache keys."""
        if isinstance(self.location, SignedUrl):
            return (self.name, str(self.location).partition("?")[0])
        try:
            stat = Path(self.location).stat()
        except (OSError, ValueError):
            return (self.name, self.location)
        return (self.name, str(Path(self.location).resolve()), str(stat.st_size), str(stat.st_mtime_ns))


def find_shards(
    *,
    data_dir: str | None = None,
    data_files: Mapping[str, Sequence[str]] | None = None,
    links: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> dict[str, list[ShardSource]]:
    """List all shards that a source offers.

    Parameters
    ----------
    data_dir
        Folder or URL of a folder; its ``.tar``, ``.tar.gz`` and ``.tgz`` files are taken, those of subfolders too.
    data_files
        Paths and URLs by split.
    links
        Path of the links file.
    storage_options
        Passed to the file system of `data_dir`.

    Returns
    -------
    dict of str to list of ShardSource
        By split, sorted by name. Without any source the environment variable ``SA1B_HF_SHARDS`` is read: a folder, a
        links file or a path with wildcards, several separated by the system's path separator.

    Raises
    ------
    ConfigError
        More than one source is given, or a file's URL is signed (a links file keeps its secret, `data_files` cannot).
    MissingShardsError
        The source has no shards.

    """
    given = [name for name, value in (("data_dir", data_dir), ("data_files", data_files), ("links", links)) if value]
    # `datasets` hands data_dir over together with data_files; then it is only what relative names start from.
    if len(given) > 1 and "links" in given:
        raise ConfigError(f"expected one source of shards, found {' and '.join(given)}")
    if data_files:
        return {str(split): _from_files(files) for split, files in data_files.items()}
    if links:
        return {"train": _from_links(links)}
    if data_dir:
        return {"train": _from_directory(str(data_dir), storage_options)}
    if value := os.environ.get(ENVIRONMENT_VARIABLE):
        found = [source for place in _split_places(value) for source in _from_place(place)]
        return {"train": sorted(found, key=lambda source: source.name)}
    return {}


def select_shards(
    sources: Mapping[str, Sequence[ShardSource]],
    *,
    subset: str = "default",
    shards: str | int | Iterable[int] | None = None,
    allow_missing: bool = False,
) -> dict[str, list[ShardSource]]:
    """Keep the shards of a subset.

    Parameters
    ----------
    sources
        What `find_shards` gave.
    subset
        ``"default"`` keeps all that the source offers, and gives the embedded sample if there is no source;
        ``"1pct"``, ``"10pct"`` and ``"full"`` keep theirs.
    shards
        Numbers such as ``"0-9,20"``; replaces the numbers of the subset within it.
    allow_missing
        Accept that shards of a subset or of `shards` are not there.

    Returns
    -------
    dict of str to list of ShardSource
        By split.

    Raises
    ------
    MissingShardsError
        Shards are not in the source; the message lists them.

    """
    wanted = _wanted_numbers(subset, shards)
    if not sources:
        if subset != "default":
            raise MissingShardsError(f"configuration {subset!r} needs shards, and no source is given: {_HOW_TO}")
        # No source at all: the sample has the shards 0 and 1, whatever numbers are asked for.
        return {"train": [_to_source(str(path)) for path in sample_shards()]}
    if wanted is None:
        return {split: list(files) for split, files in sources.items()}
    chosen = {split: [file for file in files if file.number in wanted] for split, files in sources.items()}
    missing = sorted(wanted - {file.number for files in chosen.values() for file in files if file.number is not None})
    if missing and not allow_missing:
        raise MissingShardsError(
            f"{len(missing)} of {len(wanted)} shards are not in the source: {_shorten(missing)}; "
            "download them, or pass allow_missing=True to go on with the others"
        )
    return chosen


def check_links(sources: Iterable[ShardSource]) -> None:
    """Make sure, before a byte is asked for, that no signed link among the chosen shards has expired.

    Raises
    ------
    LinkExpiredError
        Some have; the message counts and names them, and says how to go on.

    """
    signed = ((source, source.location) for source in sources if isinstance(source.location, SignedUrl))
    check_expiry(ShardLink(source.number or 0, f"{source.name}.tar", url) for source, url in signed)


def options_for(
    location: object, storage_options: Mapping[str, Any] | None, token: str | bool | None = None
) -> dict[str, Any] | None:
    """Pick the options of a location's file system.

    Parameters
    ----------
    location
        Path or URL.
    storage_options
        As `datasets` has them: options by protocol, ``{"s3": {...}}``, or the options themselves.
    token
        For ``hf://``.

    Returns
    -------
    dict or None
        Keyword arguments of the file system.

    """
    protocol = str(location).partition("://")[0] if "://" in str(location) else "file"
    given = storage_options or {}
    if isinstance(given.get(protocol), Mapping):
        options = dict(given[protocol])
    else:
        options = {key: value for key, value in given.items() if key not in known_implementations}
    if protocol == "hf" and token is not None:
        options.setdefault("token", token)
    return options or None


def _wanted_numbers(subset: str, shards: str | int | Iterable[int] | None) -> set[int] | None:
    of_subset = set(SUBSETS[subset]) if subset in SUBSETS else None
    if shards is None:
        return of_subset
    wanted = set(parse_shard_ranges(shards))
    if of_subset is not None and not wanted <= of_subset:
        outside = _shorten(sorted(wanted - of_subset))
        raise ConfigError(f"shards: expected shards of configuration {subset!r}, found also {outside}")
    return wanted


def _shorten(numbers: Sequence[int], limit: int = 20) -> str:
    names = ", ".join(shard_file_name(number) for number in numbers[:limit])
    return f"{names} … and {len(numbers) - limit} more" if len(numbers) > limit else names


def _to_source(location: str) -> ShardSource:
    if is_signed(location):
        raise ConfigError(
            f"data_files holds a signed URL, {mask_url(location)}: write it to a links file and pass links=, "
            "which keeps its secret out of caches and logs"
        )
    number = parse_shard_name(location)
    if number is not None:
        return ShardSource(f"sa_{number:06d}", location)
    base = location.partition("?")[0].rstrip("/").replace("\\", "/").rpartition("/")[2]
    return ShardSource(base.partition(".")[0] or base, location)


def _from_files(files: Sequence[str]) -> list[ShardSource]:
    return [_to_source(str(file)) for file in files]


def _from_links(path: str) -> list[ShardSource]:
    links = read_links(path)
    return [ShardSource(link.name.partition(".")[0], link.url) for _, link in sorted(links.items())]


def _from_directory(directory: str, storage_options: Mapping[str, Any] | None = None) -> list[ShardSource]:
    filesystem, root = url_to_fs(os.path.expanduser(directory), **(options_for(directory, storage_options) or {}))  # noqa: PTH111 -- URLs too
    if not filesystem.isdir(root):
        raise MissingShardsError(f"data_dir: expected a folder with shards, found none at {mask_url(directory)}")
    remote = "://" in directory
    names = [name for name in filesystem.find(root) if name.endswith(_SUFFIXES)]
    if not names:
        raise MissingShardsError(f"data_dir: expected .tar files in {mask_url(directory)}, found none; {_HOW_TO}")
    found = [_to_source(filesystem.unstrip_protocol(name) if remote else name) for name in names]
    return sorted(found, key=lambda source: source.name)


def _split_places(value: str) -> list[str]:
    # A URL holds the separator of most systems, so only a value without one is split.
    return [value] if "://" in value else [place for place in value.split(os.pathsep) if place]


def _from_place(place: str) -> list[ShardSource]:
    if any(character in place for character in "*?["):
        filesystem, pattern = url_to_fs(place)
        names = sorted(filesystem.glob(pattern))
        if not names:
            raise MissingShardsError(f"{ENVIRONMENT_VARIABLE}: nothing matches {mask_url(place)}")
        return [_to_source(filesystem.unstrip_protocol(name) if "://" in place else name) for name in names]
    if place.endswith(_SUFFIXES):
        return [_to_source(place)]
    if place.endswith(".txt"):
        return _from_links(place)
    return _from_directory(place)
