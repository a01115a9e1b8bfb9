"""Download shards: resumable, verified, over several connections; or one after the other to process and delete."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, Literal

from ._aria2c import check_aria2c
from ._disk import allocated, check_space, make_folder
from ._forecast import forecast_expiry
from ._halt import Halt, RateLimit
from ._origins import Origin, check_links, choose_shards, find_origins
from ._progress import Progress, ShardBar
from ._receipt import Places, read_receipt
from ._shard_download import ShardDownload
from ._terms import MEAN_SIZE, DownloadedShard, Terms
from .catalog import shard_info
from .errors import ConfigError, LinkExpiredError, SA1BError, ShardError
from .verify import CATALOGUE, expected_md5

__all__ = ["DownloadOptions", "DownloadedShard", "download"]

_LOG = logging.getLogger("sa1b_hf.download")
_FORECAST_AFTER: Final = 60.0
# Faults that all other shards would meet too.
_COMMON: Final = frozenset({"http-401", "http-403", "http-410", "disk-full", "read-only"})


@dataclass(frozen=True)
class DownloadOptions(Terms):
    """How to download.

    Attributes
    ----------
    connections
        Per shard; they share its missing pieces out among themselves.
    retries
        Attempts in a row, of one connection, that may fail without a byte gained.
    timeout
        Seconds without a byte after which a connection counts as dropped.
    checksums
        MD5 by shard name, ``"catalogue"`` for those that come with the package, or None to accept any whole shard.
    storage_options, token
        As in `sa1b_hf.transport.open_raw`.
    engine
        ``"builtin"``, or ``"aria2c"`` to leave the fetching of ``http(s)://`` addresses to that program, if it is
        installed. What arrived is checked in the same way; `max_rate` is divided evenly among `shards_at_once`.
    shards_at_once
        How many shards to download at a time; with ``delete_after`` also how many are on the disk at most.
    max_rate
        Bytes per second of everything together, None for no limit.
    on_error
        ``"raise"``: the first shard that fails ends the run. ``"warn"``: it is yielded as ``status="failed"`` and the
        others go on; what would concern them too (a refused link, a full disk) is raised all the same.
    progress
        Show progress bars.

    """

    shards_at_once: int = 2
    max_rate: float | None = None
    on_error: Literal["raise", "warn"] = "raise"
    progress: bool = True

    def __post_init__(self) -> None:
        for name, least in (("connections", 1), ("shards_at_once", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected {least} or more, found {getattr(self, name)}")
        if not self.timeout > 0:
            raise ConfigError(f"timeout: expected seconds above 0, found {self.timeout}")
        if self.max_rate is not None and not self.max_rate > 0:
            raise ConfigError(f"max_rate: expected bytes per second above 0, found {self.max_rate}")
        if self.engine not in {"builtin", "aria2c"}:
            raise ConfigError(f"engine: expected 'builtin' or 'aria2c', found {self.engine!r}")
        if self.on_error not in {"raise", "warn"}:
            raise ConfigError(f"on_error: expected 'raise' or 'warn', found {self.on_error!r}")
        expected_md5("sa_000000", self.checksums)


def download(
    folder: str | os.PathLike[str],
    *,
    links: str | os.PathLike[str] | None = None,
    source: str | os.PathLike[str] | None = None,
    subset: str | None = None,
    shards: str | int | Iterable[int] | None = None,
    delete_after: bool = False,
    options: DownloadOptions | None = None,
) -> Iterator[DownloadedShard]:
    """Download shards, and give each as soon as it is in place and checked.

    A run that was ended, by whatever, is continued by the same call: finished shards are recognised, begun ones go on
    piece by piece, also with a renewed links file.

    Parameters
    ----------
    folder
        Where the shards go, as ``sa_000020.tar``. Unfinished ones are in its hidden folder ``.sa1b``.
    links
        Path of a links file. This or `source` is needed.
    source
        Folder or URL of a folder, or a template with ``{file}``, ``{name}`` or ``{number}``; ``hf://datasets/…``,
        ``s3://…``, ``https://…``, a local path.
    subset
        ``"1pct"``, ``"10pct"`` or ``"full"``. This or `shards` is needed.
    shards
        Numbers and ranges such as ``"0-9,20"``.
    delete_after
        Delete each shard when the next one is asked for, that is, after the body of the ``for`` statement has done
        with it; a body that raises or breaks keeps it. A later run knows which shards were done.
    options
        See `DownloadOptions`.

    Yields
    ------
    DownloadedShard
        In the order in which they are complete.

    Raises
    ------
    ConfigError, LinksError, MissingShardsError
        At once: see `sa1b_hf._origins`; or the program of the engine is not installed.
    LinkExpiredError
        At once, before a byte is sent.
    SourceError
        A shard cannot be had or is not what it should be (``on_error="raise"``); ``reason`` is as in
        `sa1b_hf.transport.open_raw`, or ``"wrong-length"``, ``"wrong-md5"``, ``"known-bad"``, ``"disk-full"``,
        ``"read-only"``, ``"locked"``, ``"too-slow"``, ``"empty"``, or a reason of `sa1b_hf.tar.iter_members`.

    Examples
    --------
    >>> import tempfile
    >>> from sa1b_hf.testing import make_shard
    >>> mirror = Path(tempfile.mkdtemp())
    >>> manifest = make_shard(mirror / "sa_000000.tar")
    >>> options = DownloadOptions(checksums=None, progress=False)
    >>> for shard in download(mirror / "shards", source=mirror, shards=0, options=options):
    ...     print(shard.name, shard.status)
    sa_000000 complete-unverified

    """
    options = options or DownloadOptions()
    origins = find_origins(choose_shards(subset, shards), links=links, source=source)
    return _Run(Path(folder), origins, options, delete_after=delete_after).start()


class _Run:
    """The download of several shards."""

    def __init__(
        self, folder: Path, origins: Sequence[Origin], options: DownloadOptions, *, delete_after: bool
    ) -> None:
        self._folder = folder
        self._options = options
        self._delete_after = delete_after
        self._halt = Halt()
        self._limit = RateLimit(options.max_rate, num_shares=options.shards_at_once)
        # Finished shards first: a rerun gives them at once.
        self._waiting = deque(sorted(origins, key=lambda origin: not self._is_finished(origin)))
        self._running: dict[Future[DownloadedShard | None], ShardDownload] = {}
        self._warned = False
        self._began = time.monotonic()

    def start(self) -> Iterator[DownloadedShard]:
        """Check what can be checked beforehand."""
        missing = [origin for origin in self._waiting if not self._is_finished(origin)]
        if self._options.engine == "aria2c":
            check_aria2c()
        check_links(missing)
        make_folder(self._folder)
        self._check_disk(missing)
        self._progress_total = sum(map(_size, missing))
        return self._run()

    def _is_finished(self, origin: Origin) -> bool:
        places = Places(self._folder, origin.name)
        receipt = read_receipt(places.receipt)
        return receipt is not None and (receipt.fits(places.final) or (self._delete_after and receipt.deleted))

    def _check_disk(self, missing: Sequence[Origin]) -> None:
        """Refuse what cannot fit before the first byte; what was begun has its blocks already."""
        needed = [max(_size(origin) - allocated(Places(self._folder, origin.name).part), 0) for origin in missing]
        if self._options.checksums != CATALOGUE:
            return  # shards of unknown origin may be much smaller; each is checked when its size is known
        at_once = self._options.shards_at_once if self._delete_after else len(needed)
        check_space(self._folder, sum(sorted(needed, reverse=True)[:at_once]))

    def _run(self) -> Iterator[DownloadedShard]:
        self._progress = Progress(self._progress_total, enabled=self._options.progress)
        pool = ThreadPoolExecutor(self._options.shards_at_once, thread_name_prefix="sa1b-download")
        try:
            self._fill(pool)
            while self._running:
                # In short waits, because on some systems Ctrl-C does not interrupt a long one.
                ended, _ = wait(self._running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield from self._deliver(future, pool)
                self._fill(pool)
                self._forecast()
        finally:
            self._halt.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._progress.close()

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        while self._waiting and len(self._running) < self._options.shards_at_once:
            origin = self._waiting.popleft()
            expected = 0 if self._is_finished(origin) else _size(origin)
            bar = ShardBar(self._progress, origin.name, expected)
            job = ShardDownload(origin, self._folder, self._options, limit=self._limit, bar=bar, halt=self._halt)
            self._running[pool.submit(job.run, skip_deleted=self._delete_after)] = job

    def _deliver(self, future: Future[DownloadedShard | None], pool: ThreadPoolExecutor) -> Iterator[DownloadedShard]:
        job = self._running.pop(future)
        error = future.exception()
        if error is not None:
            yield self._failed(job, error)
            return
        result = future.result()
        if result is None:
            return
        if not self._delete_after:
            self._fill(pool)
        yield result
        if self._delete_after:
            job.delete()

    def _failed(self, job: ShardDownload, error: BaseException) -> DownloadedShard:
        concerns_all = isinstance(error, (LinkExpiredError, ConfigError)) or (
            isinstance(error, ShardError) and error.reason in _COMMON
        )
        if self._options.on_error == "raise" or concerns_all or not isinstance(error, SA1BError):
            raise error
        _LOG.warning("%s", error)
        return job.failure(error)

    def _forecast(self) -> None:
        if self._warned or time.monotonic() - self._began < _FORECAST_AFTER:
            return
        waiting = [(origin, _size(origin)) for origin in self._waiting]
        ahead = max(self._progress.num_left - sum(size for _, size in waiting), 0)
        if sentence := forecast_expiry(waiting, self._progress.rate, datetime.now(timezone.utc), ahead=ahead):
            self._warned = True
            _LOG.warning("%s", sentence)


def _size(origin: Origin) -> int:
    return shard_info(origin.number).size_bytes or MEAN_SIZE
