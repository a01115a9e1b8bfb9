"""Meta's links file: one signed URL per shard, good for about 30 days."""

from __future__ import annotations

import functools
import io
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ._urls import SignedUrl, is_signed, mask_url
from .catalog import parse_shard_name, shard_name
from .errors import LinkExpiredError, LinksError

__all__ = [
    "DOWNLOADS_PAGE",
    "ShardLink",
    "ShardLinks",
    "SignedUrl",
    "check_expiry",
    "is_signed",
    "mask_url",
    "parse_links",
    "read_links",
]

DOWNLOADS_PAGE = "https://ai.meta.com/datasets/segment-anything-downloads/"
"""Where Meta hands out the links file."""

_HOW_TO = f"get a fresh links file from {DOWNLOADS_PAGE}"
_MAX_BYTES = 16 * 2**20
_MAX_SHOWN = 5

_WHOLE_URL = re.compile(r"[a-z][a-z0-9+.-]{0,30}://[^/?#]+/(?![?#])[!-~]+", re.IGNORECASE)
_HTML = re.compile(r"\s*<(?:!doctype\s+html|html|head|body|script|\?xml)", re.IGNORECASE)


@dataclass(frozen=True)
class ShardLink:
    """One row of a links file.

    Attributes
    ----------
    shard
        Shard number, 0 to 999.
    name
        ``sa_000020``.
    url
        Where to download it. From a links file on disk it is pickled as that file's path and the shard number, so that
        another process also picks up links that were renewed meanwhile.
    """

    shard: int
    name: str
    url: SignedUrl


class ShardLinks(dict[int, ShardLink]):
    """Links by shard number, in rising order.

    Attributes
    ----------
    skipped
        Number of rows that are of no SA-1B shard, such as ``sa_co_gold.tar``.
    """

    skipped: int = 0


def read_links(path_or_text: str | os.PathLike[str]) -> ShardLinks:
    """Read a links file.

    Parameters
    ----------
    path_or_text
        A path, or the content of such a file (any text with a line break or a URL in it).

    Returns
    -------
    ShardLinks
        A dict from shard number to `ShardLink`.

    Raises
    ------
    LinksError
        No such file, not UTF-8 text, over 16 MiB, or see `parse_links`.
    """
    if isinstance(path_or_text, str) and re.search(r"\n|\w\w://", path_or_text):
        return parse_links(path_or_text)
    path = Path(path_or_text).expanduser()
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        _check_length(len(content), str(path))
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LinksError(f"{path}: expected UTF-8 text, found other bytes at offset {error.start}; {_HOW_TO}") from None
    except OSError as error:
        raise LinksError(f"{path}: expected a links file, found: {error.strerror}; {_HOW_TO}") from None
    return parse_links(text, origin=path)


def parse_links(text: str, *, origin: str | os.PathLike[str] | None = None) -> ShardLinks:
    r"""Parse the content of a links file.

    Parameters
    ----------
    text
        One row per line: name and URL separated by tab or blanks, or a URL alone that names its shard. A header, a
        byte order mark, any line ending, any order and rows of other files are fine.
    origin
        Path of the file, which makes the URLs picklable (see `ShardLink`).

    Returns
    -------
    ShardLinks
        Sorted by shard; of two rows for one shard and URL path the later wins.

    Raises
    ------
    LinksError
        Empty, a web page, without any shard, over 16 MiB; a row whose URL is missing or malformed, whose name and URL
        disagree, or that contradicts another. The message has the line number and no query.
    LinkExpiredError
        Instead of the file there is the server's message that the link to the file has expired.

    Examples
    --------
    >>> links = parse_links("file_name\tcdn_link\nsa_000020.tar\thttps://example.org/An8.tar?oh=00_AYD&oe=6981")
    >>> links[20].url
    SignedUrl('https://example.org/An8.tar?…')

    """
    path = None if origin is None else Path(origin).absolute()
    where = str(path or "links")
    text = text.lstrip("\ufeff")
    _check_content(text, where)
    found: dict[int, tuple[int, ShardLink]] = {}
    skipped = 0
    for line, fields in enumerate(map(_split, io.StringIO(text, newline=None)), 1):
        link = _parse_row(fields, f"{where}, line {line}", path)
        if link is None:
            skipped += bool(fields) and not _is_header(line, fields)
            continue
        earlier_line, earlier = found.get(link.shard, (line, link))
        if earlier.url.path != link.url.path:
            raise LinksError(
                f"{where}, line {line}: {link.name} has another URL path than on line {earlier_line}; "
                "delete the wrong row"
            )
        found[link.shard] = line, link
    if not found:
        raise LinksError(f"{where}: expected rows such as 'sa_000020.tar<tab>https://…', found none; {_HOW_TO}")
    links = ShardLinks((shard, found[shard][1]) for shard in sorted(found))
    links.skipped = skipped
    return links


