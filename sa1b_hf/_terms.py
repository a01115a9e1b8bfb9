"""What a download of one shard is given, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from .verify import CATALOGUE, Checksums

__all__ = ["MEAN_SIZE", "PIECE", "DownloadedShard", "Terms"]

PIECE: Final = 4 << 20
"""Bytes of a piece: what a kill costs is less than this for each connection."""

MEAN_SIZE: Final = 11_300_000_000
"""Bytes of a shard of which nothing is known."""


@dataclass(frozen=True)
class Terms:
    """How to download, for all shards the same; see `sa1b_hf.download.DownloadOptions`."""

    connections: int = 4
    retries: int = 8
    timeout: float = 30.0
    checksums: Checksums = CATALOGUE
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    engine: Literal["builtin", "aria2c"] = "builtin"


@dataclass(frozen=True)
class DownloadedShard:
    """One shard that is in place.

    Attributes
    ----------
    number, name
        ``20`` and ``sa_000020``.
    path
        Of the file.
    status
        ``"verified"``: its MD5 is the expected one. ``"complete-unverified"``: no MD5 is known, it is whole by length,
        gzip checksum and tar structure. ``"failed"``: see `error`.
    size
        Bytes.
    md5
        Hexadecimal, None if it was not computed.
    num_fetched
        Bytes that were fetched for it in this run, 0 if it was there.
    error
        Why there is no such file, with ``on_error="warn"``.

    """

    number: int
    name: str
    path: Path
    status: str
    size: int = 0
    md5: str | None = None
    num_fetched: int = 0
    error: Exception | None = None
