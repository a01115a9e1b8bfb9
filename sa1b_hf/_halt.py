"""Stopping threads that wait, and holding them to a rate."""

from __future__ import annotations

import threading
import time

__all__ = ["Halt", "HaltedError", "RateLimit"]

_STEP = 0.1


class HaltedError(Exception):
    """The work was called off; whoever did so knows why."""


class Halt:
    """A switch that ends the work of many threads.

    Parameters
    ----------
    parent
        A wider switch: when it is set, so is this one.

    """

    def __init__(self, parent: Halt | None = None) -> None:
        self._event = threading.Event()
        self._parent = parent

    def set(self) -> None:
        """Call the work off."""
        self._event.set()

    def is_set(self) -> bool:
        """Tell whether the work was called off."""
        return self._event.is_set() or (self._parent is not None and self._parent.is_set())

    def check(self) -> None:
        """Raise `HaltedError` if the work was called off."""
        if self.is_set():
            raise HaltedError

    def sleep(self, seconds: float) -> None:
        """Wait, or raise `HaltedError` as soon as the work is called off."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            self._event.wait(min(left, _STEP))
        self.check()


class RateLimit:
    """Bytes per second that all connections together may take.

    Parameters
    ----------
    max_rate
        Bytes per second, None for no limit.
    num_shares
        Into how many equal shares it may be divided.

    Attributes
    ----------
    share
        The rate of each share, for what limits itself; None for no limit.

    """

    def __init__(self, max_rate: float | None, *, num_shares: int = 1) -> None:
        self.share = None if max_rate is None else max_rate / num_shares
        self._max_rate = max_rate
        self._lock = threading.Lock()
        self._due = time.monotonic()

    def take(self, count: int, halt: Halt) -> None:
        """Account for bytes that arrived, and wait until the rate is kept again."""
        if self._max_rate is None:
            return
        with self._lock:
            # Time that nobody used is not saved up, or a pause would be followed by a burst.
            self._due = max(self._due, time.monotonic()) + count / self._max_rate
            delay = self._due - time.monotonic()
        halt.sleep(delay)
