"""A loopback server that the real `huggingface_hub` and `datasets` clients take for the Hub.

It has users, private and gated dataset repositories with branches, large files in one piece or in several, and it
fails as it is told: the n-th request of a kind gets a status, or its connection breaks before or after it took effect.

>>> from huggingface_hub import HfApi
>>> with StandInHub() as hub:
...     api = HfApi(endpoint=hub.url, token=hub.token)
...     _ = api.create_repo("ada/shapes", repo_type="dataset", private=True)
...     [(request.kind, request.status) for request in hub.requests], api.repo_info("ada/shapes", repo_type="dataset").private
([('create', 200)], True)
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from .hub_api import Answers
from .hub_store import Repository, Store

_REPO = r"(?P<repo>[^/]+/[^/]+)"
_API = rf"/api/datasets/{_REPO}"
_ROUTES: dict[str, str] = {
    "whoami": r"GET /api/whoami-v2",
    "create": r"POST /api/repos/create",
    "yaml": r"POST /api/validate-yaml",
    "settings": rf"PUT {_API}/settings",
    "refs": rf"GET {_API}/refs",
    "branch": rf"POST {_API}/branch/(?P<revision>.+)",
    "preupload": rf"POST {_API}/preupload/(?P<revision>[^/]+)",
    "commit": rf"POST {_API}/commit/(?P<revision>[^/]+)",
    "tree": rf"GET {_API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?",
    "paths": rf"POST {_API}/paths-info/(?P<revision>[^/]+)",
    "info": rf"(?:GET|HEAD) {_API}(?:/revision/(?P<revision>[^/]+))?",
    "lfs-batch": rf"POST /datasets/{_REPO}\.git/info/lfs/objects/batch",
    "lfs-put": r"PUT /lfs/(?P<oid>[0-9a-f]{64})(?:/(?P<piece>\d+))?",
    "lfs-join": r"POST /lfs/(?P<oid>[0-9a-f]{64})/join/(?P<piece>\d+)",
    "lfs-verify": r"POST /lfs/(?P<oid>[0-9a-f]{64})/verify",
    "resolve": rf"(?:GET|HEAD) /datasets/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in _ROUTES.items()}
_WRITES = {"settings", "branch", "preupload", "commit", "lfs-batch"}


@dataclass
class Request:
    """A request as it arrived, and how it was answered (None: not at all)."""

    number: int
    kind: str
    method: str
    path: str
    query: Mapping[str, list[str]]
    token: str | None
    body: bytes = field(repr=False)
    range: str | None = None
    status: int | None = None


@dataclass
class Fault:
    """What goes wrong with requests of a kind: the ones from number `first` on, `times` of them.

    Attributes
    ----------
    status
        Answered instead; the request has no effect.
    headers
        Of that answer.
    cut
        ``"before"``: the connection breaks and the request has no effect; ``"after"``: it takes effect, and the answer
        is lost; an int: the answer breaks after so many bytes of its body.
    """

    kind: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: Literal["before", "after"] | int | None = None
    first: int = 1
    times: int = 1

    def is_due(self, kind: str) -> bool:
        """Count a request, and tell whether this fault is its."""
        if self.kind not in {kind, "any"}:
            return False
        self.first -= 1
        return -self.times < self.first <= 0


class StandInHub:
    """The server; ``token`` belongs to the user ``ada``, ``other_token`` to ``bob``.

    Attributes
    ----------
    store
        Repositories and large files; ``store.uploads`` has the SHA-256 of each one uploaded, in order.
    requests
        All of them, in order of arrival.
    watch
        Called with each request before (``"before"``) and after (``"after"``) it takes effect; True breaks the connection.
    piece_bytes
        Larger files are uploaded in pieces of this length.
    page_rows
        Entries of a page of a listing.
    signature
        Put into the URLs to upload to, as object stores do.
    """

    token = "hf_standinadastandinadastandinada00"
    other_token = "hf_standinbobstandinbobstandinbob00"

    def __init__(self, signature: str = "signature") -> None:
        self.users = {self.token: "ada", self.other_token: "bob"}
        self.store = Store()
        self.signature = signature
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.clear()

    def clear(self) -> None:
        """Forget everything but the address."""
        self.store.clear()
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.watch: Callable[[Request, str], object] = lambda request, moment: None
        self.piece_bytes = 1 << 30
        self.page_rows = 1000

    def environment(self) -> dict[str, str]:
        """Give the variables that lead the clients here; they read them when they are imported."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1",
        }

    def repository(self, repo: str) -> Repository:
        return self.store.repositories[repo]

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """Contents of a repository."""
        return {path: entry.data for path, entry in self.repository(repo).branches[revision].files.items()}

    def kinds(self, *, since: int = 0) -> list[str]:
        return [request.kind for request in self.requests[since:]]

    def start(self) -> StandInHub:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    __enter__ = start

    def __exit__(self, *args: object) -> None:
        self.stop()


