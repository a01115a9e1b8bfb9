"""Threads that each read from one connection, watched by the one that started them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ._halt import Halt, HaltedError, RateLimit
from ._http import HttpReader
from ._resume import refused
from .transport import RawReader

__all__ = ["Connection", "Line", "run_connections"]

_MIN_READ: Final = 16 << 10
_MAX_READ: Final = 1 << 20
_MIN_RATE: Final = 4096.0
_TICK: Final = 0.2
_FAREWELL: Final = 2.0


@dataclass(frozen=True)
class Line:
    """How the bytes of one shard may arrive.

    Attributes
    ----------
    connections
        At most so many at once.
    retries
        How often in a row one of them may be cut for being too slow.
    timeout
        Seconds without progress after which a connection is cut.
    limit
        Bytes per second of all shards together.
    on_bytes
        Called with the number of bytes that arrived, from any thread.

    """

    connections: int
    retries: int
    timeout: float
    limit: RateLimit
    on_bytes: Callable[[int], None]


class Connection:
    """What one thread reads from, and since when it has been waiting for bytes.

    Attributes
    ----------
    reader
        Set by the thread; None while it has none.

    """

    def __init__(self, line: Line, halt: Halt) -> None:
        self.reader: RawReader | None = None
        self._line = line
        self._halt = halt
        self._view = memoryview(bytearray(_MAX_READ))
        self._read_size = _MIN_READ
        self._num_slow = 0
        self._began: float | None = None

    def read(self, at_most: int) -> memoryview:
        """Read about half a second's worth of bytes, and keep the rate.

        Returns
        -------
        memoryview
            Valid until the next call; empty at the end of the source.

        Raises
        ------
        HaltedError
            The work was called off.
        SourceError
            As the reader's, or ``reason="too-slow"``.

        """
        reader = self.reader
        if reader is None:
            raise HaltedError
        view = self._view[: min(at_most, self._read_size)]
        began = self._began = time.monotonic()
        try:
            count = reader.readinto(view)
        finally:
            self._began = None
        rate = count / max(time.monotonic() - began, 1e-6)
        self._read_size = min(max(int(rate / 2), _MIN_READ), _MAX_READ)
        self._num_slow = 0 if rate > _MIN_RATE else self._num_slow
        if self._num_slow > self._line.retries:
            message = f"less than {_MIN_RATE:,.0f} bytes a second, several times in a row; try another mirror"
            raise refused(reader.location, message, "too-slow", offset=reader.tell())
        self._halt.check()
        self._line.on_bytes(count)
        self._line.limit.take(count, self._halt)
        return view[:count]

    def watch(self) -> None:
        """Cut the connection if the read under way has gone on for too long; its reader connects again."""
        began = self._began
        if began is not None and time.monotonic() - began > self._line.timeout + self._read_size / _MIN_RATE:
            self._num_slow += 1
            self._began = time.monotonic()
            self.cut()

    def cut(self) -> None:
        """Break the connection, so that the thread does not wait for it any longer."""
        if isinstance(self.reader, HttpReader):
            self.reader.abort()


def run_connections(num_connections: int, work: Callable[[Connection], None], line: Line, halt: Halt) -> None:
    """Run a function in a thread for each connection, until all of them have returned.

    Parameters
    ----------
    num_connections
        How many.
    work
        Gets its connection. An exception ends the others too.
    line
        See `Line`.
    halt
        Ends the work; is set when this function returns.

    Raises
    ------
    HaltedError
        The work was called off.
    Exception
        The first one of `work`.

    """
    connections = [Connection(line, halt) for _ in range(num_connections)]
    errors: list[BaseException] = []

    def run(connection: Connection) -> None:
        try:
            work(connection)
        except BaseException as error:
            if not halt.is_set():
                errors.append(error)
            halt.set()

    threads = [threading.Thread(target=run, args=(connection,), daemon=True) for connection in connections]
    try:
        for thread in threads:
            thread.start()
        while not halt.is_set() and any(thread.is_alive() for thread in threads):
            _wait_for(threads)
            for connection in connections:
                connection.watch()
        was_halted = halt.is_set()
    finally:
        halt.set()
        _part_with(connections, threads)
    if errors:
        raise errors[0]
    if was_halted:
        raise HaltedError


def _part_with(connections: list[Connection], threads: list[threading.Thread]) -> None:
    for connection in connections:
        connection.cut()
    # A thread that hangs in a foreign file system is left behind: it looks at the switch before it writes.
    for thread in threads:
        if thread.ident is not None:
            thread.join(_FAREWELL)


def _wait_for(threads: list[threading.Thread]) -> None:
    """Return when all threads have ended, or a little later."""
    end = time.monotonic() + _TICK
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
