"""Damage to the tar stream in the middle of a shard, before it is compressed."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from functools import partial

from .fault_types import FaultSpec
from .layout import BLOCK, Part, make_header

__all__ = ["TAR_FAULTS"]

_Parts = list[Part]
_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)
_HOLE = 64 * 1024
_HUGE_HEADER = 10 * 1024 * 1024
_BOMB = 1 << 30
_NEW_NAME = "sa_999999999.jpg"


def _raw(*chunks: bytes) -> Part:
    return Part(lambda: chunks)


def _cut(keep: Callable[[bytes, bytes, bytes], bytes], parts: _Parts, at: int) -> _Parts:
    """End the stream within the victim."""
    return [*parts[:at], Part(lambda: (keep(*parts[at].chunks()),))]


def _in_header(header: bytes, _data: bytes, _padding: bytes) -> bytes:
    return header[: -BLOCK // 2]


def _in_data(header: bytes, data: bytes, _padding: bytes) -> bytes:
    return header + data[: len(data) // 2]


def _in_padding(header: bytes, data: bytes, padding: bytes) -> bytes:
    return header + data + padding[: len(padding) // 2]


def _alter(change: Callable[[bytearray], None], parts: _Parts, at: int) -> _Parts:
    """Change the victim's header block; its data and all behind it stay."""

    def chunks() -> Iterator[bytes]:
        header, *rest = parts[at].chunks()
        block = bytearray(header[-BLOCK:])  # a pax header may come before it
        change(block)
        yield from (header[:-BLOCK], bytes(block), *rest)

    return [*parts[:at], Part(chunks), *parts[at + 1 :]]


def _flip_bit(block: bytearray) -> None:
    block[_SIZE.start + 9] ^= 1


def _spoil_checksum(block: bytearray) -> None:
    block[_CHECKSUM] = b"garbage!"


def _huge_size(block: bytearray) -> None:
    block[_SIZE] = b"\x80" + (8 << 30).to_bytes(11, "big")
    _seal(block)


def _negative_size(block: bytearray) -> None:
    block[_SIZE] = (-BLOCK).to_bytes(12, "big", signed=True)
    _seal(block)


def _seal(block: bytearray) -> None:
    """Write the right checksum: the sum of the bytes, with the field itself as spaces."""
    block[_CHECKSUM] = b" " * 8
    block[_CHECKSUM] = b"%06o\0 " % sum(block)


def _insert(make: Callable[[], tuple[bytes, ...]], parts: _Parts, at: int) -> _Parts:
    return [*parts[:at], Part(make), *parts[at:]]


def _zero_block() -> tuple[bytes, ...]:
    return (bytes(BLOCK),)


def _sparse() -> tuple[bytes, ...]:
    block = bytearray(make_header(_NEW_NAME, BLOCK, "gnu", kind=tarfile.GNUTYPE_SPARSE))
    block[386:410] = b"%011o\0%011o\0" % (4 * BLOCK, BLOCK)  # one stretch of data behind a hole
    block[483:495] = b"%011o\0" % (5 * BLOCK)
    _seal(block)
    return bytes(block), b"x" * BLOCK


def _pax_header(record: bytes) -> tuple[bytes, ...]:
    header = make_header("PaxHeaders/sa", len(record), kind=tarfile.XHDTYPE)
    return header, record, bytes(-len(record) % BLOCK)


def _pax_size() -> tuple[bytes, ...]:
    return *_pax_header(b"25 size=1000000000000000\n"), make_header(_NEW_NAME, 0)


def _huge_pax() -> tuple[bytes, ...]:
    comment = b" comment="
    length = str(_HUGE_HEADER).encode()
    return _pax_header(length + comment + b"a" * (_HUGE_HEADER - len(length) - len(comment) - 1) + b"\n")


def _huge_name() -> tuple[bytes, ...]:
    header = make_header("././@LongLink", _HUGE_HEADER, "gnu", kind=tarfile.GNUTYPE_LONGNAME)
    return header, b"a" * (_HUGE_HEADER - 1) + b"\0"


def _bomb(parts: _Parts, at: int) -> _Parts:
    def chunks() -> Iterator[bytes]:
        zeros = bytes(1 << 20)
        yield make_header(_NEW_NAME.replace("jpg", "json"), _BOMB)
        for _ in range(_BOMB // len(zeros)):
            yield zeros

    return [*parts[:at], Part(chunks), *parts[at:]]


def _hole(parts: _Parts, at: int) -> _Parts:
    """Overwrite the stream with zeros from the victim's header on; data follows, also in a small shard."""

    def chunks() -> Iterator[bytes]:
        ahead, rest = bytearray(), _stream(parts[at:-1])
        for chunk in rest:
            ahead += chunk
            if len(ahead) >= 2 * _HOLE:
                break
        hole = min(_HOLE, len(ahead) // 2 // BLOCK * BLOCK)
        ahead[:hole] = bytes(hole)
        yield bytes(ahead)
        yield from rest

    return [*parts[:at], Part(chunks), parts[-1]]


def _stream(parts: _Parts) -> Iterator[bytes]:
    return (chunk for part in parts for chunk in part.chunks())


def _no_end(parts: _Parts, at: int) -> _Parts:
    return parts[:at]


def _garbage(parts: _Parts, at: int) -> _Parts:
    return [*parts[: at + 1], _raw(bytes(range(1, 256)) * 40)]


def _spec(name: str, reason: str, description: str, apply: Callable[..., _Parts], victim: str = "member") -> FaultSpec:
    return FaultSpec(name, "tar", (reason,), description, apply, victim=victim)  # type: ignore[arg-type]


TAR_FAULTS = (
    _spec("truncated_header", "truncated", "ends within a header", partial(_cut, _in_header)),
    _spec("truncated_jpg", "truncated", "ends within a JPEG", partial(_cut, _in_data), "jpg"),
    _spec("truncated_json", "truncated", "ends within a JSON file", partial(_cut, _in_data), "json"),
    _spec("truncated_padding", "truncated", "ends within the padding", partial(_cut, _in_padding), "padded"),
    _spec("flipped_header_bit", "header-checksum", "a bit of a size field flipped", partial(_alter, _flip_bit)),
    _spec("bad_header_checksum", "header-checksum", "a checksum of letters", partial(_alter, _spoil_checksum)),
    _spec("lone_zero_block", "lone-zero-block", "one zero block between members", partial(_insert, _zero_block)),
    _spec("hole_of_zeros", "data-after-end", "up to 64 KiB of zeros over members", _hole),
    _spec("missing_end", "missing-end", "no zero blocks at the end", _no_end, "end"),
    _spec("gnu_sparse", "unsupported-member", "a GNU sparse member", partial(_insert, _sparse)),
    _spec("pax_size_override", "unsupported-member", "a pax header with a size of 10**15", partial(_insert, _pax_size)),
    _spec("huge_size", "member-too-large", "a size of 8 GiB in base 256", partial(_alter, _huge_size)),
    _spec("negative_size", "header-number", "a size of -512", partial(_alter, _negative_size)),
    _spec("huge_long_name", "unsupported-member", "a GNU long name of 10 MiB", partial(_insert, _huge_name)),
    _spec("pax_header_huge", "unsupported-member", "a pax header of 10 MiB", partial(_insert, _huge_pax)),
    FaultSpec("gzip_bomb", "tar", ("member-too-large",), "1 GiB of zeros as a JSON file", _bomb, needs_gzip=True),
    _spec("trailing_garbage", "data-after-end", "bytes behind the end blocks", _garbage, "end"),
)
"""Every fault of the tar stream."""
