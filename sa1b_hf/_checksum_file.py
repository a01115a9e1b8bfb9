"""Lists of MD5s that mirrors publish, in the forms that md5sum and its relatives write."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from .catalog import parse_shard_name, shard_name
from .errors import ConfigError

__all__ = ["read_checksums"]

_MAX_BYTES: Final = 4 << 20
_MD5: Final = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{32}(?![0-9A-Za-z])")


def read_checksums(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a list of MD5s.

    Parameters
    ----------
    path
        Text with a shard file's name and its MD5 in each line, in any order and with anything between, as
        ``md5sum *.tar`` or ``md5 *.tar`` write it. Lines without an MD5, such as headings, and files that are no shards
        are passed over.

    Returns
    -------
    dict
        MD5 by shard name, ready for ``checksums=``.

    Raises
    ------
    ConfigError
        The file cannot be read, has no shard's MD5, has two different ones of a shard, or a line with several.

    """
    text = _read(Path(path))
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        pair = _parse(line, f"{path}, line {number}")
        if pair is not None and found.setdefault(*pair) != pair[1]:
            raise ConfigError(f"{path}, line {number}: expected one MD5 of {pair[0]}, found a second, different one")
    if not found:
        raise ConfigError(f"{path}: expected lines such as '<MD5>  sa_000000.tar', found none")
    return found


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: the list of MD5s cannot be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path}: expected a list of MD5s, found a file of more than {_MAX_BYTES >> 20} MiB")
    return content.decode("utf-8-sig", errors="replace")


def _parse(line: str, where: str) -> tuple[str, str] | None:
    hashes = _MD5.findall(line)
    names = {number for word in re.split(r"[\s,;()*=]+", line) if (number := parse_shard_name(word)) is not None}
    if not hashes or not names:
        return None
    if len(hashes) > 1 or len(names) > 1:
        raise ConfigError(f"{where}: expected one file name and one MD5, found {len(names)} and {len(hashes)}")
    return shard_name(names.pop()), hashes[0].lower()
