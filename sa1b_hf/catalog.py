"""The 1000 shards of SA-1B: names, hashes, subsets, and which of them can hold an image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from numbers import Integral
from types import MappingProxyType
from typing import Any

from ._shard_table import KnownBad, ShardInfo, files_by_md5, shard_table
from .errors import ConfigError

__all__ = [
    "NUM_IMAGES",
    "NUM_SHARDS",
    "SHARD_NAMES",
    "SUBSETS",
    "KnownBad",
    "ShardInfo",
    "identify_md5",
    "parse_shard_name",
    "parse_shard_ranges",
    "shard_file_name",
    "shard_info",
    "shard_name",
    "shard_of",
]

NUM_SHARDS = 1000
NUM_IMAGES = 11_185_362
"""Images, and as many JSON documents, in all shards together (TensorFlow Datasets catalogue, SACap-1M scan)."""

SHARD_NAMES = tuple(f"sa_{number:06d}" for number in range(NUM_SHARDS))

SUBSETS: Mapping[str, range] = MappingProxyType({"1pct": range(10), "10pct": range(100), "full": range(NUM_SHARDS)})
"""Shard numbers of each named subset."""

_IMAGES_PER_SHARD = 11_186
_MISSING_IMAGES = NUM_SHARDS * _IMAGES_PER_SHARD - NUM_IMAGES
_MAX_GAPS = 10  # ids left out per shard, at most

# Up to this shard, the first id minus 11186 * number is at least, at most; `shard_of` derives the figures.
_DRIFT_BOUNDS = (
    (19, 0, 30),
    (20, 30, 30),
    (37, 30, 76),
    (38, 76, 76),
    (51, 79, 299 + _MISSING_IMAGES),
    (137, 79 - _MISSING_IMAGES, 299 + _MISSING_IMAGES),
    (138, 299 - _MAX_GAPS, 299),  # measured somewhere inside the shard
)

_NAME = re.compile(r"sa_([0-9]{6})(?:\.tar|\.tar\.gz|\.tgz)?")
_RANGE = re.compile(r"([0-9]{1,6})(?:\s*-\s*([0-9]{1,6}))?")


def shard_name(number: int) -> str:
    """Name a shard.

    Parameters
    ----------
    number
        0 to 999.

    Returns
    -------
    str
        For example ``"sa_000020"``.

    Raises
    ------
    ConfigError
        There is no such shard.

    Examples
    --------
    >>> shard_name(20)
    'sa_000020'

    """
    return SHARD_NAMES[_checked(number)]


def shard_file_name(number: int) -> str:
    """Name the file of a shard, for example ``"sa_000020.tar"``; raises `ConfigError` as `shard_name` does."""
    return f"{shard_name(number)}.tar"


def parse_shard_name(text: str | os.PathLike[str]) -> int | None:
    """Read the shard number off a name, a path or a URL.

    Parameters
    ----------
    text
        Its last path component counts; it may end in ``.tar``, ``.tar.gz``, ``.tgz`` or nothing. The query and
        fragment of a URL are ignored.

    Returns
    -------
    int or None
        0 to 999, or None if this is not the name of an SA-1B shard.

    Examples
    --------
    >>> parse_shard_name("https://example.org/mirror/sa_000020.tar?download=sa_000001.tar")
    20
    >>> parse_shard_name("sa_co_gold.tar") is None
    True

    """
    path = os.fspath(text)
    if "://" in path:
        path = re.split(r"[?#]", path, maxsplit=1)[0]
    match = _NAME.fullmatch(re.split(r"[/\\]", path)[-1])
    number = int(match.group(1)) if match else NUM_SHARDS
    return number if number < NUM_SHARDS else None


def parse_shard_ranges(shards: str | int | Iterable[int]) -> tuple[int, ...]:
    """Read a choice of shards.

    Parameters
    ----------
    shards
        Numbers and inclusive ranges as text (``"0-9,20"``), one number, or numbers.

    Returns
    -------
    tuple of int
        Sorted, without duplicates.

    Raises
    ------
    ConfigError
        Not a number or a range, a range that runs backwards, a shard that does not exist, or no shard at all.

    Examples
    --------
    >>> parse_shard_ranges("20, 0-3")
    (0, 1, 2, 3, 20)

    """
    if isinstance(shards, str):
        numbers = [number for part in shards.split(",") for number in _parse_range(part.strip(), shards)]
    elif isinstance(shards, Iterable):
        numbers = [_checked(number) for number in shards]
    else:
        numbers = [_checked(shards)]
    if not numbers:
        raise ConfigError("shards: expected at least one shard such as '0-9,20', found none")
    return tuple(sorted(set(numbers)))


def shard_info(number: int) -> ShardInfo:
    """Look up one shard; raises `ConfigError` if there is none of that number."""
    return shard_table()[_checked(number)]


def identify_md5(md5: str) -> ShardInfo | KnownBad | None:
    """Tell which file has this MD5.

    Parameters
    ----------
    md5
        32 hexadecimal digits in either case.

    Returns
    -------
    ShardInfo, KnownBad or None
        A genuine shard, a damaged copy that is known to circulate, or nothing known.

    Examples
    --------
    >>> identify_md5("78d0f487c735a3de86ae6e1b0ff24ea9").name
    'sa_000000'

    """
    return files_by_md5().get(md5.strip().lower())


def shard_of(image_id: int) -> range:
    """Tell which shards can hold an image: one in most cases, two near a boundary.

    Parameters
    ----------
    image_id
        As in ``sa_<image_id>.jpg``.

    Returns
    -------
    range
        Shard numbers to search; empty for an id past the end of the last shard.

    Raises
    ------
    ConfigError
        The id is negative or not an integer.

    Notes
    -----
    Ids rise from shard to shard but have gaps, so the first id of shard n is 11186*n plus a drift. Published
    measurements give the drift: 30 at shard 20 (first id 223750), 76 at shard 38 (first id 425144), 79 or more at
    shard 39 (shard 38 ends at 436332), 299 at shard 138. A gap raises the drift; only a shard with fewer than 11186
    images lowers it, all of them together by 638 at most, and shards 0 to 50 are full. Hence these bounds: rising from
    0 through the measurements up to shard 51; between shards 51 and 138, up to 638 outside what was measured at both
    ends; from 138 on, down to 299-638. The upper bound past shard 138 is the one thing that is no consequence of a
    measurement: it allows 10 ids of gaps per shard, four times the fastest rate seen (2.6). That no shard holds more
    than 11186 images is inferred from the total.

    Examples
    --------
    >>> list(shard_of(223750))
    [20]
    >>> list(shard_of(5_593_100))
    [499, 500]

    """
    if not _is_int(image_id) or image_id < 0:
        raise ConfigError(f"image_id: expected an integer of 0 or more, found {image_id!r}")
    guess = int(image_id) // _IMAGES_PER_SHARD
    # The drift is less than one shard everywhere, so that only the two neighbours come into question.
    near = range(max(guess - 1, 0), min(guess + 2, NUM_SHARDS))
    found = [number for number in near if _first_id(number)[0] <= image_id < _first_id(number + 1)[1]]
    return range(found[0], found[-1] + 1) if found else range(0)


def _first_id(number: int) -> tuple[int, int]:
    """Bound the first id of a shard from both sides."""
    low, high = _drift_bounds(number)
    return _IMAGES_PER_SHARD * number + low, _IMAGES_PER_SHARD * number + high


def _drift_bounds(number: int) -> tuple[int, int]:
    """Bound the first id of a shard minus 11186 * `number`; see `shard_of`."""
    for through, low, high in _DRIFT_BOUNDS:
        if number <= through:
            return low, high
    return 299 - _MISSING_IMAGES, 299 + _MAX_GAPS * (number - 138)


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _checked(number: int) -> int:
    if not _is_int(number) or not 0 <= number < NUM_SHARDS:
        raise ConfigError(f"shards: expected numbers from 0 to {NUM_SHARDS - 1}, found {number!r}")
    return int(number)


def _parse_range(part: str, whole: str) -> range:
    match = _RANGE.fullmatch(part)
    if not match:
        raise ConfigError(f"shards: expected numbers and ranges such as '0-9,20', found {part!r} in {whole!r}")
    first = _checked(int(match.group(1)))
    last = _checked(int(match.group(2) or first))
    if last < first:
        raise ConfigError(f"shards: the range {part!r} in {whole!r} runs backwards; write '{last}-{first}'")
    return range(first, last + 1)
