"""Where tar entries begin in a stretch of a shard of which the beginning was not seen."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .inflate import Chunk

__all__ = ["BLOCK", "BrokenChainError", "Entry", "HeaderScan", "parse_entry"]

BLOCK: Final = 512
_MAGIC: Final = b"ustar"
_MAGIC_AT: Final = 257
_CHECKSUM: Final = slice(148, 156)
_SIZE: Final = slice(124, 136)
_EXTENSIONS: Final = frozenset(b"LKx")
_WITHOUT_DATA: Final = frozenset(b"123456")
_NAME: Final = re.compile(r"(?:\./|[\w-]+/)?(sa_(\d{1,18}))\.(jpg|json)", re.ASCII | re.IGNORECASE)
_MAX_HEADERS: Final = 1 << 20


class BrokenChainError(Exception):
    """One header does not lead to the next."""


class Entry(NamedTuple):
    """A header that has the right magic and checksum.

    Attributes
    ----------
    span
        Bytes from the header to where the next one should be.
    size
        Bytes of data.
    is_extension
        It describes the entry that follows.
    name
        As in the header.

    """

    span: int
    size: int
    is_extension: bool
    name: str

    @property
    def has_known_name(self) -> bool:
        """True for what SA-1B consists of."""
        return self.is_extension or self.parse_name() is not None

    def parse_name(self) -> tuple[str, int, str] | None:
        """Give the file name without folders, the image id and the kind; None for what is no member of SA-1B."""
        match = None if self.is_extension else _NAME.fullmatch(self.name)
        return (f"{match[1]}.{match[3].lower()}", int(match[2]), match[3].lower()) if match else None


def parse_entry(block: Chunk) -> Entry | None:
    """Parse 512 bytes; None if they are no header of a ``ustar`` archive (POSIX.1 or GNU)."""
    block = bytes(block)
    if len(block) < BLOCK or block[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        return None
    try:
        checksum = int(block[_CHECKSUM].partition(b"\0")[0].strip(b" ") or b"0", 8)
        field = block[_SIZE]
        size = int.from_bytes(field[1:], "big") if field[0] & 0x80 else int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        return None
    if checksum != sum(block) - sum(block[_CHECKSUM]) + 8 * 32:
        return None
    kind = block[156]
    size = 0 if kind in _WITHOUT_DATA else size
    name = block[:100].partition(b"\0")[0].decode("utf-8", "backslashreplace")
    return Entry(BLOCK + size + -size % BLOCK, size, kind in _EXTENSIONS, name)


class HeaderScan:
    """Every tar header in bytes that come in order, aligned or not.

    Attributes
    ----------
    entries
        Headers by offset.
    scanned
        Bytes seen so far.

    """

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.scanned = 0
        self._tail = b""

    def feed(self, data: Chunk) -> None:
        """Look through the next bytes."""
        data = self._tail + data
        base = self.scanned - len(self._tail)
        self.scanned = base + len(data)
        at = data.find(_MAGIC, _MAGIC_AT)
        while 0 <= at <= len(data) - (BLOCK - _MAGIC_AT):
            if entry := parse_entry(data[at - _MAGIC_AT : at - _MAGIC_AT + BLOCK]):
                self.entries[base + at - _MAGIC_AT] = entry
                if len(self.entries) > _MAX_HEADERS:
                    raise BrokenChainError
            at = data.find(_MAGIC, at + 1)
        self._tail = data[-(BLOCK - 1) :]

    def first(self) -> int | None:
        """Offset of the first header that is SA-1B's."""
        return next((at for at, entry in sorted(self.entries.items()) if entry.has_known_name), None)

    def chain(self, start: int, least: int) -> list[int] | None:
        """Follow headers from `start` on.

        Returns
        -------
        list of int, or None
            Offsets of headers, the last being the first beginning of an entry at `least` or later; it itself need not
            have been seen. None if more bytes must be seen first.

        Raises
        ------
        BrokenChainError
            There is no header where one should be.

        """
        chain, in_entry = [start], False
        while chain[-1] < least or in_entry:
            entry = self.entries.get(chain[-1])
            if entry is None:
                if chain[-1] + BLOCK <= self.scanned:
                    raise BrokenChainError
                return None
            in_entry = entry.is_extension
            chain.append(chain[-1] + entry.span)
        return chain

    def is_unambiguous(self, chain: list[int]) -> bool:
        """True if nothing within the chain looks like a header and is not part of it."""
        on_chain = set(chain)
        return all(at in on_chain for at in self.entries if chain[0] <= at < chain[-1])