class _Handler(Answers, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: StandInHub

    def log_message(self, *args: Any) -> None:
        pass

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        kind, names = self._route(f"{self.command} {parts.path}")
        bearer = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        body, query = self._body(), parse_qs(parts.query)
        with self.hub.lock:
            number = len(self.hub.requests) + 1
            request = Request(number, kind, self.command, self.path, query, bearer, body, self.headers.get("Range"))
            self.request_seen = request
            self.hub.requests.append(request)
            due = [fault for fault in self.hub.faults if fault.is_due(kind)]
        self.cut = due[0].cut if due else None
        if self.hub.watch(request, "before") or self.cut == "before":
            return self._hang_up()
        if due and due[0].status:
            return self.send(due[0].status, {"error": "injected"}, due[0].headers)
        if kind == "unknown":
            return self.refuse(404, "EntryNotFound")
        return self._serve(kind, names)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _serve(self, kind: str, names: dict[str, str]) -> None:
        request = self.request_seen
        if "repo" in names and kind != "create":
            repository = self.hub.store.repositories.get(names["repo"])
            if (problem := self._refusal(kind, names["repo"], repository)) is not None:
                return self.refuse(*problem)
            commit = repository.at(names.get("revision") or "main")
            if commit is None and kind != "branch":
                return self.refuse(404, "RevisionNotFound")
            return getattr(self, "on_" + kind.replace("-", "_"))(request, repository, commit, names)
        if not kind.startswith("lfs") and kind != "yaml" and request.token not in self.hub.users:
            return self.refuse(401, "")
        return getattr(self, "on_" + kind.replace("-", "_"))(request, names)

    def _refusal(self, kind: str, repo: str, repository: Repository | None) -> tuple[int, str] | None:
        """Say why a request may not have a repository; a private one looks as if it were not there."""
        token = self.request_seen.token
        is_owner = self.hub.users.get(token or "") == repo.partition("/")[0]
        if repository is None or (repository.private and not is_owner):
            return (404 if token in self.hub.users else 401), "RepoNotFound"
        if kind in _WRITES and not is_owner:
            return (403 if token in self.hub.users else 401), ""
        if kind == "resolve" and repository.gated and not is_owner:
            return (403 if token in self.hub.users else 401), "GatedRepo"
        return None

    def _route(self, line: str) -> tuple[str, dict[str, str]]:
        for kind, pattern in _PATTERNS.items():
            if match := pattern.fullmatch(line):
                return kind, {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
        return "unknown", {}

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def refuse(self, status: int, code: str) -> None:
        self.send(status, {"error": code or "refused"}, {"X-Error-Code": code, "X-Error-Message": code or "refused"})

    def send(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Answer; with a fault, so far as it lets."""
        if self.hub.watch(self.request_seen, "after") or self.cut == "after":
            self._hang_up()
            return
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.request_seen.status = status
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: self.cut] if isinstance(self.cut, int) else data)
            if isinstance(self.cut, int) and len(data) > self.cut:
                self.wfile.flush()
                self._hang_up()
