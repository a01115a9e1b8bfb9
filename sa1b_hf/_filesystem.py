"""Files of any fsspec file system, reopened at their place after an error."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fsspec.core import url_to_fs
from fsspec.registry import get_filesystem_class, known_implementations

from ._resume import DropError, ResumingReader, changed, describe, masked, refused, status_problem
from .errors import ConfigError, MissingExtraError, MissingShardsError

__all__ = ["FileSystemReader"]

# Each block is a request of its own on the Hub and on buckets: large enough that latency does not count.
_BLOCK = 8 << 20
_IDENTITY_KEYS = (
    "ETag", "etag", "generation", "VersionId", "version_id", "blob_id", "xet_hash", "md5Hash", "content_md5",
    "LastModified", "last_modified", "mtime", "updated", "modified", "created",
)  # fmt: skip


class FileSystemReader(ResumingReader):
    """Bytes of one file of an fsspec file system from ``offset`` on.

    Parameters
    ----------
    url
        Anything that `fsspec.core.url_to_fs` takes, chains such as ``simplecache::s3://`` included.
    offset, retries
        As in `ResumingReader`.
    stop
        End of a bounded read, which then is one request without read-ahead; `size` stays unknown.
    options
        Keyword arguments of the file system.
    """

    def __init__(
        self,
        url: str,
        *,
        offset: int = 0,
        stop: int | None = None,
        retries: int = 5,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(masked(url), offset=offset, retries=retries)
        self._bounded = stop is not None
        if stop is not None:
            self._piece = self._max_piece = stop - offset
        self._file: Any = None
        self._identity: dict[str, str] | None = None
        self._fs, self._path = _file_system(url, options or {})
        self._persist(lambda: 0)

    @property
    def identity(self) -> Mapping[str, str]:
        """What tells this file from others, as far as its file system says."""
        return dict(self._identity or {})

    def _connect(self) -> None:
        if self._bounded:
            return
        if self._identity is not None:
            self._fs.invalidate_cache(self._path)
        self._recognise(self._fs.info(self._path))
        self._file = self._fs.open(self._path, "rb", block_size=_BLOCK)
        if self._position:
            self._file.seek(self._position)

    def _fill(self, view: memoryview) -> int:
        if self._file is not None and hasattr(self._file, "readinto"):
            return int(self._file.readinto(view))
        data = self._file.read(len(view)) if self._file is not None else self._cat(len(view))
        view[: len(data)] = data
        return len(data)

    def _cat(self, length: int) -> bytes:
        return bytes(self._fs.cat_file(self._path, start=self._position, end=self._position + length))

    def _disconnect(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(Exception):
                file.close()

    def _sort(self, error: Exception) -> Exception:
        if isinstance(error, MemoryError):
            return error
        if isinstance(error, (ImportError, NotImplementedError)):
            return ConfigError(f"{self.location}: its file system cannot read it: {describe(error)}")
        return self._final(error) or DropError("connection-lost", describe(error))

    def _final(self, error: Exception) -> Exception | None:
        """Recognise what no second attempt will mend; the classes of errors differ from client to client."""
        if isinstance(error, FileNotFoundError):
            return MissingShardsError(f"{self.location}: expected a shard, found no such file; check the address")
        if isinstance(error, PermissionError):
            message = "reading it is not permitted; log in, or pass credentials that may read it"
            return refused(self.location, message, "permission-denied")
        if isinstance(error, IsADirectoryError):
            return refused(self.location, "expected a file, found a folder", "not-a-file")
        status = _status(error)
        return None if status is None else status_problem(self.location, status, self._position)

    def _recognise(self, info: Mapping[str, Any]) -> None:
        """Compare the file with the one that reading began with, by what both answers tell about it."""
        if info.get("type") == "directory":
            raise refused(self.location, "expected a file, found a folder", "not-a-file")
        size = info.get("size")
        identity = {key: str(info[key]) for key in _IDENTITY_KEYS if info.get(key) is not None}
        if self._identity is None:
            self._identity = identity
        if None not in {self.size, size} and self.size != size:
            message = f"it had {self.size} bytes and has {size} now"
            raise changed(self.location, message, offset=self._position)
        for key in self._identity.keys() & identity.keys():
            if self._identity[key] != identity[key]:
                message = f"its {key} was {self._identity[key][:80]!r} and is now {identity[key][:80]!r}"
                raise changed(self.location, message, offset=self._position)
        self.size = size if self.size is None else self.size
        if self.size is not None and self._position > self.size:
            message = f"byte {self._position} is past the end ({self.size} bytes)"
            raise refused(self.location, message, "past-end", offset=self._position)


def _file_system(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    for protocol in re.findall(r"(?:^|::)([A-Za-z][\w+.-]*)(?=::|://)", url):
        if (problem := _protocol_problem(protocol, masked(url))) is not None:
            raise problem
    try:
        fs, path = url_to_fs(url, **options)
    except Exception as error:
        found = describe(error)
    else:
        return fs, path
    raise ConfigError(f"{masked(url)}: its file system cannot be set up: {found}; check address and storage_options")


def _protocol_problem(protocol: str, location: str) -> Exception | None:
    try:
        get_filesystem_class(protocol)
    except ImportError:
        if protocol in {"http", "https"}:
            return MissingExtraError(f"reading {location}", "http")
        hint = known_implementations.get(protocol, {}).get("err", "install its package")
        return ConfigError(f"{location}: a package that reads {protocol}:// is not installed: {hint}")
    except ValueError:
        return ConfigError(f"{location}: expected a path, http(s)://, hf:// or what fsspec reads, found {protocol}://")
    return None


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    for holder in (error, response):
        for name in ("status", "status_code", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and status >= HTTPStatus.BAD_REQUEST:
                return status
    return None
