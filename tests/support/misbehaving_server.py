"""A loopback HTTP server that answers well by default and misbehaves exactly as told.

A path is given its bytes and a script: the n-th GET is answered as the n-th `Answer` says, later ones as ``then`` says.

>>> with MisbehavingServer() as server:
...     url = server.add("/a.tar", b"0123456789", script=[Answer(cut_after=4)])
...     import urllib.request, http.client
...     opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
...     try:
...         opener.open(url).read()
...     except http.client.IncompleteRead as error:
...         print(error.partial)
...     print(opener.open(url).read())
b'0123'
b'0123456789'
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

LAST_MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT"


@dataclass(frozen=True)
class Answer:
    """How one request is answered; the defaults are a healthy server's.

    Attributes
    ----------
    status
        Sent instead of the file, with a short text as body.
    body
        Served instead of the path's bytes, as if the file had been replaced; brings its own ETag along.
    headers
        Added to the answer, replacing those of the same name; None removes one.
    cut_after
        Body bytes, at most all of them, after which the connection breaks, as ``cut_how`` says: ``fin`` closes it as if all were well,
        ``reset`` sends RST, ``stall`` says nothing more until the client or the server closes.
    delay
        Seconds before the answer begins.
    trickle
        (bytes, seconds): the body in pieces of so many bytes, with a pause after each.
    framing
        How the body's end is told: ``length`` (Content-Length), ``chunked``, or ``close`` (by closing alone).
    ignore_range
        Answer 200 with the whole file whatever was asked.
    ignore_if_range
        Answer 206 although the validator no longer fits.
    max_range
        Most bytes of a range that are sent; the answer says so.
    """

    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    cut_after: int | None = None
    cut_how: Literal["fin", "reset", "stall"] = "fin"
    delay: float = 0.0
    trickle: tuple[int, float] | None = None
    framing: Literal["length", "chunked", "close"] = "length"
    ignore_range: bool = False
    ignore_if_range: bool = False
    max_range: int | None = None


def busy(status: int = 503, retry_after: str | None = None) -> Answer:
    """Refuse for now."""
    return Answer(status=status, headers={"Retry-After": retry_after})


def redirect(location: str, status: int = 302) -> Answer:
    """Point elsewhere."""
    return Answer(status=status, headers={"Location": location})


def web_page() -> Answer:
    """Answer 200 with HTML, as an expired login does."""
    return Answer(
        body=b"<html>Please log in</html>", ignore_range=True, headers={"Content-Type": "text/html; charset=utf-8"}
    )


def random_cuts(num_cuts: int, max_bytes: int, seed: int, how: Sequence[str] = ("fin", "reset")) -> list[Answer]:
    """Script ``num_cuts`` answers that break after 1 to ``max_bytes`` bytes, the same for the same seed."""
    rng = random.Random(seed)
    return [Answer(cut_after=rng.randint(1, max_bytes), cut_how=rng.choice(how)) for _ in range(num_cuts)]


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; header names are lower case, ``target`` is the whole request target."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """The target without host and query."""
        return urlsplit(self.target).path

    @property
    def range(self) -> tuple[int, int | None] | None:
        """(first, last) byte asked for, None for the whole file."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        return (int(match[1]), int(match[2]) if match[2] else None) if match else None


@dataclass
class _Served:
    data: bytes
    script: list[Answer]
    then: Answer
    num_gets: int = 0


