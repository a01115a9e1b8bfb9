"""Which shards to download, and where each of them is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .catalog import SUBSETS, parse_shard_ranges, shard_file_name, shard_name
from .errors import ConfigError, MissingShardsError
from .links import DOWNLOADS_PAGE, ShardLink, SignedUrl, check_expiry, mask_url, read_links

__all__ = ["Origin", "check_links", "choose_shards", "find_origins"]

_FIELDS = ("name", "file", "number")
_MAX_SHOWN = 10


@dataclass(frozen=True)
class Origin:
    """One shard and where it is.

    Attributes
    ----------
    number, name
        ``20`` and ``sa_000020``.
    location
        Never shows a secret.
    is_link
        It comes from a links file, which can be renewed.

    """

    number: int
    name: str
    location: SignedUrl | Path
    is_link: bool = False


def check_links(origins: Iterable[Origin]) -> None:
    """Raise `LinkExpiredError` if links are past their time, however they were given."""
    check_expiry(
        [
            ShardLink(origin.number, origin.name, origin.location)
            for origin in origins
            if isinstance(origin.location, SignedUrl)
        ]
    )


def choose_shards(subset: str | None, shards: str | int | Iterable[int] | None) -> tuple[int, ...]:
    """Give the shard numbers of a subset, or of a choice, or of a choice within a subset.

    Raises
    ------
    ConfigError
        Neither is given, or they make no sense.

    """
    if subset is None and shards is None:
        raise ConfigError(
            "expected a choice of shards, found none: subset='1pct' is 10 shards and 113 GB, shards='0-9,20' any "
            "others, subset='full' all 1000 and 11.3 TB"
        )
    if subset is not None and subset not in SUBSETS:
        raise ConfigError(f"subset: expected one of {list(SUBSETS)}, found {subset!r}")
    if shards is None:
        return tuple(SUBSETS[str(subset)])
    numbers = parse_shard_ranges(shards)
    if subset is not None and (outside := [number for number in numbers if number not in SUBSETS[subset]]):
        raise ConfigError(f"shards: expected shards of {subset!r}, found also {_names(outside)}")
    return numbers


def find_origins(
    numbers: Sequence[int], *, links: str | os.PathLike[str] | None = None, source: str | os.PathLike[str] | None = None
) -> list[Origin]:
    """Give the place of each shard.

    Parameters
    ----------
    numbers
        Of the shards.
    links
        Path or content of a links file.
    source
        Folder or URL of a folder (``hf://datasets/…``, ``s3://…``, ``https://…``), or a template in which ``{file}``
        (``sa_000020.tar``), ``{name}`` (``sa_000020``) or ``{number}`` (``20``, ``{number:06d}``) stand for the shard.

    Returns
    -------
    list of Origin
        In the order of `numbers`.

    Raises
    ------
    ConfigError
        Not exactly one of `links` and `source`, or a malformed template.
    LinksError
        See `sa1b_hf.links.read_links`.
    MissingShardsError
        The links file lacks some of them.

    """
    if (links is None) == (source is None):
        raise ConfigError(
            "expected one of links= (a links file) and source= (a folder, URL or template), found both or none"
        )
    if links is not None:
        return _from_links(numbers, links)
    template = _template(os.fspath(source or ""))
    return [Origin(number, shard_name(number), _fill(template, number)) for number in numbers]


def _from_links(numbers: Sequence[int], links: str | os.PathLike[str]) -> list[Origin]:
    found = read_links(links)
    if missing := [number for number in numbers if number not in found]:
        raise MissingShardsError(
            f"the links file has no link for {_names(missing)} ({len(missing)} of {len(numbers)} shards); get a whole "
            f"one from {DOWNLOADS_PAGE}"
        )
    return [Origin(number, found[number].name, found[number].url, is_link=True) for number in numbers]


def _template(source: str) -> str:
    """Make a template of a folder."""
    if not source:
        raise ConfigError("source: expected a folder, URL or template, found an empty text")
    if re.search(r"\{(?:name|file|number)", source):
        return source
    if "://" in source and re.search(r"[?#]", source):
        raise ConfigError(f"source: {mask_url(source)} has a query; write {{file}} where the shard's name belongs")
    return source.replace("{", "{{").replace("}", "}}").rstrip("/") + "/{file}"


def _fill(template: str, number: int) -> SignedUrl | Path:
    try:
        place = template.format(name=shard_name(number), file=shard_file_name(number), number=number)
    except (LookupError, ValueError, AttributeError):
        fields = ", ".join(f"{{{field}}}" for field in _FIELDS)
        raise ConfigError(f"source: expected a template with {fields}, found {mask_url(template)!r}") from None
    return SignedUrl(place) if "://" in place else Path(place).expanduser()


def _names(numbers: Sequence[int]) -> str:
    names = ", ".join(map(shard_name, numbers[:_MAX_SHOWN]))
    return names + (", …" if len(numbers) > _MAX_SHOWN else "")
