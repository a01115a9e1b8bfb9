"""One shard from its source to its final name: found, fetched, checked, and only then shown."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from ._aria2c import control_file, run_aria2c
from ._connections import Line
from ._disk import allocated, check_space, disk_problem, make_folder, publish
from ._fetch import Fetch, fetch_unsized, spot_check
from ._halt import Halt, RateLimit
from ._journal import Journal, Key, read_journal
from ._lock import ShardLock
from ._origins import Origin, check_links
from ._pieces import check_pieces, open_part
from ._progress import ShardBar
from ._receipt import Places, Receipt, read_receipt, write_receipt
from ._remote import Found, Remote
from ._resume import changed
from ._terms import MEAN_SIZE, PIECE, DownloadedShard, Terms
from .catalog import shard_info
from .errors import SA1BError, SourceChangedError, SourceError
from .links import DOWNLOADS_PAGE
from .verify import CATALOGUE, ShardReport, Status, expected_md5, verify_shard

__all__ = ["ShardDownload"]

_LOG = logging.getLogger("sa1b_hf.download")

_LINK_REFUSED: Final = frozenset({"http-401", "http-403", "http-404", "http-410"})


class ShardDownload:
    """The download of one shard into a folder.

    Parameters
    ----------
    origin
        The shard and where it is.
    folder
        Where it is to be.
    terms
        See `Terms`.
    limit
        Rate of all shards together.
    bar
        Shows progress.
    halt
        Ends the work; a later run goes on.

    """

    def __init__(
        self, origin: Origin, folder: Path, terms: Terms, *, limit: RateLimit, bar: ShardBar, halt: Halt
    ) -> None:
        self._origin = origin
        self.places = Places(folder, origin.name)
        self._terms = terms
        self._limit = limit
        self._bar = bar
        self._halt = halt
        self._expected_md5 = expected_md5(origin.name, terms.checksums)

    def run(self, *, skip_deleted: bool = False) -> DownloadedShard | None:
        """Download it, unless it is there.

        Parameters
        ----------
        skip_deleted
            Give None for a shard that an earlier run finished and deleted.

        Raises
        ------
        SourceError
            It cannot be had or is not what it should be; ``reason`` says why.
        LinkExpiredError
            The link is past its time.
        HaltedError
            It was called off.

        """
        make_folder(self.places.hidden)
        try:
            with ShardLock(self.places.lock, self._halt):
                receipt = read_receipt(self.places.receipt)
                if skip_deleted and receipt and receipt.deleted and not self.places.final.exists():
                    return None
                return self._accept_existing(receipt) or self._download()
        except OSError as error:
            if isinstance(error, SourceError) or error.errno is None:
                raise
            raise disk_problem(error, self.places.final, self._origin.name) from None
        finally:
            self._bar.close()

    def delete(self) -> None:
        """Delete the finished file, and remember that it was finished."""
        if receipt := read_receipt(self.places.receipt):
            write_receipt(self.places.receipt, replace(receipt, deleted=True))
        self.places.final.unlink(missing_ok=True)

    def failure(self, error: Exception) -> DownloadedShard:
        """Give the result of a download that failed."""
        origin = self._origin
        return DownloadedShard(
            origin.number, origin.name, self.places.final, "failed", num_fetched=self._bar.num_bytes, error=error
        )

    def _accept_existing(self, receipt: Receipt | None) -> DownloadedShard | None:
        final = self.places.final
        if not final.exists():
            return None
        if receipt and receipt.fits(final) and self._expected_md5 in {None, receipt.md5}:
            return self._result(receipt.status, receipt.size, receipt.md5)
        report = self._check(final)
        if report.is_ok:
            self._write_receipt(final, report)
            return self._result(report.status, report.size or 0, report.md5)
        final.replace(self.places.rejected)
        _LOG.warning("%s; it is now %s and is downloaded again", report.message, self.places.rejected)
        return None

    def _download(self) -> DownloadedShard:
        check_links([self._origin])
        try:
            self._fetch()
        except SourceChangedError as error:
            # Pieces of the file that is no more are worthless: begin again, once.
            _LOG.warning("%s; beginning again", error)
            self._discard()
            self._fetch()
        report = self._check(self.places.part)
        if not report.is_ok and self._has_rotten_pieces():
            self._fetch()
            report = self._check(self.places.part)
        if not report.is_ok:
            self._reject(report)
        self._publish(report)
        return self._result(report.status, report.size or 0, report.md5)

    def _fetch(self) -> None:
        """Bring the part file to its full length."""
        try:
            self._fetch_from(Halt(self._halt))
        except SA1BError as error:
            problem = self._with_advice(error)
        else:
            return
        # Frames further in have signed URLs in their locals, which some tools print with a traceback.
        raise problem.with_traceback(None)

    def _fetch_from(self, halt: Halt) -> None:
        terms = self._terms
        remote = Remote(
            self._origin.location,
            retries=terms.retries,
            timeout=terms.timeout,
            storage_options=terms.storage_options,
            token=terms.token,
            sleep=halt.sleep,
        )
        line = Line(terms.connections, terms.retries, terms.timeout, self._limit, self._bar.arrived)
        found = remote.probe()
        self._check_size(remote, found.size)
        if found.size is None:
            self._discard()
            check_space(self.places.hidden, MEAN_SIZE, shard=self._origin.name)
            self._bar.start(None, 0)
            fetch_unsized(remote, found, self.places.part, line=line, halt=halt)
        elif terms.engine == "aria2c":
            self._fetch_by_aria2c(remote, found, found.size, line, halt)
        else:
            self._fetch_pieces(remote, found, found.size, line, halt)

    def _fetch_pieces(self, remote: Remote, found: Found, size: int, line: Line, halt: Halt) -> None:
        places = self.places
        key = Key(self._origin.name, remote.path, size, PIECE, found.etag, found.modified)
        before, recorded = read_journal(places.journal)
        if before != key:
            if before is not None:
                _LOG.warning("%s: %s is another file than the one that was begun", key.name, remote.location)
            self._discard()
            recorded = {}
        pieces = check_pieces(places.part, key, recorded, self._halt)
        done = sum(end - start for start, end in map(key.span, pieces))
        check_space(places.hidden, size - done, shard=key.name)
        self._bar.start(size, done)
        open_part(places.part, size=size).close()
        with Journal(places.journal, key, pieces) as journal:
            if len(pieces) < key.num_pieces:
                Fetch(remote, found, places.part, journal, set(pieces), line=line, halt=halt).run()
        if found.etag is found.modified is self._expected_md5 is None and found.takes_ranges:
            spot_check(remote, found, places.part, key)

    def _fetch_by_aria2c(self, remote: Remote, found: Found, size: int, line: Line, halt: Halt) -> None:
        places = self.places
        key = Key(self._origin.name, remote.path, size, PIECE, found.etag, found.modified)
        if read_journal(places.aria2c_journal)[0] != key or not found.takes_ranges:
            self._discard()
        Journal(places.aria2c_journal, key, {}).close()
        done = min(allocated(places.aria2c_part), size)
        check_space(places.hidden, size - done, shard=key.name)
        self._bar.start(size, done)
        run_aria2c(remote, places.aria2c_part, size, line=line, halt=halt)
        # It does not notice when a file is replaced under its hands.
        if remote.probe() != found:
            raise changed(remote.location, "its size, ETag or Last-Modified is another than at the beginning")
        if found.takes_ranges:
            spot_check(remote, found, places.aria2c_part, key)
        places.journal.unlink(missing_ok=True)
        places.aria2c_part.replace(places.part)
        places.aria2c_journal.unlink()

    def _check_size(self, remote: Remote, size: int | None) -> None:
        """Refuse a file by its length before the first of its 11 GB."""
        info = shard_info(self._origin.number) if self._terms.checksums == CATALOGUE else None
        if size == 0:
            raise self._refused(f"{remote.location}: expected a shard, found an empty file", "empty")
        if info is None or size is None or size == info.size_bytes:
            return
        bad = next((bad for bad in info.known_bad if bad.size_bytes == size), None)
        if bad is not None:
            # The good file may have the same length: only the MD5 can tell.
            _LOG.warning("%s: it has the length of a known bad copy, and maybe %s", remote.location, bad.advice)
        elif info.size_bytes is not None:
            raise self._refused(
                f"{remote.location}: expected {info.size_bytes:,} bytes, found {size:,}: not the original file; use "
                "Meta's links file, or pass checksums=None (--no-md5) to accept a copy that was packed anew",
                "wrong-length",
            )

    def _check(self, path: Path) -> ShardReport:
        self._bar.start(path.stat().st_size, 0, "checking")
        try:
            return verify_shard(
                path, name=self._origin.name, checksums=self._terms.checksums, on_bytes=self._make_counter()
            )
        finally:
            self._bar.close()

    def _make_counter(self) -> Callable[[int], None]:
        def count(num_bytes: int) -> None:
            self._halt.check()
            self._bar.checked(num_bytes)

        return count

    def _has_rotten_pieces(self) -> bool:
        """Tell whether the disk gives other bytes than those that were written."""
        key, recorded = read_journal(self.places.journal)
        return key is not None and len(check_pieces(self.places.part, key, recorded, self._halt)) < key.num_pieces

    def _reject(self, report: ShardReport) -> None:
        self.places.part.replace(self.places.rejected)
        self._discard()
        raise self._refused(
            f"{report.message}. What was downloaded is kept as {self.places.rejected} (it can be read with "
            "on_error='warn', or deleted); the next run begins anew",
            report.reason or report.status,
        )

    def _publish(self, report: ShardReport) -> None:
        places = self.places
        with open_part(places.part) as file:
            os.fsync(file.fileno())
        # The receipt comes first: if the power fails in between, it speaks of a file that is not there yet.
        self._write_receipt(places.part, report)
        publish(places.part, places.final)
        self._discard()

    def _write_receipt(self, path: Path, report: ShardReport) -> None:
        stat = path.stat()
        receipt = Receipt(self._origin.name, stat.st_size, stat.st_mtime_ns, report.status, report.md5)
        write_receipt(self.places.receipt, receipt)

    def _discard(self) -> None:
        places = self.places
        part = places.aria2c_part
        for path in (places.journal, places.part, places.aria2c_journal, part, control_file(part)):
            path.unlink(missing_ok=True)

    def _result(self, status: Status, size: int, md5: str | None) -> DownloadedShard:
        origin = self._origin
        return DownloadedShard(
            origin.number, origin.name, self.places.final, status, size, md5, num_fetched=self._bar.num_bytes
        )

    def _with_advice(self, error: SA1BError) -> SA1BError:
        if not self._origin.is_link or not isinstance(error, SourceError) or error.reason not in _LINK_REFUSED:
            return error
        return self._refused(
            f"{error.message}. Links are good for about 30 days: get a fresh links file from {DOWNLOADS_PAGE} and run "
            "again with it; what is already there is kept and goes on",
            error.reason,
        )

    def _refused(self, message: str, reason: str) -> SourceError:
        return SourceError(message, reason=reason, shard=self._origin.name)
