"""A strict, forward-only tar reader for SA-1B shards: every member, or a typed reason why not.

It knows what such a shard may contain and refuses the rest, so that a damaged archive cannot pass for a short one.

Formats: POSIX.1-1988 ustar, GNU (``L`` long names, base-256 numbers) and POSIX.1-2001 pax headers without overrides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from .errors import TarError
from .source import Blob, Cursor

__all__ = ["BLOCK", "MAX_MEMBERS", "MAX_MEMBER_BYTES", "Member", "SkippedMember", "iter_members"]

BLOCK: Final = 512
MAX_MEMBER_BYTES: Final = 64 << 20
MAX_MEMBERS: Final = 1 << 17
_MAX_EXTENSION: Final = 1 << 16  # a long name or pax header; real ones have some hundred bytes
_MAX_END_PADDING: Final = 1 << 30

_ZEROS: Final = bytes(BLOCK)
_NAME: Final = re.compile(r"(?:\./|[\w-]+/)?(sa_(\d{1,18}))\.(jpg|json)", re.ASCII | re.IGNORECASE)
_REGULAR: Final = frozenset(b"0\0" + b"7")
_WITHOUT_DATA: Final = frozenset(b"123456")  # links, devices, directories, fifos
_DIRECTORY: Final = ord("5")
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"LKxg"


@dataclass(slots=True)
class Member:
    """An image or a JSON document inside a shard.

    Attributes
    ----------
    name
        File name without folders, such as ``sa_226381.jpg``.
    image_id
        The number in the name.
    kind
        ``"jpg"`` or ``"json"``.
    size
        Bytes.
    offset
        Position of the member's header in the uncompressed tar.

    """

    name: str
    image_id: int
    kind: Literal["jpg", "json"]
    size: int
    offset: int
    _cursor: Cursor

    def read(self) -> bytes:
        """Give the bytes in one piece; call it before the next member is asked for."""
        data = self._cursor.read(self.size)
        self._check(len(data))
        return data

    def take(self) -> Blob:
        """Give the bytes without copying them; call it before the next member is asked for."""
        blob = self._cursor.take(self.size)
        self._check(blob.size)
        return blob

    def _check(self, found: int) -> None:
        if found < self.size:
            raise _cut_off(self.name, self.size, found, self.offset)


@dataclass(frozen=True, slots=True)
class SkippedMember:
    """Something in the archive that is no image and no document of SA-1B.

    Attributes
    ----------
    name
        As in the archive, cut to a printable length.
    reason
        ``"foreign-name"`` or ``"unsupported-type"``.
    offset
        Position of the member's header in the uncompressed tar.

    """

    name: str
    reason: str
    offset: int


def iter_members(cursor: Cursor, *, is_past: Callable[[int], bool] | None = None) -> Iterator[Member | SkippedMember]:
    """Walk through the members of a shard.

    Parameters
    ----------
    cursor
        At the first byte of the archive. What a member's consumer does not read is skipped.
    is_past
        For a part of an archive: told the offset of an entry, it says whether the part ends before it. A part may have
        no members.

    Yields
    ------
    Member or SkippedMember
        In the order of the archive. Directories are passed over in silence, the real shards begin with one.

    Raises
    ------
    TarError
        The structure is broken here; everything before has been yielded. ``reason`` is ``"truncated"``,
        ``"missing-end"``, ``"lone-zero-block"``, ``"data-after-end"``, ``"header-checksum"``, ``"header-number"``,
        ``"member-too-large"``, ``"too-many-members"``, ``"unsupported-member"``, ``"no-members"`` or ``"not-a-shard"``.
    CompressionError
        The stream below is damaged; also found after the last member, where the checksum is.

    """
    long_name: str | None = None
    count = 0
    in_entry = False  # an extension header and the member that it describes stay together
    while in_entry or is_past is None or not is_past(cursor.offset):
        if (header := _read_header(cursor)) is None:
            break
        offset = cursor.offset - BLOCK
        kind = header.kind
        in_entry = kind in (_LONG_NAME, _LONG_LINK, _PAX)
        if kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL):
            long_name = _read_extension(cursor, header, offset) or long_name
            continue
        name, long_name = long_name or header.name, None
        count += 1
        if count > MAX_MEMBERS:
            raise _broken("too-many-members", f"expected at most {MAX_MEMBERS:,} members, found more", offset)
        size = 0 if kind in _WITHOUT_DATA else header.size
        if size > MAX_MEMBER_BYTES:
            raise _broken(
                "member-too-large",
                f"expected members of at most {MAX_MEMBER_BYTES >> 20} MiB, found {_printable(name)!r} with {size:,} "
                "bytes",
                offset,
            )
        end = cursor.offset + size
        yield from _classify(cursor, name, kind, size, offset)
        _finish_member(cursor, name, end, offset)
    if not count and is_past is None:
        raise _broken("no-members", "expected images and documents, found an archive without members", 0)


def _classify(cursor: Cursor, name: str, kind: int, size: int, offset: int) -> Iterator[Member | SkippedMember]:
    match = _NAME.fullmatch(name)
    if kind == _DIRECTORY:
        return
    if match and kind in _REGULAR:
        suffix = match[3].lower()
        # the stem keeps its digits as they are, leading zeros included
        yield Member(f"{match[1]}.{suffix}", int(match[2]), suffix, size, offset, cursor)  # type: ignore[arg-type]
    elif kind in _REGULAR:
        yield SkippedMember(_printable(name), "foreign-name", offset)
    elif kind in _WITHOUT_DATA:
        yield SkippedMember(_printable(name), "unsupported-type", offset)
    else:
        raise _broken("unsupported-member", f"expected files, found {_printable(name)!r} of type {chr(kind)!r}", offset)


def _finish_member(cursor: Cursor, name: str, end: int, offset: int) -> None:
    if missing := end - cursor.offset:
        found = cursor.skip(missing)
        if found < missing:
            raise _cut_off(name, end - offset - BLOCK, cursor.offset - offset - BLOCK, offset)
    padding = -end % BLOCK
    if cursor.skip(padding) < padding:
        raise _broken("truncated", f"the file ends in the padding after {_printable(name)!r}", offset)


class _Header(NamedTuple):
    name: str
    size: int
    kind: int


def _read_header(cursor: Cursor) -> _Header | None:
    """Read one header; None at a proper end of the archive, which is read to the very last byte."""
    offset = cursor.offset
    block = cursor.read(BLOCK)
    if len(block) < BLOCK:
        if not block:
            raise _broken("missing-end", "the file ends without the two zero blocks that end a tar", offset)
        raise _broken("truncated", f"expected a header of 512 bytes, found the end after {len(block)}", offset)
    if block == _ZEROS:
        _read_end(cursor, offset)
        return None
    return _parse_header(block, offset)


def _read_end(cursor: Cursor, offset: int) -> None:
    second = cursor.read(BLOCK)
    if second != _ZEROS:
        reason = "truncated" if len(second) < BLOCK else "lone-zero-block"
        raise _broken(reason, "expected two zero blocks at the end of the archive, found one", offset)
    while block := cursor.read(1 << 16):
        if block.strip(b"\0"):
            raise _broken("data-after-end", "expected nothing after the end of the archive, found more data", offset)
        if cursor.offset - offset > _MAX_END_PADDING:
            raise _broken("data-after-end", "expected some kilobytes of padding, found more than 1 GiB", offset)


def _parse_header(block: bytes, offset: int) -> _Header:
    # The checksum counts its own field as eight spaces (POSIX.1, ustar interchange format).
    expected = sum(block) - sum(block[148:156]) + 8 * 32
    try:
        stored = _number(block[148:156])
    except ValueError:
        stored = -1
    if stored != expected:
        if not offset:
            raise _broken("not-a-shard", "expected a gzip or tar file, found neither", offset)
        raise _broken("header-checksum", f"expected header checksum {expected}, found {block[148:156]!r}", offset)
    try:
        size = _number(block[124:136])
    except ValueError as error:
        raise _broken("header-number", f"{error} as the size of a member", offset) from None
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        name = f"{_text(block[345:500])}/{name}"
    return _Header(name, size, block[156])


def _number(field: bytes) -> int:
    """Octal text, or GNU's big-endian base-256 with the top bit set."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise ValueError("expected a number, found a negative one")
        return int.from_bytes(bytes((field[0] & 0x3F,)) + field[1:], "big")
    text = field.partition(b"\0")[0].strip(b" ")
    if text.strip(b"01234567"):
        raise ValueError(f"expected octal digits, found {field!r}")
    return int(text or b"0", 8)


