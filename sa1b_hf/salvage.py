"""Every member of a damaged shard that the damage did not touch, and a list of what was lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ._deflate import resolve_copying_engine
from ._random_bytes import RandomBytes
from ._salvage_inflate import Break, has_points, iter_inflatable
from ._tar_scan import BLOCK, Entry, HeaderScan, parse_entry
from .inflate import GZIP_MAGIC, Piece
from .source import MemoryBlob
from .tar import MAX_MEMBER_BYTES, Member
from .transport import Source

__all__ = ["Loss", "SalvageReport", "iter_salvaged_members"]

_ZEROS: Final = bytes(BLOCK)
_ENDINGS: Final = {"jpg": b"\xff\xd9", "json": b"}"}


@dataclass(frozen=True)
class Loss:
    """Something that could not be read, or not be trusted.

    Attributes
    ----------
    start, stop
        Where, as offsets in the file: compressed ones if it is compressed. Accurate to some 64 KiB.
    reason
        The inflate error's short word, or ``"header-checksum"``, ``"misplaced-end"`` (a member does not end as its
        header says), ``"truncated"``, ``"missing-end"``. ``"gzip-crc"`` means that something before `stop` is wrong
        that no other check noticed.
    name
        The member that was being read, if its header could be.

    """

    start: int
    stop: int
    reason: str
    name: str | None = None


@dataclass
class SalvageReport:
    """What was lost.

    Attributes
    ----------
    lost
        In the order of the file. A file without damage has none.
    delivered
        Members given out.

    """

    lost: list[Loss] = field(default_factory=list)
    delivered: int = 0


def iter_salvaged_members(
    source: Source,
    report: SalvageReport | None = None,
    *,
    engine: str = "auto",
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[Member]:
    """Read a shard around whatever damage it has.

    Parameters
    ----------
    source, engine, storage_options
        As for `sa1b_hf.source.open_shard`.
    report
        Losses are added to it.

    Yields
    ------
    Member
        Each member once, its bytes held in memory. One is only given if it ends where its header says: another header
        follows, or a JPEG's or document's proper end. Wrong bytes within one that change no length are noticed by its
        own checks, or only by the checksum of the whole, see `Loss`.

    Raises
    ------
    SourceError
        The bytes cannot be had.

    """
    report = SalvageReport() if report is None else report
    seen: set[str] = set()
    with RandomBytes(source, storage_options) as data:
        finder = _MemberFinder(report)
        for piece in _pieces(data, engine):
            found = finder.interrupt(piece) if isinstance(piece, Break) else finder.feed(piece)
            for member in found:
                if member.name not in seen:
                    seen.add(member.name)
                    report.delivered += 1
                    yield member
        for member in finder.finish(data.size):
            if member.name not in seen:
                report.delivered += 1
                yield member


def _pieces(data: RandomBytes, engine: str) -> Iterator[Piece | Break]:
    head, module = data.read(0, BLOCK), resolve_copying_engine(engine)
    if head.startswith(GZIP_MAGIC) or (parse_entry(head) is None and has_points(data, module)):
        yield from iter_inflatable(data, module)
        return
    at = 0
    for chunk in data.iter_chunks(0):
        at += len(chunk)
        yield Piece(chunk, at)


class _Held:
    """The bytes of a member, in the place of the cursor that they would be read from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int) -> bytes:
        return self._data[:size]

    def take(self, size: int) -> MemoryBlob:
        return MemoryBlob([memoryview(self._data)[:size]], size)


