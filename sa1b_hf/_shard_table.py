"""The table of all shards that comes with the package, and the records in it."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from dataclasses import dataclass

__all__ = ["KnownBad", "ShardInfo", "files_by_md5", "shard_table"]

_BAD_ADVICE = (
    "this is the damaged copy of {name} that circulates on mirrors (Hub Aber-r/SA-1B_backup, OpenDataLab): its gzip "
    "stream breaks near the end. Download the shard again through Meta's links file, or read this copy with "
    "on_error='warn', which delivers what lies before the break and counts the rest"
)


@dataclass(frozen=True)
class KnownBad:
    """A damaged file that mirrors give under a shard's name.

    Attributes
    ----------
    number
        Shard number, 0 to 999.
    md5, sha256
        Hexadecimal hashes of the damaged file; ``sha256`` is None when unknown.
    size_bytes
        Length of the damaged file in bytes, None when unknown.
    """

    number: int
    md5: str
    sha256: str | None = None
    size_bytes: int | None = None

    @property
    def advice(self) -> str:
        """What is wrong with the file, and what to do about it."""
        return _BAD_ADVICE.format(name=f"sa_{self.number:06d}")


@dataclass(frozen=True)
class ShardInfo:
    """What is known of one shard; sizes and hashes are of the file as downloaded, that is, of the gzip bytes.

    Attributes
    ----------
    number
        Shard number, 0 to 999.
    name, file_name
        ``sa_000020`` and ``sa_000020.tar``.
    md5
        Hexadecimal MD5 from a public list of all shards.
    md5_confirmed
        Somebody else measured the same MD5 on a downloaded file.
    size_bytes, num_images, sha256
        Measured by others; None when unknown.
    known_bad
        Damaged files in circulation under the same name.
    """

    number: int
    name: str
    file_name: str
    md5: str
    md5_confirmed: bool
    size_bytes: int | None = None
    num_images: int | None = None
    sha256: str | None = None
    known_bad: tuple[KnownBad, ...] = ()


@functools.cache
def shard_table() -> tuple[ShardInfo, ...]:
    """Read the table, once."""
    text = importlib.resources.files(__package__).joinpath("data/shards.tsv").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return tuple(_row_to_info(row) for row in csv.DictReader(lines, delimiter="\t", restval=""))


def _row_to_info(row: dict[str, str]) -> ShardInfo:
    file_name = row["file"]
    name = file_name.removesuffix(".tar")
    number = int(name.removeprefix("sa_"))
    bad = KnownBad(number, row["bad_md5"], row["bad_sha256"] or None, _int_or_none(row["bad_size"]))
    return ShardInfo(
        number=number,
        name=name,
        file_name=file_name,
        md5=row["md5"],
        md5_confirmed=row["confirmed"] == "yes",
        size_bytes=_int_or_none(row["size_bytes"]),
        num_images=_int_or_none(row["images"]),
        sha256=row["sha256"] or None,
        known_bad=(bad,) if bad.md5 else (),
    )


def _int_or_none(text: str) -> int | None:
    return int(text) if text else None


@functools.cache
def files_by_md5() -> dict[str, ShardInfo | KnownBad]:
    """Give every file whose MD5 is known, genuine and damaged ones."""
    found: dict[str, ShardInfo | KnownBad] = {info.md5: info for info in shard_table()}
    found.update((bad.md5, bad) for info in shard_table() for bad in info.known_bad)
    return found
