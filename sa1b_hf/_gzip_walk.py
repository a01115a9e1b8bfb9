"""Inflate from any point of a gzip file on, across its members, with the checksums of what was passed."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any, Final, NamedTuple

from ._crc import crc32_combine
from ._deflate import MAX_OUTPUT, stands_at_stored, start_at_stored
from ._engines import GZIP_MAGIC, Chunk
from .errors import CompressionError

__all__ = ["FILE_START", "Checksums", "GzipWalk", "Point", "gzip_error"]

_TRAILER: Final = 8
_RAW: Final = -15
_MAX_HEADER: Final = 1 << 17
_EXTRA, _NAME, _COMMENT, _HEADER_CRC, _RESERVED = 4, 8, 16, 2, 0xE0


class Point(NamedTuple):
    """A place in a gzip file at which inflate can begin.

    Attributes
    ----------
    compressed
        Offset in the file: of a stored block's ``LEN``, or of a member's magic bytes.
    is_stored
        Which of the two.

    """

    compressed: int
    is_stored: bool


FILE_START: Final[Point] = Point(0, is_stored=False)


class Checksums:
    """CRC-32 and lengths of consecutive stretches, compared at each member's trailer.

    Attributes
    ----------
    stretches
        (crc, length, trailer) of each stretch; the trailer's own (crc, length modulo 2^32) where a member ended.

    """

    def __init__(self) -> None:
        self.stretches: list[tuple[int, int, tuple[int, int] | None]] = []
        self.crc = 0
        self.length = 0

    def close(self, trailer: tuple[int, int] | None = None) -> None:
        """End a stretch."""
        self.stretches.append((self.crc, self.length, trailer))
        self.crc = self.length = 0

    @staticmethod
    def agree(parts: Iterable[Checksums]) -> bool:
        """Compare the checksums of parts that together are a whole file, in order, with all its trailers."""
        crc = length = 0
        for part in parts:
            for more, count, trailer in part.stretches:
                crc, length = crc32_combine(crc, more, count), length + count
                if trailer is not None:
                    if trailer != (crc, length & 0xFFFFFFFF):
                        return False
                    crc = length = 0
        return not length


class GzipWalk:
    """A decoder that can begin at a `Point`, and can be asked where it stands.

    Attributes
    ----------
    position
        Compressed bytes up to which it was fed, as an offset in the file.
    produced
        Uncompressed bytes that came out since the beginning.
    member_starts
        (compressed, produced) of each member whose magic bytes were passed.
    checksums
        Of what came out.

    Parameters
    ----------
    module
        The engine, see `sa1b_hf._engines.resolve_engine`.
    point
        Where to begin.
    shard
        Name for messages.
    so_far
        For a point inside a member: CRC-32 and length of what came before, so that its trailer can be checked.

    """

    def __init__(
        self, module: Any, point: Point, shard: str | None = None, *, so_far: tuple[int | None, int] = (None, 0)
    ) -> None:
        self._module = module
        self._shard = shard
        self._decoder = start_at_stored(module) if point.is_stored else None
        self._held = b""  # beginning of a header or trailer of which the rest is to come
        self._in_trailer = False
        self._any_member = point.is_stored
        self._knows_start = not point.is_stored or so_far[0] is not None
        self.position = point.compressed
        self.produced = 0
        self.member_starts: list[tuple[int, int]] = []
        self.checksums = Checksums()
        self.checksums.crc, self.checksums.length = so_far[0] or 0, so_far[1]

    @property
    def can_copy(self) -> bool:
        """False for an engine whose decoders cannot be copied."""
        return hasattr(self._decoder or self._module.decompressobj(), "copy")

    @property
    def so_far(self) -> tuple[int | None, int]:
        """CRC-32 of the member so far, None if its beginning was not read, and its length."""
        return self.checksums.crc if self._knows_start else None, self.checksums.length

    def copy(self) -> GzipWalk:
        """Give an independent decoder in the same state; its checksums begin anew."""
        twin = object.__new__(GzipWalk)
        twin.__dict__.update(self.__dict__)
        twin._decoder = self._decoder.copy() if self._decoder is not None else None
        twin.member_starts, twin.checksums = [], Checksums()
        twin._knows_start = False
        return twin

    def feed(self, data: Chunk | memoryview) -> Iterator[bytes]:
        """Inflate more of the file; consume the iterator to its end before anything else is asked.

        Raises
        ------
        CompressionError
            As `sa1b_hf.inflate.iter_inflated`; ``"gzip-crc"`` only for members that were read from their beginning.

        """
        begin = self.position
        self.position += len(data)
        rest: Chunk | memoryview = data
        while rest:
            if self._decoder is None:
                rest = self._pass_framing(rest, begin + len(data))
            else:
                rest = yield from self._inflate(rest)

    def leave_checksums(self) -> None:
        """Complete the checksums so far; what comes from now on is counted in new ones."""
        self.checksums.close()
        self.checksums = Checksums()
        self._knows_start = False

    def is_at_stored(self) -> bool:
        """Prove that a stored block's ``LEN`` comes next."""
        return self._decoder is not None and stands_at_stored(self._decoder)

    @property
    def is_at_end(self) -> bool:
        """True behind a whole member, where the file may end."""
        return self._decoder is None and self._any_member and not self._in_trailer and not self._held

    def finish(self) -> None:
        """Check that the file may end here."""
        if not self.is_at_end:
            raise gzip_error("gzip-truncated", self.position, self._shard)

    def _inflate(self, data: Chunk | memoryview) -> Generator[bytes, None, Chunk]:
        decoder: Any = self._decoder
        sums = self.checksums
        while True:
            try:
                out = decoder.decompress(data, MAX_OUTPUT)
            except self._module.error as error:
                raise gzip_error("gzip-data", self.position, self._shard, str(error)) from None
            if out:
                self.produced += len(out)
                sums.crc = self._module.crc32(out, sums.crc)
                sums.length += len(out)
                yield out
            if decoder.eof:
                self._decoder, self._in_trailer = None, True
                rest: bytes = decoder.unused_data
                return rest
            data = decoder.unconsumed_tail
            if not data and len(out) < MAX_OUTPUT:
                return b""

    def _pass_framing(self, data: Chunk | memoryview, end: int) -> Chunk:
        """Pass a trailer, padding and the next header, as far as they are there; give what follows."""
        held = self._held + bytes(data)
        self._held = b""
        if self._in_trailer:
            if len(held) < _TRAILER:
                self._held = held
                return b""
            self._check_trailer(held[:_TRAILER])
            held = held[_TRAILER:]
        held = held.lstrip(b"\0")
        if not held:
            return b""
        size = _header_size(held)
        if size < 0 or (size == 0 and len(held) > _MAX_HEADER):
            reason = "gzip-trailing-data" if self._any_member else "gzip-data"
            raise gzip_error(reason, end - len(held), self._shard)
        if not size:
            self._held = held
            return b""
        self.member_starts.append((end - len(held), self.produced))
        self._decoder = self._module.decompressobj(_RAW)
        self._any_member = self._knows_start = True
        return held[size:]

    def _check_trailer(self, trailer: bytes) -> None:
        self._in_trailer = False
        stored = int.from_bytes(trailer[:4], "little"), int.from_bytes(trailer[4:], "little")
        found = self.checksums.crc, self.checksums.length & 0xFFFFFFFF
        self.checksums.close(stored)
        if self._knows_start and stored != found:
            raise gzip_error("gzip-crc", self.position, self._shard)


