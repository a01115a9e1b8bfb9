"""Trouble with the Hub: what passes by waiting, what does not and how to say so, and no signature in any log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from ._urls import mask_url
from .errors import SA1BError, SourceError

__all__ = ["masked_logs", "persist"]

T = TypeVar("T")

_log = logging.getLogger("sa1b_hf")

RETRIES: Final = 8
_BACKOFF = 1.0
_MAX_WAIT: Final = 120.0
# 409: another commit is under way; 412: another one came first, and the next attempt begins from it.
_PASSING: Final = frozenset({408, 409, 412, 425, 429, 500, 502, 503, 504})
# What `huggingface_hub` speaks HTTP with, by its version.
_CLIENTS: Final = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"})
_NEVER_PASSING: Final = ("InvalidURL", "UnsupportedProtocol", "MissingSchema", "InvalidSchema")
_ADVICE: Final = {
    401: "log in with `hf auth login`, or set HF_TOKEN to a token that may write",
    403: "use a token that may write to this repository; see `hf auth whoami`",
    404: "check its name; a private repository looks like this to those who may not see it",
    413: "make the parts smaller",
}


def persist(action: Callable[[], T], doing: str, repo: str) -> T:
    """Do something with the Hub, again and again while waiting may help.

    Parameters
    ----------
    action
        Safe to repeat.
    doing
        What it is, for messages.
    repo
        Name of the repository.

    Raises
    ------
    SourceError
        It cannot be done, or not in `RETRIES` further attempts; ``reason`` is ``"hub-403"``, ``"hub-connection"`` …

    """
    attempt = 0
    while True:
        try:
            return action()
        except SA1BError:
            raise
        except Exception as error:
            status, wait = _status(error), min(_BACKOFF * 2**attempt, _MAX_WAIT)
            if attempt >= RETRIES or not _is_passing(error, status):
                raise _problem(error, status, doing, repo) from None
            wait = max(wait, _retry_after(error))
            _log.info("%s: %s: %s; next attempt in %.0f s", repo, doing, _summary(error, status), wait)
            time.sleep(wait)
        attempt += 1


@contextmanager
def masked_logs() -> Iterator[None]:
    """Mask URLs in what `huggingface_hub` and its HTTP client log: those that it uploads to are signed."""
    make = logging.getLogRecordFactory()

    def masked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if record.name.partition(".")[0] in _CLIENTS | {"huggingface_hub"}:
            record.msg, record.args = mask_url(record.getMessage()), ()
        return record

    logging.setLogRecordFactory(masked)
    try:
        yield
    finally:
        logging.setLogRecordFactory(make)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Follow an error to what it was raised from: uploads wrap theirs."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _response(error: BaseException) -> Any:
    responses = (getattr(found, "response", None) for found in _causes(error))
    return next((response for response in responses if response is not None), None)


def _status(error: BaseException) -> int | None:
    return getattr(_response(error), "status_code", None)


def _is_passing(error: BaseException, status: int | None) -> bool:
    if status is not None:
        return status in _PASSING
    return any(
        isinstance(found, (ConnectionError, TimeoutError))
        or (type(found).__module__.partition(".")[0] in _CLIENTS and type(found).__name__ not in _NEVER_PASSING)
        for found in _causes(error)
    )


def _retry_after(error: BaseException) -> float:
    """Seconds that a server asks to wait; 0 if it does not say."""
    try:
        return min(max(float(_response(error).headers["Retry-After"]), 0.0), _MAX_WAIT)
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0.0


def _problem(error: BaseException, status: int | None, doing: str, repo: str) -> SourceError:
    advice = _ADVICE.get(status or 0, "run the same push again to go on where it ended")
    message = f"expected {doing} to work, found {_summary(error, status)}; {advice}"
    return SourceError(f"{repo}: {message}", reason=f"hub-{status or 'connection'}")


def _summary(error: BaseException, status: int | None) -> str:
    """Give the first line of what an error was raised from."""
    *_, root = _causes(error)
    first = (mask_url(root).strip().splitlines() or [""])[0]
    return f"HTTP {status} ({first})" if status else f"{type(root).__name__}: {first}"
