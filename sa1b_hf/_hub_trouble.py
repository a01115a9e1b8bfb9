"""Trouble with the Hub: what passes by waiting, what does not and how to say so, and no signature in any log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from datasets.utils import are_progress_bars_disabled
from huggingface_hub import utils

from ._urls import mask_url
from .errors import SA1BError, SourceError

__all__ = ["masked_logs", "persist", "same_bars"]

T = TypeVar("T")

_hub_bars: Any = utils  # its functions about bars are public, and not in its stubs

_log = logging.getLogger("sa1b_hf")

RETRIES: Final = 8
_BACKOFF = 1.0
_MAX_WAIT: Final = 120.0
# 409: another commit is under way; 412: another one came first, and the next attempt begins from it.
_PASSING: Final = frozenset({408, 409, 412, 425, 429, 500, 502, 503, 504})
# What `huggingface_hub` speaks HTTP with, by its version.
_CLIENTS: Final = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"})
_NEVER_PASSING: Final = frozenset(
    {"InvalidURL", "UnsupportedProtocol", "MissingSchema", "InvalidSchema", "OfflineModeIsEnabled"}
)
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
        It cannot be done, or not in `RETRIES` further attempts; ``reason`` is ``"hub-403"`` or the like,
        ``"hub-connection"``, or ``"hub-client"`` if the request did not even get out.

    """
    attempt = 0
    while True:
        try:
            return action()
        except SA1BError:
            raise
        except Exception as error:
            status = _status(error)
            if attempt >= RETRIES or not _is_passing(error, status):
                if status is None and not isinstance(error, (OSError, ValueError, RuntimeError)):
                    raise  # a mistake in a program, not trouble
                raise _problem(error, status, doing, repo) from None
            wait = max(min(_BACKOFF * 2**attempt, _MAX_WAIT), _retry_after(error))
            _log.warning("%s: %s: %s; next attempt in %.0f s", repo, doing, _summary(error, status), wait)
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


@contextmanager
def same_bars() -> Iterator[None]:
    """Silence the bars of `huggingface_hub` where those of `datasets` are silenced."""
    if not are_progress_bars_disabled() or _hub_bars.are_progress_bars_disabled():
        yield
        return
    _hub_bars.disable_progress_bars()
    try:
        yield
    finally:
        _hub_bars.enable_progress_bars()


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
    return _is_connection(error) if status is None else status in _PASSING


def _is_connection(error: BaseException) -> bool:
    return any(
        type(found).__name__ not in _NEVER_PASSING
        and (isinstance(found, (ConnectionError, TimeoutError)) or type(found).__module__.partition(".")[0] in _CLIENTS)
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
    kind = status or ("connection" if _is_connection(error) else "client")
    return SourceError(f"{repo}: {message}", reason=f"hub-{kind}")


def _summary(error: BaseException, status: int | None) -> str:
    """Say in a line what the server said, or else what an error was raised from."""
    causes = list(_causes(error))
    said = next(filter(None, (getattr(found, "server_message", None) for found in causes)), causes[-1])
    line = (mask_url(said).strip().splitlines() or [""])[0]
    return f"HTTP {status} ({line})" if status else f"{type(causes[-1]).__name__}: {line}"