def check_expiry(links: Mapping[int, ShardLink] | Iterable[ShardLink], now: datetime | None = None) -> datetime | None:
    """Make sure that no link has expired, before a byte is sent.

    Parameters
    ----------
    links
        The links that are going to be used.
    now
        Timezone-aware time to compare with, the present by default.

    Returns
    -------
    datetime or None
        When the first of them will expire, in UTC; None if no URL says.

    Raises
    ------
    LinkExpiredError
        Some are expired; the message counts and names them.
    """
    links = list(links.values() if isinstance(links, Mapping) else links)
    expired = [link.name for link in links if link.url.is_expired(now)]
    times = [time for link in links if (time := link.url.expires_at)]
    if expired:
        names = ", ".join(expired[:_MAX_SHOWN]) + (", …" if len(expired) > _MAX_SHOWN else "")
        raise LinkExpiredError(
            f"{len(expired)} of {len(links)} links have expired, the first on {min(times):%Y-%m-%d %H:%M} UTC "
            f"({names}); {_HOW_TO}: paths stay the same, so that a download that was begun goes on with the new file"
        )
    return min(times, default=None)


def _check_length(length: int, where: str) -> None:
    if length > _MAX_BYTES:
        raise LinksError(f"{where}: expected at most {_MAX_BYTES} bytes, found more: this is not a links file")


def _check_content(text: str, where: str) -> None:
    _check_length(len(text), where)
    if not text.strip():
        raise LinksError(f"{where}: expected rows of a links file, found an empty file; {_HOW_TO}")
    if _HTML.match(text):
        raise LinksError(
            f"{where}: expected a links file, found a web page (HTML); accept the licence at {DOWNLOADS_PAGE} "
            "and save the file behind its link"
        )
    if "://" not in text and "signature expired" in text.lower():
        raise LinkExpiredError(f"{where}: the link to the links file itself had expired; {_HOW_TO}")


def _split(line: str) -> list[str]:
    return [] if line.lstrip().startswith("#") else line.split(maxsplit=3)


def _is_header(line: int, fields: list[str]) -> bool:
    return line == 1 and not any("://" in field for field in fields)


def _parse_row(fields: list[str], where: str, path: Path | None) -> ShardLink | None:
    """Give the link in a row, or None if the row is of no shard."""
    shard = parse_shard_name(fields[0]) if fields else None
    if shard is None:
        return None
    name, url = shard_name(shard), fields[-1]
    expected = 1 if "://" in fields[0] else 2
    if len(fields) != expected or not _WHOLE_URL.fullmatch(url):
        raise LinksError(
            f"{where}: expected '{name}.tar' and one URL, found {len(fields)} field(s) and no whole URL at the end; "
            f"if the file was cut off, {_HOW_TO}"
        )
    if parse_shard_name(url) not in (None, shard):
        raise LinksError(f"{where}: the row is of {name}, but its URL is of another shard")
    reload = functools.partial(_reveal_from_file, str(path), shard) if path else None
    return ShardLink(shard, name, SignedUrl(url, reload=reload))


def _reveal_from_file(path: str, shard: int) -> str:
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise LinksError(
            f"{path}: expected the links file that has the link of {shard_name(shard)}, found: {error.strerror}; "
            "keep it where every process can read it"
        ) from None
    link = _read_cached(path, stat.st_mtime_ns, stat.st_size).get(shard)
    if link is None:
        raise LinksError(f"{path}: the link of {shard_name(shard)} is no longer in it; {_HOW_TO}")
    return link.url.reveal()


@functools.lru_cache(maxsize=8)
def _read_cached(path: str, _mtime_ns: int, _size: int) -> ShardLinks:
    return read_links(Path(path))
