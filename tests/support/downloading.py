"""What the tests of downloads have in common: small pieces, impatient attempts, and a shard on a server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sa1b_hf import _resume, _shard_download
from sa1b_hf.download import DownloadOptions, download
from sa1b_hf.testing import make_shard

PIECE = 1 << 14
NAME = "sa_000000"
PATH = f"/m1/v/t6/An8/{NAME}.tar"


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use small pieces and short waits, and no proxy."""
    monkeypatch.setattr(_shard_download, "PIECE", PIECE)
    monkeypatch.setattr(_resume, "_BACKOFF", 0.002)
    monkeypatch.setattr(_resume, "_MAX_BACKOFF", 0.02)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def shard_bytes(folder: Path, **options) -> bytes:
    """Make a shard of some 16 pieces."""
    path = folder / "made.tar"
    make_shard(path, **{"num_images": 75, **options})
    return path.read_bytes()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def fetch(folder: Path, url: str, *, checksums=None, delete_after: bool = False, **options):
    """Download one shard from a URL and give the result."""
    settings = {"connections": 2, "retries": 3, "timeout": 0.5, "progress": False, "checksums": checksums, **options}
    (result,) = download(
        folder,
        source=url.replace(NAME, "{name}"),
        shards=0,
        delete_after=delete_after,
        options=DownloadOptions(**settings),
    )
    return result
