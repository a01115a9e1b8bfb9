"""Is a shard file what it should be? Length, MD5, gzip and tar structure, and on request every image and mask."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from ._checksum_file import read_checksums
from ._salvage_check import Salvage, salvage_check
from .catalog import KnownBad, ShardInfo, identify_md5, parse_shard_name, shard_info
from .errors import ConfigError, MissingShardsError, ShardError
from .reports import PassReport
from .source import open_shard
from .tar import SkippedMember, iter_members

__all__ = [
    "CATALOGUE",
    "Checksums",
    "ShardReport",
    "Status",
    "expected_md5",
    "read_checksums",
    "verify_shard",
    "verify_shards",
]

_BUFFER: Final = 1 << 20
_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")

CATALOGUE: Final = "catalogue"
"""Compare with the MD5s that come with the package."""

Checksums = Mapping[str, str] | Literal["catalogue"] | None
"""MD5 by shard name (``sa_000020``, see `read_checksums`), those of the catalogue, or None to compare with nothing."""

Status = Literal["verified", "complete-unverified", "known-bad", "wrong-md5", "damaged", "missing"]
"""``verified``: the MD5 is the expected one. ``complete-unverified``: whole by its structure and gzip checksum, but no
MD5 is known for it. The others are failures."""


@dataclass(frozen=True)
class ShardReport:
    """What was found about one shard file.

    Attributes
    ----------
    shard
        Its name, ``sa_000020``.
    path
        Of the file.
    status
        See `Status`.
    reason
        Short stable word for a failure, as in the errors; None when all is well.
    message
        What is wrong and what to do, or what was made sure of.
    size
        Bytes, None if there is no file.
    md5
        Hexadecimal, None if it was not computed.
    compression
        ``"gzip"`` or ``"none"``; None if the structure was not walked.
    num_images, num_documents
        JPEG and JSON members; None if the structure was not walked.
    content
        What decoding everything gave, with ``deep=True``: ``content.delivered`` images are readable.
    salvage
        What can be read of it nonetheless, with ``salvage=True`` and something wrong.

    """

    shard: str
    path: Path
    status: Status
    reason: str | None = None
    message: str = ""
    size: int | None = None
    md5: str | None = None
    compression: str | None = None
    num_images: int | None = None
    num_documents: int | None = None
    content: PassReport | None = None
    salvage: Salvage | None = None

    @property
    def is_ok(self) -> bool:
        """True when nothing is wrong with the file."""
        return self.status in {"verified", "complete-unverified"} and (self.content is None or self.content.is_clean)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, ready for JSON."""
        values = asdict(self) | {"path": str(self.path), "is_ok": self.is_ok}
        values["content"] = self.content.to_dict() if self.content else None
        return values

    def to_json(self) -> str:
        """Give one line of JSON."""
        return json.dumps(self.to_dict())


@dataclass
class _Evidence:
    """What is known of a file before it is judged."""

    name: str
    path: Path
    size: int
    md5: str | None = None
    expected: str | None = None
    compression: str | None = None
    fault: ShardError | None = None
    members: Counter[str] | None = None

    @property
    def known(self) -> ShardInfo | KnownBad | None:
        return identify_md5(self.md5) if self.md5 else None


def expected_md5(name: str, checksums: Checksums) -> str | None:
    """Look up the MD5 that a shard must have, None if nobody knows."""
    if checksums is None:
        return None
    if isinstance(checksums, Mapping):
        md5 = checksums.get(name)
        return None if md5 is None else md5.lower()
    if checksums != CATALOGUE:
        raise ConfigError(f"checksums: expected MD5s by shard name, 'catalogue' or None, found {checksums!r}")
    number = parse_shard_name(name)
    return None if number is None else shard_info(number).md5


