"""Damage to the finished file: to its gzip layer, or to the whole of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .fault_types import FaultSpec, FileFault

__all__ = ["FILE_FAULTS"]

_TRAILER = 8  # CRC-32 and length, four bytes each
_STEP = 1 << 20
_HTML = (
    b"<!DOCTYPE html>\n<html><head><title>Error</title></head>\n"
    b"<body><h1>Sorry, something went wrong.</h1><p>URL signature expired</p></body></html>\n"
)


def _inflated_before(path: Path, end: int) -> int:
    """Count the tar bytes that the first `end` bytes of a gzip file hold."""
    inflater, total, left = zlib.decompressobj(wbits=31), 0, end
    with path.open("rb") as file:
        while left and (chunk := file.read(min(_STEP, left))):
            total += len(inflater.decompress(chunk))
            left -= len(chunk)
    return total


def _overwrite(path: Path, offset: int, change: Callable[[bytes], bytes], length: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        data = file.read(length)
        file.seek(offset)
        file.write(change(data))


def _inverted(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data)


def _cut(path: Path, keep: int) -> None:
    with path.open("r+b") as file:
        file.truncate(keep)


def _truncate(path: Path) -> int:
    keep = path.stat().st_size * 6 // 10
    _cut(path, keep)
    return _inflated_before(path, keep)


def _truncate_trailer(path: Path) -> None:
    _cut(path, path.stat().st_size - _TRAILER // 2)


def _corrupt_late(path: Path) -> int:
    at = path.stat().st_size * 9 // 10
    intact = _inflated_before(path, at)
    _overwrite(path, at, _inverted, 16)
    return intact


def _spoil_crc(path: Path) -> None:
    _overwrite(path, path.stat().st_size - _TRAILER, _inverted, 4)


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"behind the trailer " * 64)


def _replace(content: bytes, path: Path) -> int:
    path.write_bytes(content)
    return 0


def _gzip(name: str, reasons: tuple[str, ...], description: str, apply: FileFault) -> FaultSpec:
    return FaultSpec(name, "file", reasons, description, apply, needs_gzip=True)


FILE_FAULTS = (
    _gzip("truncated_gzip", ("gzip-truncated",), "the last 40 % of the gzip file missing", _truncate),
    _gzip("truncated_gzip_trailer", ("gzip-truncated",), "the last 4 bytes missing", _truncate_trailer),
    _gzip(
        "corrupt_gzip_late",
        ("gzip-data", "gzip-crc", "header-checksum"),
        "16 bytes inverted at 90 % of the file",
        _corrupt_late,
    ),
    _gzip("gzip_bad_crc", ("gzip-crc",), "good data under a wrong CRC-32", _spoil_crc),
    _gzip("gzip_trailing_garbage", ("gzip-trailing-data",), "bytes behind the gzip trailer", _append),
    FaultSpec("html_instead", "file", ("not-a-shard",), "a server's error page", partial(_replace, _HTML)),
    FaultSpec("empty_file", "file", ("empty",), "no bytes at all", partial(_replace, b"")),
)
"""Every fault of the finished file."""
