"""The loopback server: lets in only who has the token, and only through the front door.

Another page in the same browser must not read the images. Therefore the token is unguessable and travels in a cookie
that other sites cannot send; the Host header must be the loopback's, so that no name of an attacker's can be pointed
here (DNS rebinding); and the page may load nothing from, and send nothing to, anywhere else.
"""

from __future__ import annotations

import logging
import secrets
import threading
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from sa1b_hf.errors import ConfigError

from ._answers import Answer, Viewer

__all__ = ["ViewerServer"]

_log = logging.getLogger("sa1b_hf")

_LOOPBACK: Final = "127.0.0.1"
_NAMES: Final = (_LOOPBACK, "localhost")
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_REFUSED: Final = b"This page belongs to somebody else: open the address that `sa1b view` printed.\n"


class ViewerServer:
    """Serves a viewer on this machine, until closed.

    Parameters
    ----------
    viewer
        What to serve; it is closed with the server.
    port
        0 for any that is free.

    Raises
    ------
    ConfigError
        The port is taken, or not allowed.

    Attributes
    ----------
    url
        Address to open, with the token; whoever has it sees the images.
    port
        The port.

    Examples
    --------
    >>> from sa1b_hf.places import find_place
    >>> with ViewerServer(Viewer(find_place(None))) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True

    """

    def __init__(self, viewer: Viewer, port: int = 0) -> None:
        self._viewer = viewer
        try:
            self._server = _Server((_LOOPBACK, port), _Handler)
        except OSError as error:
            viewer.close()
            raise ConfigError(f"port {port} cannot be had: {error.strerror}; 0 takes any that is free") from error
        self._server.viewer = viewer
        self._server.token = secrets.token_urlsafe(32)
        self.port = int(self._server.server_address[1])
        self.url = f"http://{_LOOPBACK}:{self.port}/?token={self._server.token}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> ViewerServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._viewer.close()

    def wait(self) -> None:
        """Wait until the server is closed, or somebody interrupts."""
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a browser keeps connections open that it does not use
    viewer: Viewer
    token: str

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 -- the base class's
        # browsers leave in the middle of an answer; that is nothing to print
        _log.debug("viewer: a connection of %s ended early", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "sa1b"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        if self.headers.get("Host", "") not in {f"{name}:{self.server.server_port}" for name in _NAMES}:
            self._send(Answer(b"Unknown host.\n", "text/plain", HTTPStatus.MISDIRECTED_REQUEST))
        elif self._is_right(parse_qs(urlsplit(self.path).query).get("token", [""])[-1]):
            self._welcome()
        elif self._is_right(self._cookie()):
            self._send(self.server.viewer.answer(self.path))
        else:
            self._send(Answer(_REFUSED, "text/plain; charset=utf-8", HTTPStatus.FORBIDDEN))

    def log_message(self, *_: object) -> None:
        """Print nothing: addresses may hold the token."""

    def _welcome(self) -> None:
        """Take the token out of the address and into a cookie, so that copied addresses do not hold it."""
        cookie = f"{self._cookie_name()}={self.server.token}; Path=/; HttpOnly; SameSite=Strict"
        headers = {"Location": "/", "Set-Cookie": cookie}
        self._send(Answer(b"", "text/plain", HTTPStatus.SEE_OTHER, headers))

    def _is_right(self, token: str) -> bool:
        return secrets.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode())

    def _cookie_name(self) -> str:
        # cookies are shared between the ports of a host
        return f"sa1b_{self.server.server_port}"

    def _cookie(self) -> str:
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get(self._cookie_name())
        except CookieError:
            return ""
        return morsel.value if morsel else ""

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {**_HEADERS, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)