class _MemberFinder:
    """Finds members in bytes of which some are missing."""

    def __init__(self, report: SalvageReport) -> None:
        self._report = report
        self._buffer = bytearray()
        self._position = 0  # uncompressed offset of the buffer, the missing bytes not counted
        self._place = self._place_before = 0
        self._aligned = True  # the buffer begins where a header should be
        self._doubtful: tuple[Member, int, int] | None = None  # with its position's end, and its place
        self._lost_since: int | None = None
        self._ended = False

    def feed(self, piece: Piece) -> Iterator[Member]:
        """Add bytes; give the members that are complete."""
        self._place_before, self._place = self._place, piece.compressed
        self._buffer += piece.data
        while True:
            if not self._aligned:
                if not self._align():
                    return
                yield from self._settle(self._is_in_step())
            if len(self._buffer) < BLOCK:
                return
            entry = parse_entry(self._buffer[:BLOCK])
            if entry is None or entry.size > MAX_MEMBER_BYTES:
                yield from self._meet_bad_header()
                continue
            if self._doubtful:
                yield from self._settle(is_good=True)
            if len(self._buffer) < entry.span:
                return
            yield from self._complete(entry)

    def interrupt(self, gap: Break) -> Iterator[Member]:
        """Note that bytes are missing here."""
        if gap.reason == "gzip-crc":
            self._lose(0, gap.stop, gap.reason)
            return
        yield from self._settle(is_good=False)
        self._lose(gap.start, gap.stop, gap.reason, self._current_name())
        self._start_anew()

    def finish(self, size: int) -> Iterator[Member]:
        """Take the end of the file into account."""
        yield from self._settle(is_good=False)
        if self._aligned and self._buffer:
            self._lose(self._place_before, size, "truncated", self._current_name())
        elif not self._ended and not self._report.lost:
            self._lose(size, size, "missing-end")
        elif self._lost_since is not None and not self._ended:
            self._lose(self._lost_since, size, "header-checksum")

    def _start_anew(self) -> None:
        self._position += len(self._buffer)
        self._buffer.clear()
        self._aligned = False
        self._lost_since = None
        self._doubtful = None

    def _align(self) -> bool:
        """Drop bytes up to the next header; False if there is none yet."""
        scan = HeaderScan()
        scan.feed(self._buffer)
        first = scan.first()
        drop = max(0, len(self._buffer) - BLOCK + 1) if first is None else first
        del self._buffer[:drop]
        self._position += drop
        if first is None:
            return False
        self._aligned = True
        if self._lost_since is not None:
            self._lose(self._lost_since, self._place, "header-checksum")
            self._lost_since = None
        return True

    def _meet_bad_header(self) -> Iterator[Member]:
        if self._buffer[:BLOCK] == _ZEROS:
            self._ended = True  # unless another header follows: then it is a hole
            yield from self._settle(is_good=True)
        self._lost_since = self._place_before
        self._aligned = False
        del self._buffer[:1]
        self._position += 1

    def _is_in_step(self) -> bool:
        """Tell, after a bad header, whether the next good one is a whole number of blocks behind it."""
        return self._doubtful is None or (self._position - self._doubtful[1]) % BLOCK == 0

    def _settle(self, is_good: bool) -> Iterator[Member]:
        if self._doubtful is None:
            return
        member, _, place = self._doubtful
        self._doubtful = None
        if is_good:
            yield member
        else:
            self._lose(place, self._place, "misplaced-end", member.name)

    def _complete(self, entry: Entry) -> Iterator[Member]:
        data = bytes(self._buffer[BLOCK : BLOCK + entry.size])
        padding = bytes(self._buffer[BLOCK + entry.size : entry.span])
        offset = self._position
        del self._buffer[: entry.span]
        self._position += entry.span
        self._ended = False
        name = entry.parse_name()
        if name is None:
            return
        member = Member(name[0], name[1], name[2], entry.size, offset, _Held(data))  # type: ignore[arg-type]
        if data.endswith(_ENDINGS[member.kind]) and not padding.strip(b"\0"):
            yield member
        else:
            self._doubtful = (member, self._position, self._place_before)

    def _current_name(self) -> str | None:
        entry = parse_entry(self._buffer[:BLOCK]) if self._aligned else None
        name = entry.parse_name() if entry else None
        return name[0] if name else None

    def _lose(self, start: int, stop: int, reason: str, name: str | None = None) -> None:
        self._report.lost.append(Loss(start, max(start, stop), reason, name))