def _read_extension(cursor: Cursor, header: _Header, offset: int) -> str | None:
    """Read a long name or a pax header; give the name it sets for the next member."""
    if header.size > _MAX_EXTENSION:
        raise _broken("unsupported-member", f"expected a short extension header, found {header.size:,} bytes", offset)
    data = cursor.read(header.size)
    if len(data) < header.size:
        raise _cut_off(header.name, header.size, len(data), offset)
    _finish_member(cursor, header.name, cursor.offset, offset)
    if header.kind == _LONG_NAME:
        return _text(data)
    return _pax_path(data, offset) if header.kind == _PAX else None


def _pax_path(data: bytes, offset: int) -> str | None:
    name = None
    while data:
        length, _, _ = data.partition(b" ")
        count = int(length) if length.isdigit() and len(length) <= len(str(_MAX_EXTENSION)) else 0
        record, data = data[:count], data[count:]
        key, equals, value = record[len(length) + 1 : -1].partition(b"=")
        if not equals or not record.endswith(b"\n"):
            raise _broken("unsupported-member", "expected pax records, found something else", offset)
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise _broken("unsupported-member", f"expected plain files, found a pax override of {_text(key)!r}", offset)
        if key == b"path":
            name = _text(value)
    return name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _printable(name: str) -> str:
    return ascii(name)[1:-1][:100]


def _cut_off(name: str, expected: int, found: int, offset: int) -> TarError:
    return _broken(
        "truncated", f"{_printable(name)!r} is cut off: expected {expected:,} bytes, found {max(0, found):,}", offset
    )


def _broken(reason: str, message: str, offset: int) -> TarError:
    return TarError(f"{message} (at uncompressed byte {offset:,})", reason=reason, offset=offset)