def _header_size(data: bytes) -> int:
    """Size of the gzip header that `data` begins with (RFC 1952, 2.3); 0 if more is needed, -1 if it is none."""
    if not data.startswith(GZIP_MAGIC[: len(data)]):
        return -1
    if len(data) < 10:  # noqa: PLR2004 -- the fixed part
        return 0
    flags, at = data[3], 10
    if data[2] != 8 or flags & _RESERVED:  # noqa: PLR2004 -- deflate is the only method
        return -1
    if flags & _EXTRA:
        at += 2 + (data[at] | data[at + 1] << 8) if len(data) >= at + 2 else _MAX_HEADER
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            end = data.find(b"\0", at) + 1
            if not end:
                return 0
            at = end
    at += 2 if flags & _HEADER_CRC else 0
    return at if len(data) >= at else 0


_EXPLANATIONS: Final = {
    "gzip-truncated": "the gzip stream ends before its trailer: the file is incomplete",
    "gzip-data": "the gzip stream is damaged",
    "gzip-crc": "the gzip checksum does not match what was inflated: some bytes of this shard are wrong",
    "gzip-trailing-data": "after the gzip trailer comes something that is not gzip",
    "gzip-joint": "two parts of the shard do not fit together; read this shard without splitting it",
}


def gzip_error(reason: str, position: int, shard: str | None, detail: str = "") -> CompressionError:
    """Make the error for a place in a gzip file."""
    message = f"{_EXPLANATIONS[reason]} (near compressed byte {position:,}{'; ' + detail if detail else ''})"
    if reason != "gzip-joint":
        message += "; compare its MD5 with the catalogue and download it again"
    return CompressionError(message, reason=reason, shard=shard, compressed_offset=position)
