"""What is to be downloaded: one file, asked what it is, then opened at any byte by any number of connections."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ._filesystem import FileSystemReader
from ._http import HttpReader
from ._resume import changed, masked
from .errors import ConfigError
from .transport import RawReader, Source, SupportsReveal, local_path, open_raw

__all__ = ["Found", "Remote"]


class Found(NamedTuple):
    """What a source says about its file.

    Attributes
    ----------
    size
        Bytes, None if it does not say.
    etag, modified
        What tells this file from another one of that size, as far as it says.
    takes_ranges
        Any byte can be read without reading those before it.

    """

    size: int | None
    etag: str | None
    modified: str | None
    takes_ranges: bool


class Remote:
    """One file at its source.

    Parameters
    ----------
    source
        As in `sa1b_hf.transport.open_raw`.
    retries, timeout, storage_options, token
        The same.
    sleep
        Waits between attempts; may raise, which ends them.

    Attributes
    ----------
    location
        The source without secrets.
    path
        Path part of the URL, which new links to the same file have in common.
    is_http
        Its address begins with ``http://`` or ``https://``.
    has_headers
        A token or headers of the user go with each request.

    """

    def __init__(
        self,
        source: Source,
        *,
        retries: int = 8,
        timeout: float = 30.0,
        storage_options: Mapping[str, Any] | None = None,
        token: str | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._source = source
        self._retries = retries
        self._timeout = timeout
        self._options = dict(storage_options or {})
        self._token = token
        self._sleep = sleep
        self.has_headers = token is not None or bool(self._options)
        address = self.reveal()
        self.is_http = address.lower().startswith(("http://", "https://"))
        self._local = None if self.is_http else local_path(address)
        self.location = masked(address)
        self.path = str(self._local.resolve()) if self._local else urlsplit(self.location).path

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}>"

    def probe(self) -> Found:
        """Ask for one byte, which tells length, validators, and whether ranges are served.

        Raises
        ------
        SourceError, MissingShardsError, ConfigError
            See `sa1b_hf.transport.open_raw`.

        """
        with self._open_http(0, 1, None) if self.is_http else self._open_other(0) as reader:
            if isinstance(reader, HttpReader):
                return Found(*reader.identity, reader.takes_ranges)
            # All files that are opened in fsspec's memory share one position.
            takes_ranges = not self.reveal().startswith("memory:")
            return Found(reader.size, *self._validators(reader), takes_ranges)

    def open(self, start: int, stop: int, found: Found) -> RawReader:
        """Open at byte ``start``, to read up to ``stop``.

        Raises
        ------
        SourceChangedError
            This is no longer the file that `probe` found.
        SourceError, MissingShardsError
            See `sa1b_hf.transport.open_raw`.

        """
        if self.is_http:
            return self._open_http(start, stop if found.takes_ranges else None, found)
        reader = self._open_other(start)
        if (reader.size, *self._validators(reader)) != (found.size, found.etag, found.modified):
            reader.close()
            raise changed(self.location, "its size or its time of change is another than at the beginning")
        return reader

    def reveal(self) -> str:
        """Give the whole address; never print it."""
        return self._source.reveal() if isinstance(self._source, SupportsReveal) else os.fspath(self._source)

    def _open_http(self, start: int, stop: int | None, found: Found | None) -> HttpReader:
        options = dict(self._options)
        headers = dict(options.pop("headers", {}))
        if options:
            raise ConfigError(f"storage_options: expected only 'headers' for {self.location}, found {sorted(options)}")
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return HttpReader(
            self.reveal(),
            offset=start,
            stop=stop,
            retries=self._retries,
            timeout=self._timeout,
            headers=headers,
            identity=None if found is None else (found.size, found.etag, found.modified),
            sleep=self._sleep,
        )

    def _open_other(self, start: int) -> RawReader:
        return open_raw(
            self.reveal(),
            offset=start,
            retries=self._retries,
            timeout=self._timeout,
            storage_options=self._options or None,
            token=self._token,
        )

    def _validators(self, reader: RawReader) -> tuple[str | None, str | None]:
        if self._local is not None:
            return None, str(Path(self._local).stat().st_mtime_ns)
        identity = reader.identity if isinstance(reader, FileSystemReader) else None
        return (json.dumps(identity, sort_keys=True) if identity else None), None
