"""Reading on where a connection broke off: what servers and buckets have in common, and how a source is named."""

from __future__ import annotations

import logging
import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from .errors import SA1BError, SourceChangedError, SourceError

__all__ = ["DropError", "ResumingReader", "changed", "describe", "masked", "refused", "status_problem"]

_LOG = logging.getLogger("sa1b_hf.transport")
_BACKOFF = 0.5
_MAX_BACKOFF = 30.0
_MAX_PIECE = 1 << 20
_MIN_PIECE = 4 << 10
_TRANSIENT = frozenset({408, 425, 429})
_ADVICE = {
    401: "log in, or pass a token that may read it",
    403: "the link may have expired: get a fresh links file, or check that you were granted access",
    404: "check the address, or get a fresh links file",
    410: "it was withdrawn: get a fresh links file, or use another mirror",
}


class DropError(Exception):
    """An attempt failed in a way that may pass.

    Attributes
    ----------
    reason
        Slug of the error that is raised when no attempt is left.
    wait
        Seconds that the server asked for, 0 when it did not.
    """

    def __init__(self, reason: str, text: str, *, wait: float = 0.0) -> None:
        self.reason = reason
        self.wait = wait
        super().__init__(text)


def masked(url: str) -> str:
    """Strip the user information, query and fragment, the places of secrets, from a URL or a chain of URLs."""
    return re.sub(r"[?#].*", "", re.sub(r"(?<=://)[^/?#]*@", "", url), flags=re.DOTALL)


def describe(error: BaseException) -> str:
    """Name an error without its text, which may quote a signed URL."""
    strerror = getattr(error, "strerror", None) if type(error).__module__ in {"builtins", "socket", "ssl"} else None
    return f"{type(error).__name__} ({strerror})" if strerror else type(error).__name__


def refused(location: str, message: str, reason: str, **where: Any) -> SourceError:
    """Make the error for a source that cannot be read."""
    return SourceError(f"{location}: {message}", reason=reason, shard=_shard(location), **where)


def changed(location: str, message: str, **where: Any) -> SourceChangedError:
    """Make the error for a source that is not the one that reading began with."""
    advice = "the bytes before and after do not belong together: start this shard again"
    return SourceChangedError(
        f"{location}: {message}; {advice}", reason="source-changed", shard=_shard(location), **where
    )


def status_problem(location: str, status: int, position: int, *, wait: float = 0.0) -> Exception:
    """Sort an HTTP status: a `DropError` when it may pass, the error to raise otherwise."""
    if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return DropError(f"http-{status}", f"the server answered {status}", wait=wait)
    advice = _ADVICE.get(status, "open the address in a browser to see what it says")
    message = f"the server answered {status} at byte {position}; {advice}"
    return refused(location, message, f"http-{status}", offset=position)


def _shard(location: str) -> str | None:
    match = re.search(r"sa_\d{6}(?=\.|$)", location)
    return match[0] if match else None


class ResumingReader(ABC):
    """Sequential bytes of a source whose connection may break.

    A subclass connects at `tell()`, reads, and sorts its errors; this class repeats it until bytes arrive.

    Parameters
    ----------
    location
        Masked name of the source, for messages.
    offset
        Byte at which to begin.
    retries
        How many attempts in a row may fail without a single byte gained.
    sleep
        Waits between attempts; may raise, which ends them.

    Attributes
    ----------
    location
        The same.
    size
        Total bytes of the source, None as long as nobody told.
    """

    def __init__(
        self, location: str, *, offset: int, retries: int, sleep: Callable[[float], None] | None = None
    ) -> None:
        self.location = location
        self._sleep = sleep
        self.size: int | None = None
        self._position = offset
        self._retries = retries
        self._failures = 0
        self._piece = self._max_piece = _MAX_PIECE
        self._connected = False
        self._closed = False

    @property
    @abstractmethod
    def identity(self) -> Any:
        """What tells this file from others of the same name."""

    @abstractmethod
    def _connect(self) -> None:
        """Reach the byte at `tell()`; set `size`; refuse a source that changed."""

    @abstractmethod
    def _fill(self, view: memoryview) -> int:
        """Read once; 0 when the body ends, at the end of the source or before it."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Release the connection, whatever its state."""

    @abstractmethod
    def _sort(self, error: Exception) -> Exception:
        """Give a `DropError` for what may pass, and the error to raise for the rest."""

    def readinto(self, buffer: memoryview | bytearray, /) -> int:
        """Read up to ``len(buffer)`` bytes; fewer is no sign of the end, only 0 is."""
        if self._closed:
            raise ValueError("read of a closed source")
        view = memoryview(buffer).cast("B")
        if not view or self._position == self.size:
            return 0
        count = self._persist(lambda: self._read(view))
        self._position += count
        if not count:
            self.size = self._position
        return count

    def tell(self) -> int:
        """Give the offset of the next byte."""
        return self._position

    def close(self) -> None:
        """Release the connection; closing twice is allowed."""
        self._closed = True
        self._hang_up()

    def __enter__(self) -> ResumingReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location} at {self._position} of {self.size}>"

    def _read(self, view: memoryview) -> int:
        if self.size is not None:
            view = view[: self.size - self._position]
        count = self._fill(view[: self._piece]) if view else 0
        if not count and self.size not in {None, self._position}:
            raise DropError("truncated-source", f"the body ended before the promised {self.size} bytes")
        return count

    def _persist(self, step: Callable[[], int]) -> int:
        while True:
            try:
                if not self._connected:
                    self._connect()
                    self._connected = True
                count = step()
            except Exception as error:
                problem = error if isinstance(error, (SA1BError, DropError)) else self._sort(error)
            except BaseException:
                # Bytes of the interrupted read are lost: whoever reads on must begin with a fresh connection.
                self._hang_up()
                raise
            else:
                if count:
                    self._failures = 0
                    self._piece = min(self._max_piece, self._piece * 2)
                return count
            # Outside the handler: the foreign error, which may quote a signed URL, must not be chained; nor may frames
            # further in be kept, which have it in their locals.
            self._hang_up()
            if not isinstance(problem, DropError):
                raise problem.with_traceback(None)
            self._pause(problem)

    def _pause(self, problem: DropError) -> None:
        self._failures += 1
        # A read that fails half-way forgets what it got, so shorter reads are what makes progress on a bad line.
        self._piece = max(_MIN_PIECE, self._piece // 4)
        if self._failures > self._retries:
            gave_up = f"gave up at byte {self._position} after {self._failures} attempts without progress: {problem}"
            advice = "check the connection and run again, or raise `retries` and `timeout`"
            raise refused(self.location, f"{gave_up}; {advice}", problem.reason, offset=self._position)
        backoff = min(_MAX_BACKOFF, _BACKOFF * 2 ** (self._failures - 1)) * random.uniform(0.5, 1.0)
        delay = max(backoff, problem.wait)
        _LOG.warning(
            "%s: %s at byte %d; attempt %d of %d in %.1f s",
            self.location, problem, self._position, self._failures, self._retries, delay,
        )  # fmt: skip
        (self._sleep or time.sleep)(delay)

    def _hang_up(self) -> None:
        self._connected = False
        self._disconnect()
