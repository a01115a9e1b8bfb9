"""Fill a part file over several connections, piece by piece, each recorded in the journal as it is complete."""

from __future__ import annotations

import logging
import os
import re
import threading
from io import FileIO
from pathlib import Path
from typing import Final

from ._connections import Connection, Line, run_connections
from ._crc import crc32
from ._disk import check_space, disk_problem
from ._halt import Halt
from ._journal import Journal, Key
from ._pieces import Claim, Claims, open_part, write_at
from ._remote import Found, Remote
from ._resume import changed, refused
from .errors import SourceError

__all__ = ["Fetch", "fetch_unsized", "spot_check"]

_LOG = logging.getLogger("sa1b_hf.download")
_SYNC_EVERY: Final = 256 << 20
_NUM_SAMPLES: Final = 16
_SAMPLE: Final = 4096
# What one connection may give up for while the others go on.
_PASSING: Final = re.compile(r"http-(5\d\d|408|425|429)|timeout|connection-lost|truncated-source|too-slow")


class Fetch:
    """Fetches what is missing of one file.

    Parameters
    ----------
    remote, found
        Where from, and what it was found to be.
    part
        Path of the part file.
    journal
        Where complete pieces are recorded.
    done
        Pieces that are there; grows.
    line
        How the bytes may arrive.
    halt
        Ends the work; what was complete stays.

    """

    def __init__(
        self, remote: Remote, found: Found, part: Path, journal: Journal, done: set[int], *, line: Line, halt: Halt
    ) -> None:
        self._remote = remote
        self._found = found
        self._part = part
        self._key = journal.key
        self._journal = journal
        self._done = done
        self._line = line
        self._halt = halt
        self._active = line.connections if found.takes_ranges else 1
        # A server without ranges sends all bytes before the wanted one again: only what follows the first gap counts.
        reachable = done if found.takes_ranges else _prefix(done)
        self._claims = Claims(self._key.num_pieces, reachable, self._active)
        self._lock = threading.Lock()
        self._unsynced = 0
        self._gave_up: SourceError | None = None

    def run(self) -> None:
        """Fetch all missing pieces.

        Raises
        ------
        SourceChangedError
            The file changed; its pieces do not belong together.
        SourceError
            The file cannot be had, or not be written. What was complete is recorded.
        HaltedError
            It was called off.

        """
        run_connections(self._active, self._work, self._line, self._halt)
        if self._gave_up is not None and len(self._done) < self._key.num_pieces:
            raise self._gave_up

    def _work(self, connection: Connection) -> None:
        with open_part(self._part) as file:
            while (claim := self._claims.take()) is not None:
                try:
                    self._fetch(connection, file, claim)
                except SourceError as error:
                    self._claims.give_back(claim)
                    if not self._is_dispensable(error):
                        raise
                    _LOG.warning("%s; the other connections go on", error)
                    return
            self._sync(file)
            with self._lock:
                self._active -= 1

    def _is_dispensable(self, error: SourceError) -> bool:
        """Tell whether a connection can be given up because others are at work."""
        with self._lock:
            self._active -= 1
            self._gave_up = error
            return self._active > 0 and _PASSING.fullmatch(error.reason) is not None

    def _fetch(self, connection: Connection, file: FileIO, claim: Claim) -> None:
        """Fetch the pieces of a claim through one reader."""
        start, _ = self._key.span(claim.next)
        _, stop = self._key.span(claim.end - 1)
        with self._remote.open(start, stop, self._found) as connection.reader:
            more = True
            while more:
                self._fetch_piece(connection, file, claim.next)
                more = self._claims.finish_piece(claim)

    def _fetch_piece(self, connection: Connection, file: FileIO, index: int) -> None:
        at, end = self._key.span(index)
        crc = 0
        while at < end:
            data = connection.read(end - at)
            if not data:
                raise refused(self._remote.location, f"the source ended at byte {at}", "truncated-source", offset=at)
            crc = crc32(data, crc)
            write_at(file, self._part, at, data)
            at += len(data)
        self._journal.add(index, crc)
        self._count(file, index)

    def _count(self, file: FileIO, index: int) -> None:
        start, end = self._key.span(index)
        with self._lock:
            self._done.add(index)
            self._unsynced += end - start
            is_due = self._unsynced >= _SYNC_EVERY
            if is_due:
                self._unsynced = 0
            missing = self._key.size - len(self._done) * self._key.piece
        if is_due:
            self._sync(file)
            check_space(self._part.parent, min(missing, _SYNC_EVERY), shard=self._key.name)

    def _sync(self, file: FileIO) -> None:
        """Make bytes durable before the records that speak of them."""
        try:
            os.fsync(file.fileno())
            self._journal.sync()
        except OSError as error:
            raise disk_problem(error, self._part, self._key.name) from None


def spot_check(remote: Remote, found: Found, part: Path, key: Key) -> None:
    """Compare samples of a complete part file with the source, where nothing else tells that it did not change.

    Raises
    ------
    SourceChangedError
        They differ.
    SourceError
        They cannot be had.

    """
    step = max(key.num_pieces // _NUM_SAMPLES, 1)
    with part.open("rb") as file:
        for index in range(0, key.num_pieces, step):
            start, end = key.span(index)
            end = min(end, start + _SAMPLE)
            file.seek(start)
            wanted = file.read(end - start)
            with remote.open(start, end, found) as reader:
                sample = bytearray(end - start)
                at = 0
                while at < len(sample) and (count := reader.readinto(memoryview(sample)[at:])):
                    at += count
            if sample != wanted:
                raise changed(remote.location, f"the bytes from {start} on are others than before", offset=start)


def fetch_unsized(remote: Remote, found: Found, part: Path, *, line: Line, halt: Halt) -> None:
    """Fetch a file whose size the source does not tell: over one connection, from its beginning.

    Nothing but its content can tell whether it is whole.

    Raises
    ------
    SourceError, SourceChangedError, HaltedError
        As `Fetch.run`.

    """

    def work(connection: Connection) -> None:
        at = 0
        with open_part(part, size=0) as file, remote.open(0, 0, found._replace(takes_ranges=False)) as reader:
            connection.reader = reader
            while data := connection.read(_SYNC_EVERY):
                if at // _SYNC_EVERY != (at + len(data)) // _SYNC_EVERY:
                    check_space(part.parent, _SYNC_EVERY)
                write_at(file, part, at, data)
                at += len(data)

    run_connections(1, work, line, halt)


def _prefix(done: set[int]) -> set[int]:
    """Give the pieces from the first on without a gap."""
    length = next(index for index in range(len(done) + 1) if index not in done)
    return set(range(length))
