"""The pieces of a file that is being filled: who fetches which, and what of them is really on the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from io import FileIO
from pathlib import Path
from typing import Final

from ._crc import crc32
from ._disk import disk_problem
from ._halt import Halt
from ._journal import Key

__all__ = ["Claim", "Claims", "check_pieces", "open_part", "write_at"]

_BUFFER: Final = 1 << 20


class Claim:
    """A run of pieces that one connection fetches in order; `next` is the piece under way."""

    __slots__ = ("end", "next")

    def __init__(self, first: int, end: int) -> None:
        self.next = first
        self.end = end


class Claims:
    """Shares the missing pieces out among connections.

    Each connection gets one long run, so that it makes one request and keeps its speed; whoever is done takes over half
    of what the slowest one has still before it.

    Parameters
    ----------
    num_pieces
        Of the file.
    done
        Pieces that are there.
    num_workers
        Connections.

    """

    def __init__(self, num_pieces: int, done: Collection[int], num_workers: int) -> None:
        self._lock = threading.Lock()
        self._open = _split(_gaps(num_pieces, done), num_workers)
        self._taken: list[Claim] = []

    def take(self) -> Claim | None:
        """Give a run of pieces to fetch; None if there is nothing left to begin with."""
        with self._lock:
            claim = self._open.pop() if self._open else self._take_over()
            if claim is not None:
                self._taken.append(claim)
            return claim

    def finish_piece(self, claim: Claim) -> bool:
        """Note that the piece under way is complete; True if another one of the claim is to follow."""
        with self._lock:
            claim.next += 1
            if claim.next < claim.end:
                return True
            self._taken.remove(claim)
            return False

    def give_back(self, claim: Claim) -> None:
        """Leave the rest of a claim, the piece under way included, to others."""
        with self._lock:
            self._taken.remove(claim)
            self._open.append(claim)

    def _take_over(self) -> Claim | None:
        slowest = max(self._taken, key=lambda claim: claim.end - claim.next, default=None)
        left = slowest.end - slowest.next - 1 if slowest else 0
        if slowest is None or left < 1:
            return None
        end, slowest.end = slowest.end, slowest.end - (left + 1) // 2
        return Claim(slowest.end, end)


def _gaps(num_pieces: int, done: Collection[int]) -> list[Claim]:
    gaps: list[Claim] = []
    for index in range(num_pieces):
        if index in done:
            continue
        if gaps and gaps[-1].end == index:
            gaps[-1].end += 1
        else:
            gaps.append(Claim(index, index + 1))
    return gaps


def _split(gaps: list[Claim], num_workers: int) -> list[Claim]:
    """Halve the longest gaps until there is one for each worker."""
    while gaps and len(gaps) < num_workers:
        longest = max(gaps, key=lambda gap: gap.end - gap.next)
        middle = (longest.next + longest.end + 1) // 2
        if middle >= longest.end:
            break
        gaps.append(Claim(middle, longest.end))
        longest.end = middle
    return sorted(gaps, key=lambda gap: -gap.next)


def open_part(path: Path, *, size: int | None = None) -> FileIO:
    """Open a part file for reading and writing, creating it if need be.

    Parameters
    ----------
    path
        Of the part file.
    size
        Bytes that it is to have; what is missing becomes a hole. None leaves it as it is.

    Raises
    ------
    SourceError
        See `sa1b_hf._disk.disk_problem`.

    """
    try:
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644), "r+")
        if size is not None and os.fstat(file.fileno()).st_size != size:
            file.truncate(size)
    except OSError as error:
        raise disk_problem(error, path) from None
    return file


def write_at(file: FileIO, path: Path, offset: int, data: memoryview) -> None:
    """Write all bytes at an offset; raises what `sa1b_hf._disk.disk_problem` gives."""
    try:
        file.seek(offset)
        while data:
            data = data[file.write(data) :]
    except OSError as error:
        raise disk_problem(error, path) from None


def check_pieces(path: Path, key: Key, pieces: Mapping[int, int], halt: Halt) -> dict[int, int]:
    """Read recorded pieces back and keep those whose bytes are really there.

    A journal can outlive the bytes it speaks of: after a power loss blocks may be zeros, and disks err.

    Parameters
    ----------
    path
        Of the part file.
    key
        See `sa1b_hf._journal.Key`.
    pieces
        Recorded CRC32 by piece.
    halt
        Ends the reading.

    Returns
    -------
    dict
        CRC32 by piece.

    """
    good: dict[int, int] = {}
    try:
        with FileIO(path) as file:
            for index, crc in sorted(pieces.items()):
                halt.check()
                if _read_crc(file, *key.span(index)) == crc:
                    good[index] = crc
    except OSError:
        # What cannot be read is fetched again.
        pass
    return good


def _read_crc(file: FileIO, start: int, end: int) -> int | None:
    buffer = memoryview(bytearray(min(_BUFFER, end - start)))
    file.seek(start)
    crc = 0
    while start < end:
        if not (count := file.readinto(buffer[: end - start])):
            return None
        crc = crc32(buffer[:count], crc)
        start += count
    return crc