class MisbehavingServer:
    """Serve files on 127.0.0.1 while the ``with`` block runs.

    Parameters
    ----------
    tls
        Settings with the server's certificate, for HTTPS.

    Attributes
    ----------
    requests
        Every request seen, in order of arrival.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Seen] = []
        self._scheme = "http" if tls is None else "https"
        self._served: dict[str, _Served] = {}
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        self._closing = threading.Event()
        self._httpd = _Httpd(("127.0.0.1", 0), _Handler)
        self._httpd.owner = self
        if tls is not None:
            self._httpd.socket = tls.wrap_socket(self._httpd.socket, server_side=True)
        self._thread = threading.Thread(target=self._httpd.serve_forever, kwargs={"poll_interval": 0.005})

    @property
    def port(self) -> int:
        return int(self._httpd.server_address[1])

    def url(self, path: str) -> str:
        """Give the address of a path, which may carry a query."""
        return f"{self._scheme}://127.0.0.1:{self.port}{path}"

    def add(self, path: str, data: bytes | Path, *, script: Iterable[Answer] = (), then: Answer | None = None) -> str:
        """Serve bytes (or a file's) under a path, whatever the query, and give the URL."""
        content = data.read_bytes() if isinstance(data, Path) else bytes(data)
        self._served[urlsplit(path).path] = _Served(content, list(script), then or Answer())
        return self.url(path)

    def gets(self, path: str) -> list[Seen]:
        """Give the GET requests that a path has had."""
        return [seen for seen in list(self.requests) if seen.method == "GET" and seen.path == path]

    def __enter__(self) -> MisbehavingServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._httpd.shutdown()
        self._thread.join()
        self._httpd.hang_up()
        self._httpd.server_close()
        if self._errors:
            raise self._errors[0]

    def _next(self, seen: Seen) -> tuple[bytes, Answer]:
        with self._lock:
            self.requests.append(seen)
            served = self._served.get(seen.path)
            if served is None:
                return b"", Answer(status=404)
            turn = served.num_gets
            # A HEAD shows what the next GET would get, and uses nothing up.
            served.num_gets += seen.method == "GET"
            answer = served.script[turn] if turn < len(served.script) else served.then
            return (served.data if answer.body is None else answer.body), answer


class _Httpd(ThreadingHTTPServer):
    daemon_threads = False
    owner: MisbehavingServer

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()
        self.to_reset: set[socket.socket] = set()

    def process_request(self, request, client_address) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self._open.discard(request)
        if request in self.to_reset:
            self.to_reset.discard(request)
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def hang_up(self) -> None:
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError)):
            self.owner._errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Httpd

    def do_GET(self) -> None:
        seen = Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        data, answer = self.server.owner._next(seen)
        if answer.delay:
            self.server.owner._closing.wait(answer.delay)
        if answer.status is not None:
            body = f"status {answer.status}\n".encode()
            self._send_head(answer.status, {"Content-Type": "text/plain"}, len(body), answer)
            self._send_body(body, answer)
            return
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        headers = {
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
            "ETag": etag,
            "Last-Modified": LAST_MODIFIED,
        }
        sent = {**headers, **answer.headers}
        span = (
            None if answer.ignore_range else self._span(seen, len(data), {sent["ETag"], sent["Last-Modified"]}, answer)
        )
        if span is None:
            self._send_head(200, headers, len(data), answer)
            self._send_body(data, answer)
        elif span[0] >= span[1]:
            self._send_head(416, {"Content-Range": f"bytes */{len(data)}"}, 0, answer)
        else:
            first, end = span
            end = end if answer.max_range is None else min(end, first + answer.max_range)
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(data)}"
            self._send_head(206, headers, end - first, answer)
            self._send_body(data[first:end], answer)

    do_HEAD = do_GET

    def _span(self, seen: Seen, size: int, validators: set[str | None], answer: Answer) -> tuple[int, int] | None:
        asked = seen.headers.get("range", "")
        wanted = seen.headers.get("if-range")
        if wanted is not None and wanted not in validators and not answer.ignore_if_range:
            return None
        if suffix := re.fullmatch(r"bytes=-(\d+)", asked):
            return max(0, size - int(suffix[1])), size
        if seen.range is None:
            return None
        first, last = seen.range
        return first, size if last is None else min(size, last + 1)

    def _send_head(self, status: int, headers: Mapping[str, str], length: int, answer: Answer) -> None:
        merged: dict[str, str | None] = {"Date": formatdate(time.time(), usegmt=True), **headers}
        if answer.framing == "length":
            merged["Content-Length"] = str(length)
        elif answer.framing == "chunked":
            merged["Transfer-Encoding"] = "chunked"
        else:
            merged["Connection"] = "close"
        merged.update(answer.headers)
        self.send_response_only(status)
        for name, value in merged.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def _send_body(self, body: bytes, answer: Answer) -> None:
        if self.command == "HEAD":
            return
        broken = answer.cut_after is not None and answer.cut_after <= len(body)
        end = answer.cut_after if broken else len(body)
        piece, pause = answer.trickle or (1 << 16, 0.0)
        view = memoryview(body)
        for at in range(0, end, piece):
            part = view[at : min(end, at + piece)]
            self._send_part(part, answer)
            if pause and self.server.owner._closing.wait(pause):
                break
        if broken:
            self._break(answer)
        elif answer.framing == "chunked":
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = self.close_connection or answer.framing == "close" or broken

    def _send_part(self, part: memoryview, answer: Answer) -> None:
        if answer.framing == "chunked":
            self.wfile.write(b"%x\r\n" % len(part) + part + b"\r\n")
        else:
            self.wfile.write(part)

    def _break(self, answer: Answer) -> None:
        self.close_connection = True
        if answer.cut_how == "stall":
            self._wait_for_hang_up()
        elif answer.cut_how == "reset":
            # RST discards what the client has not yet received: give the bytes before it a moment to arrive.
            time.sleep(0.01)
            self.server.to_reset.add(self.connection)

    def _wait_for_hang_up(self) -> None:
        while not self.server.owner._closing.is_set():
            if select.select([self.connection], [], [], 0.02)[0]:
                return

    def log_message(self, *args) -> None:
        """Say nothing: tests look at `MisbehavingServer.requests`."""