def verify_shard(
    path: str | Path,
    *,
    name: str | None = None,
    checksums: Checksums = CATALOGUE,
    structure: bool | None = None,
    deep: bool = False,
    salvage: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> ShardReport:
    """Check one file.

    Parameters
    ----------
    path
        Of a shard.
    name
        Name of the shard, when the file's name does not tell.
    checksums
        See `Checksums`.
    structure
        Walk the gzip stream and the tar in it and count members. None: only where the MD5 does not settle it.
    deep
        Also decode every JPEG, JSON document and mask.
    salvage
        If something is wrong, also say what can be read around it.
    on_bytes
        Called with the number of bytes hashed, and now and then with 0; may raise, which ends the check.

    Returns
    -------
    ShardReport
        A fault of the file is no exception.

    Raises
    ------
    ConfigError
        ``checksums`` makes no sense.
    SourceError
        The file cannot be read.

    """
    path = Path(path)
    name = name or _name_of(path)
    expected = expected_md5(name, checksums)
    if not path.is_file():
        return ShardReport(name, path, "missing", "missing", f"{path}: expected a shard, found no file; download it")
    found = _Evidence(name, path, path.stat().st_size, expected=expected)
    if checksums is not None:
        found.md5 = hash_file(path, on_bytes)
    is_settled = found.md5 is not None and found.md5 == expected
    if structure or deep or not is_settled:
        _walk(found, on_bytes)
    report = _judge(found)
    if deep:
        from ._deep import deep_check  # noqa: PLC0415 -- it needs `datasets`, which a download has no use for

        content = deep_check(path, name)
        if report.status == "complete-unverified" and not content.is_clean:
            report = replace(report, status="damaged", reason="content", message=f"{name}: {content}")
        report = replace(report, content=content)
    return replace(report, salvage=salvage_check(path)) if salvage and not report.is_ok else report


def verify_shards(
    places: Iterable[str | Path],
    *,
    checksums: Checksums = CATALOGUE,
    structure: bool | None = None,
    deep: bool = False,
    salvage: bool = False,
) -> Iterator[ShardReport]:
    """Check files, and all shards in folders, one after the other.

    Parameters
    ----------
    places
        Paths of files or folders.
    checksums, structure, deep, salvage
        As in `verify_shard`.

    Yields
    ------
    ShardReport
        One for each file.

    Raises
    ------
    MissingShardsError
        A folder has no shards.

    """
    for place in map(Path, places):
        files = [place]
        if place.is_dir():
            files = sorted(path for path in place.iterdir() if path.name.endswith(_SUFFIXES) and path.is_file())
            if not files:
                raise MissingShardsError(f"{place}: expected files named sa_000000.tar …, found none")
        for file in files:
            yield verify_shard(file, checksums=checksums, structure=structure, deep=deep, salvage=salvage)


def hash_file(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """Compute the MD5 of a file, hexadecimal; `on_bytes` may raise to end it."""
    digest = hashlib.md5(usedforsecurity=False)
    buffer = memoryview(bytearray(_BUFFER))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            if on_bytes is not None:
                on_bytes(count)
    return digest.hexdigest()


def _name_of(path: Path) -> str:
    number = parse_shard_name(path)
    return path.name.partition(".")[0] if number is None else f"sa_{number:06d}"


def _walk(found: _Evidence, on_bytes: Callable[[int], None] | None) -> None:
    found.members = Counter()
    try:
        with open_shard(found.path, shard=found.name) as cursor:
            found.compression = cursor.compression
            for member in iter_members(cursor):
                found.members["other" if isinstance(member, SkippedMember) else member.kind] += 1
                if on_bytes is not None:
                    on_bytes(0)  # which may raise, to end the walk
    except ShardError as error:
        found.fault = error


def _judge(found: _Evidence) -> ShardReport:
    status, reason, message = _verdict(found)
    return ShardReport(
        found.name,
        found.path,
        status,
        reason,
        message,
        size=found.size,
        md5=found.md5,
        compression=found.compression,
        num_images=None if found.members is None else found.members["jpg"],
        num_documents=None if found.members is None else found.members["json"],
    )


def _verdict(found: _Evidence) -> tuple[Status, str | None, str]:
    name, fault = found.name, found.fault
    if isinstance(found.known, KnownBad):
        return "known-bad", "known-bad", f"{name}: {found.known.advice}"
    if found.md5 is not None and found.expected is not None and found.md5 != found.expected:
        return "wrong-md5", "wrong-md5", f"{name}: {_explain_md5(found, found.md5)}"
    if fault is not None:
        return "damaged", fault.reason, str(fault) if fault.shard else f"{name}: {fault}"
    if found.md5 is not None and found.md5 == found.expected:
        return "verified", None, f"{name}: its MD5 is the expected one"
    if found.members and found.members["jpg"] != found.members["json"]:
        counts = f"{found.members['jpg']:,} images and {found.members['json']:,} documents"
        return "damaged", "unpaired", f"{name}: expected as many images as documents, found {counts}"
    return "complete-unverified", None, f"{name}: whole by its structure; no MD5 is known that would prove its content"


def _explain_md5(found: _Evidence, md5: str) -> str:
    message = f"expected MD5 {found.expected}, found {md5} ({found.size:,} bytes)"
    if isinstance(found.known, ShardInfo):
        return f"{message}: these are the bytes of {found.known.name}; rename the file"
    if found.fault is not None:
        return f"{message}, and {found.fault.message}"
    number = parse_shard_name(found.name)
    length = None if number is None else shard_info(number).size_bytes
    if length is not None and length != found.size:
        message += f"; the original has {length:,} bytes"
    return (
        f"{message}; its structure is whole, so this may be a copy that was packed anew: download the original through "
        "Meta's links file, or pass checksums=None (--no-md5) to accept it"
    )
