"""HTTP through the standard library: one GET that survives drops and refuses to splice two files."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import re
import socket
import ssl
import string
from collections.abc import Callable, Mapping
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, IncompleteRead
from time import time
from typing import TypeAlias
from urllib.error import URLError
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import HTTPHandler, OpenerDirector, ProxyHandler, Request, UnknownHandler

from ._resume import DropError, ResumingReader, changed, describe, masked, refused, status_problem
from ._tls import ADVICE, TlsHandler
from ._version import __version__
from .errors import ConfigError

__all__ = ["HttpReader", "Identity"]

Identity: TypeAlias = "tuple[int | None, str | None, str | None]"

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 10
_MAX_RETRY_AFTER = 120.0
# `HTTPResponse` forgets how much of a chunked read arrived when it fails, so these are kept short.
_CHUNKED_PIECE = 64 << 10


class HttpReader(ResumingReader):
    """Bytes of one URL from ``offset`` on.

    Parameters
    ----------
    url
        ``http://`` or ``https://``; user information in it is sent as basic authorization.
    offset, retries
        As in `ResumingReader`.
    stop
        End of a bounded range request; then a server that ignores ranges is refused instead of read through.
    timeout
        Seconds without a byte after which the connection counts as dropped.
    headers
        Sent to the URL's own origin only, never to where it redirects.
    identity
        ``(size, ETag, Last-Modified)`` that another reader of the same file found: any other file is refused.
    sleep
        As in `ResumingReader`.

    Attributes
    ----------
    takes_ranges
        The latest answer held the range that was asked for, not the whole file.

    Notes
    -----
    A file that is replaced by one of equal length is noticed by its ``ETag`` or ``Last-Modified``, and by the
    gzip checksum alone when the server sends neither.
    """

    def __init__(
        self,
        url: str,
        *,
        offset: int = 0,
        stop: int | None = None,
        retries: int = 5,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        identity: Identity | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(masked(url), offset=offset, retries=retries, sleep=sleep)
        self.takes_ranges = False
        parts = _parse(url)
        if parts is None:
            raise ConfigError(f"{self.location}: expected a URL such as https://host/sa_000000.tar, found none")
        self._url = _without_userinfo(parts)
        self._private = {**_basic_authorization(parts), **(headers or {})}
        self._stop = stop
        self._timeout = timeout
        self._opener = OpenerDirector()
        # No error or redirect handlers: theirs quote URLs, read bodies without bound and forward credentials.
        for handler in (ProxyHandler(), HTTPHandler(), TlsHandler(), UnknownHandler()):
            self._opener.add_handler(handler)
        self._response: HTTPResponse | None = None
        self._torn = False
        self._identity: tuple[str | None, str | None] | None = None
        self._found: tuple[str | None, str | None] = (None, None)
        self._validator: str | None = None
        if identity is not None:
            self.size, *validators = identity
            self._remember(validators[0], validators[1])
        self._persist(lambda: 0)

    @property
    def identity(self) -> Identity:
        """What tells this file from others: (size, ETag, Last-Modified), as far as the server says."""
        return (self.size, *self._found)

    def abort(self) -> None:
        """Break the connection, from any thread: a read under way fails, and the next attempt connects anew."""
        # The socket's handle may be gone, or be another socket's by now: then that one reconnects, no more.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            handle = socket.fromfd(self._response.fileno(), socket.AF_INET, socket.SOCK_STREAM)  # type: ignore[union-attr]
            with handle:
                handle.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> None:
        self._torn = False
        self._response = response = self._request()
        status, headers = response.status, response.headers
        if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            self._refuse_disguise(headers)
        self.takes_ranges = status == HTTPStatus.PARTIAL_CONTENT
        if self.takes_ranges:
            self._begin_partial(headers)
        elif status == HTTPStatus.OK:
            self._begin_whole(response)
        elif status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._begin_past_end(headers)
        else:
            raise status_problem(self.location, status, self._position, wait=_retry_after(headers))

    def _fill(self, view: memoryview) -> int:
        response = self._response
        if response is None or self._position == self.size:
            return 0
        arrived = 0
        if not self._torn:
            try:
                return response.readinto(view[:_CHUNKED_PIECE] if response.chunked else view)
            except IncompleteRead as error:
                arrived = len(error.partial)
        # Asked once more, the torn response would say 0, as if the chunks had ended well.
        self._torn = True
        if not arrived:
            raise DropError("truncated-source", "the connection closed before the last chunk")
        return arrived

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _sort(self, error: Exception) -> Exception:
        if isinstance(error, URLError) and isinstance(error.reason, Exception):
            error = error.reason
        if isinstance(error, ssl.SSLCertVerificationError):
            message = f"the server's certificate is not trusted: {error.verify_message}; {ADVICE}"
            return refused(self.location, message, "untrusted-certificate")
        if isinstance(error, (URLError, UnicodeError)):
            return ConfigError(f"{self.location}: the host name, or the proxy in the environment, cannot be used")
        if isinstance(error, TimeoutError):
            return DropError("timeout", f"no answer within {self._timeout:g} s")
        if isinstance(error, (OSError, HTTPException)):
            return DropError("connection-lost", describe(error))
        return error

    def _request(self) -> HTTPResponse:
        url = self._url
        for _ in range(_MAX_REDIRECTS + 1):
            headers = self._headers() | (self._private if _origin(url) == _origin(self._url) else {})
            response: HTTPResponse = self._opener.open(Request(url, headers=headers), timeout=self._timeout)  # noqa: S310
            if response.status not in _REDIRECTS:
                return response
            target = response.headers.get("Location")
            response.close()
            # http.client reads headers as Latin-1: this gives back the bytes that were sent, escaped.
            escaped = quote(target, safe=string.punctuation, encoding="iso-8859-1") if target else None
            parts = _parse(escaped, base=url) if escaped else None
            if parts is None:
                raise refused(self.location, "the server redirects to no usable address", "bad-redirect")
            url = _without_userinfo(parts)
        raise refused(self.location, f"more than {_MAX_REDIRECTS} redirects, one after another", "bad-redirect")

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "User-Agent": f"sa1b_hf/{__version__}"}
        if self._position or self._stop is not None:
            last = "" if self._stop is None else self._stop - 1
            headers["Range"] = f"bytes={self._position}-{last}"
            if self._validator:
                headers["If-Range"] = self._validator
        return headers

    def _refuse_disguise(self, headers: Message) -> None:
        if (encoding := headers.get("Content-Encoding", "identity").strip().lower()) not in {"", "identity"}:
            message = f"expected the file's own bytes, found Content-Encoding {encoding[:40]!r}; use another mirror"
            raise refused(self.location, message, "content-encoding")
        if headers.get_content_type() == "text/html":
            message = "expected a shard, found a web page (a login, an expired link, a listing?); get a fresh link"
            raise refused(self.location, message, "not-a-shard")

    def _begin_whole(self, response: HTTPResponse) -> None:
        self._recognise(response.headers, response.length)
        if self._position and self._stop is not None:
            message = "the server ignores range requests; download the shard, or read it from the start"
            raise refused(self.location, message, "no-ranges")
        self._skip(response, self._position)

    def _begin_partial(self, headers: Message) -> None:
        found = headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", found.strip())
        first, last, total = map(int, match.groups()) if match else (-1, -1, -1)
        length = headers.get("Content-Length", "").strip()
        sane = first == self._position and first <= last < total and length in {"", str(last - first + 1)}
        if not sane:
            message = f"expected bytes from {self._position} on, found Content-Range {found[:60]!r}; use another mirror"
            raise refused(self.location, message, "wrong-range", offset=self._position)
        self._recognise(headers, total)

    def _begin_past_end(self, headers: Message) -> None:
        found = re.fullmatch(r"bytes \*/(\d{1,19})", headers.get("Content-Range", "").strip())
        total = int(found[1]) if found else None
        if total == self._position and self.size in {None, total}:
            self.size = total
        elif self._identity is None:
            message = f"byte {self._position} is past the end ({total} bytes)"
            raise refused(self.location, message, "past-end", offset=self._position)
        else:
            message = f"it had {self.size} bytes, now byte {self._position} is past its end ({total} bytes)"
            raise changed(self.location, message, offset=self._position)

    def _recognise(self, headers: Message, total: int | None) -> None:
        """Compare the file behind this answer with the one that reading began with."""
        first = self._identity is None
        etag, modified = headers.get("ETag"), headers.get("Last-Modified")
        identity = (etag.removeprefix("W/") if etag else None, modified)
        if self._identity is None:
            self._remember(etag, modified)
        for name, before, now in zip(("ETag", "Last-Modified"), self._identity or identity, identity, strict=True):
            if before and now and before != now:
                message = f"its {name} was {before[:80]!r} and is now {now[:80]!r}"
                raise changed(self.location, message, offset=self._position)
            if before and now:
                break
        if None not in {self.size, total} and self.size != total:
            message = f"it had {self.size} bytes and has {total} now"
            raise changed(self.location, message, offset=self._position)
        self.size = total if self.size is None else self.size
        if self.size is not None and self._position > self.size:
            message = f"byte {self._position} is past the end ({self.size} bytes)"
            if not first:
                raise changed(self.location, message, offset=self._position)
            raise refused(self.location, message, "past-end", offset=self._position)

    def _remember(self, etag: str | None, modified: str | None) -> None:
        self._found = (etag, modified)
        self._identity = (etag.removeprefix("W/") if etag else None, modified)
        self._validator = etag if etag and not etag.startswith("W/") else modified

    def _skip(self, response: HTTPResponse, count: int) -> None:
        scratch = memoryview(bytearray(min(count, 1 << 20)))
        while count:
            if not (got := response.readinto(scratch[:count])):
                raise DropError("truncated-source", f"the body ended {count} bytes before the place to read on")
            count -= got


def _parse(url: str, *, base: str = "") -> SplitResult | None:
    """Split and escape a URL; None unless it is HTTP with a host."""
    try:
        parts = urlsplit(urljoin(base, url))
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    if not usable or re.search(r"[\x00-\x20\x7f]", parts.netloc):
        return None
    path, query = (quote(part, safe=string.punctuation) for part in (parts.path, parts.query))
    return parts._replace(path=path or "/", query=query, fragment="")


def _without_userinfo(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _basic_authorization(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _retry_after(headers: Message) -> float:
    """Seconds that the server asks to wait, capped; 0 when it asks for none (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        seconds = float(value)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time()
        except (ValueError, TypeError, OverflowError):
            seconds = 0.0
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER)
