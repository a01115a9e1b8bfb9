"""The journal of one shard: which pieces of which file are on the disk, and their CRCs.

The first line is the key as JSON, every further line one piece: index, CRC32 of its bytes, CRC32 of the line so far, in
hexadecimal. A line that was torn, or that a power loss left as zeros, does not fit its own CRC and counts as absent.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from ._disk import disk_problem, write_small

__all__ = ["Journal", "Key", "read_journal"]

_VERSION: Final = 1
_LINE: Final = 27  # two numbers with a blank after each, one number, a line feed
_MAX_HEADER: Final = 1 << 14


@dataclass(frozen=True)
class Key:
    """What pieces must have in common to be parts of one file.

    Attributes
    ----------
    name
        Of the shard, ``sa_000020``.
    path
        Path part of the URL, the same in every links file. The query, where secrets are, is not kept.
    size
        Bytes of the whole file.
    piece
        Bytes of a piece.
    etag, modified
        Validators as the source gave them, None where it gave none.

    """

    name: str
    path: str
    size: int
    piece: int
    etag: str | None
    modified: str | None

    @property
    def num_pieces(self) -> int:
        """How many pieces the file has; the last one may be short."""
        return -(-self.size // self.piece)

    def span(self, index: int) -> tuple[int, int]:
        """Give the bytes of a piece, [start, end)."""
        return index * self.piece, min(self.size, (index + 1) * self.piece)


def read_journal(path: Path) -> tuple[Key | None, dict[int, int]]:
    """Read a journal, whatever a kill or a power loss left of it.

    Parameters
    ----------
    path
        Of the journal.

    Returns
    -------
    tuple of Key and dict
        The key, None if there is no readable journal, and the CRC32 by piece.

    """
    try:
        content = path.read_bytes()
    except OSError:
        return None, {}
    head, _, body = content.partition(b"\n")
    key = _parse_key(head)
    if key is None:
        return None, {}
    lines = (body[at : at + _LINE] for at in range(0, len(body), _LINE))
    pieces = dict(piece for line in lines if (piece := _parse_line(line)))
    return key, {index: crc for index, crc in pieces.items() if index < key.num_pieces}


class Journal:
    """An open journal; safe for several threads.

    Parameters
    ----------
    path
        Of the journal; replaced as a whole, so that torn lines do not stay.
    key
        See `Key`.
    pieces
        CRC32 by piece, of pieces that were checked.

    Attributes
    ----------
    key
        The same.

    """

    def __init__(self, path: Path, key: Key, pieces: dict[int, int]) -> None:
        self.key = key
        self._path = path
        self._lock = threading.Lock()
        header = json.dumps({"version": _VERSION, **asdict(key)})
        write_small(path, header + "\n" + "".join(_line(index, crc) for index, crc in sorted(pieces.items())))
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise disk_problem(error, path) from None

    def add(self, index: int, crc: int) -> None:
        """Record a piece whose bytes were handed to the system; survives a kill from here on."""
        with self._lock:
            try:
                self._file.write(_line(index, crc).encode())
            except OSError as error:
                raise disk_problem(error, self._path) from None

    def sync(self) -> None:
        """Make the records durable; do so after the pieces' bytes."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _line(index: int, crc: int) -> str:
    start = f"{index:08x} {crc:08x} "
    return f"{start}{zlib.crc32(start.encode()):08x}\n"


def _parse_line(line: bytes) -> tuple[int, int] | None:
    try:
        index, crc, _ = (int(field, 16) for field in line.split())
    except ValueError:
        return None
    return (index, crc) if line == _line(index, crc).encode() else None


def _parse_key(head: bytes) -> Key | None:
    try:
        fields = json.loads(head[:_MAX_HEADER])
        if fields.pop("version") != _VERSION:
            return None
        key = Key(**fields)
        is_sane = key.size > 0 and key.piece > 0
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return key if is_sane else None
