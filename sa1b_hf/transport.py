"""Raw bytes of a shard from any place: a disk, a web server, the Hub, a bucket; what they mean is decided elsewhere."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ._filesystem import FileSystemReader
from ._http import HttpReader
from ._resume import changed, masked, refused
from .errors import ConfigError, MissingShardsError, SA1BError

__all__ = ["RawReader", "Source", "SupportsReveal", "local_path", "open_raw", "read_range"]


@runtime_checkable
class SupportsReveal(Protocol):
    """A signed URL: `str` of it is masked, `reveal` gives the address with its signature."""

    def reveal(self) -> str:
        """Give the whole address; never print it."""
        ...


Source: TypeAlias = "str | os.PathLike[str] | SupportsReveal"
"""A path, a URL, or a signed URL."""


class RawReader(Protocol):
    """Sequential raw bytes of one source, from an offset to its end.

    Attributes
    ----------
    location
        The source without user information, query and fragment: safe to print.
    size
        Total bytes of the source, None while unknown.
    identity
        What tells this file from others of the same name, as far as its keeper says; None for what is not known.
    """

    location: str
    size: int | None

    @property
    def identity(self) -> Any:
        """Values of the kind of its keeper."""
        ...

    def readinto(self, buffer: memoryview | bytearray, /) -> int:
        """Read up to ``len(buffer)`` bytes in place; fewer is no sign of the end, 0 is.

        Raises
        ------
        SourceChangedError
            The source is no longer the one that was opened.
        SourceError
            The bytes cannot be had; ``reason`` says why.
        """
        ...

    def tell(self) -> int:
        """Give the offset of the next byte in the source."""
        ...

    def close(self) -> None:
        """Release the connection or file."""
        ...

    def __enter__(self) -> RawReader: ...

    def __exit__(self, *_: object) -> None: ...


def open_raw(
    source: Source,
    *,
    offset: int = 0,
    retries: int = 5,
    timeout: float = 30.0,
    storage_options: Mapping[str, Any] | None = None,
    token: str | None = None,
) -> RawReader:
    """Open a source for reading from a byte on.

    Parameters
    ----------
    source
        A local path or ``file://`` URL; ``http(s)://``, read by the standard library; any other URL (``hf://``,
        ``s3://``, ``memory://`` …), read by fsspec; or an object whose ``reveal()`` gives one of these.
    offset
        First byte to read, at most the size of the source.
    retries
        How many attempts in a row may fail without a byte gained before the source is given up.
    timeout
        Seconds without a byte after which an HTTP connection counts as dropped. fsspec's file systems have their
        own, set through `storage_options`.
    storage_options
        Keyword arguments of the fsspec file system. For HTTP only ``headers``, which redirects do not carry along.
    token
        Access token for ``hf://`` and, as a bearer token, for HTTP.

    Returns
    -------
    RawReader
        Close it, or use it in a ``with`` statement.

    Raises
    ------
    ConfigError
        An argument or address makes no sense, or the package that reads this kind of URL is not installed.
    MissingExtraError
        An extra of this package is needed for this kind of URL.
    MissingShardsError
        A file is not there.
    SourceChangedError
        ``reason="source-changed"``, also while reading: bytes of two different files would have been joined.
    SourceError
        The source cannot be read, also while reading. ``reason``: ``http-<status>``, ``timeout``,
        ``connection-lost``, ``truncated-source``, ``wrong-range``, ``no-ranges``, ``past-end``, ``not-a-shard``,
        ``content-encoding``, ``bad-redirect``, ``untrusted-certificate``, ``not-a-file``, ``permission-denied``,
        ``io-error``.

    Notes
    -----
    After a drop an HTTP source is asked for the rest with ``Range`` and ``If-Range`` (RFC 9110, 13.1.5 and 14.2), a
    file system for its size and identity (ETag, commit, generation, modification time).
    """
    _check_options(offset, retries, timeout)
    try:
        return _open(
            source, offset, None, retries=retries, timeout=timeout, storage_options=storage_options, token=token
        )
    except SA1BError as error:
        problem = error
    # Frames further in have signed URLs in their locals, which some tools print with a traceback.
    raise problem.with_traceback(None)


def read_range(
    source: Source,
    start: int,
    length: int,
    *,
    retries: int = 5,
    timeout: float = 30.0,
    storage_options: Mapping[str, Any] | None = None,
    token: str | None = None,
) -> bytes:
    """Read exactly ``length`` bytes from ``start`` on; over HTTP with one range request.

    Parameters
    ----------
    source, retries, timeout, storage_options, token
        As in `open_raw`.
    start
        First byte.
    length
        Number of bytes, all of which must be there.

    Returns
    -------
    bytes
        ``length`` bytes.

    Raises
    ------
    SourceError
        As `open_raw`; ``reason="past-end"`` when the source ends before ``start + length``, ``"no-ranges"`` when a
        server would send the whole file.
    """
    _check_options(start, retries, timeout)
    if length < 0:
        raise ConfigError(f"length: expected 0 or more bytes, found {length}")
    if not length:
        return b""
    reader = _open(
        source, start, start + length, retries=retries, timeout=timeout, storage_options=storage_options, token=token
    )
    with reader:
        ended = f"expected bytes {start} to {start + length}, found an end at {{}}; the index may be of another file"
        if reader.size is not None and reader.size < start + length:
            raise refused(reader.location, ended.format(reader.size), "past-end", offset=start)
        data = bytearray(length)
        view = memoryview(data)
        while view:
            if not (count := reader.readinto(view)):
                raise refused(reader.location, ended.format(reader.tell()), "past-end", offset=start)
            view = view[count:]
    return bytes(data)


def local_path(source: Source) -> Path | None:
    """Give the path of a local source, for callers that map it or read it at random; None for anything remote."""
    if isinstance(source, SupportsReveal):
        source = source.reveal()
    text = os.fspath(source)
    if not _is_url(text):
        return Path(text)
    parts = urlsplit(text) if text[:7].lower() == "file://" else None
    return Path(url2pathname(parts.path)) if parts and parts.netloc in {"", "localhost"} else None


def _is_url(text: str) -> bool:
    # Two letters at least: `C://` is a drive.
    return "://" in text and re.match(r"[A-Za-z][\w+.-]+(?:::|://)", text) is not None


def _check_options(offset: int, retries: int, timeout: float) -> None:
    if offset < 0:
        raise ConfigError(f"offset: expected 0 or more bytes, found {offset}")
    if retries < 0:
        raise ConfigError(f"retries: expected 0 or more attempts, found {retries}")
    if not timeout > 0:
        raise ConfigError(f"timeout: expected seconds above 0, found {timeout}")


def _open(
    source: Source,
    offset: int,
    stop: int | None,
    *,
    retries: int,
    timeout: float,
    storage_options: Mapping[str, Any] | None,
    token: str | None,
) -> RawReader:
    if (path := local_path(source)) is not None:
        return _LocalReader(path, offset)
    url = source.reveal() if isinstance(source, SupportsReveal) else os.fspath(source)
    options = dict(storage_options or {})
    if not re.match(r"https?://", url, re.IGNORECASE):
        if token is not None and url.startswith("hf://"):
            options.setdefault("token", token)
        return FileSystemReader(url, offset=offset, stop=stop, retries=retries, options=options)
    headers = dict(options.pop("headers", {}))
    if options:
        raise ConfigError(f"storage_options: expected only 'headers' for {masked(url)}, found {sorted(options)}")
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return HttpReader(url, offset=offset, stop=stop, retries=retries, timeout=timeout, headers=headers)


class _LocalReader:
    """An unbuffered file, watched for another size at its end."""

    def __init__(self, path: Path, offset: int) -> None:
        self.location = str(path)
        self._file = self._open(path)
        self.size: int | None = os.fstat(self._file.fileno()).st_size
        if offset > self.size:
            self.close()
            raise refused(self.location, f"byte {offset} is past the end ({self.size} bytes)", "past-end")
        self._file.seek(offset)

    def _open(self, path: Path) -> io.FileIO:
        try:
            # Asked before opening: opening a named pipe would wait for its writer.
            if not stat.S_ISREG(path.stat().st_mode):
                raise refused(self.location, "expected a file, found a folder or device", "not-a-file")
            return io.FileIO(path)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingShardsError(f"{self.location}: expected a shard, found no such file; check the path") from None
        except PermissionError:
            raise refused(self.location, "reading it is not permitted", "permission-denied") from None
        except ValueError:
            raise ConfigError(f"{self.location!r}: expected a path, found a null byte in it") from None

    def readinto(self, buffer: memoryview | bytearray, /) -> int:
        try:
            count = self._file.readinto(buffer)
        except OSError as error:
            where = self._file.tell()
            raise refused(
                self.location, f"cannot be read at byte {where}: {error}", "io-error", offset=where
            ) from error
        if not count and len(buffer) and self._file.tell() != self.size:
            message = f"it had {self.size} bytes when it was opened and ends at {self._file.tell()} now"
            raise changed(self.location, message, offset=self._file.tell())
        return count

    @property
    def identity(self) -> Mapping[str, str]:
        return {"mtime_ns": str(os.fstat(self._file.fileno()).st_mtime_ns)}

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> _LocalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}>"
