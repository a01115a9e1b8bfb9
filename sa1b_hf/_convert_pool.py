"""Many shards at once: a pool of processes, one bar, and an end that leaves nothing half-done."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any, Final

from datasets.utils import are_progress_bars_disabled, tqdm

from ._convert_options import ConvertOptions
from ._convert_shard import ShardJob
from ._halt import Halt, HaltedError
from ._manifest import Manifest
from .catalog import shard_info
from .errors import SA1BError, ShardError
from .sources import ShardSource

__all__ = ["Done", "Failure", "convert_shards", "run_job"]

_POLL: Final = 0.2
_GRACE: Final = 5.0


@dataclass(frozen=True)
class Done:
    """A shard that is complete.

    Attributes
    ----------
    manifest
        Of it.
    was_done
        It was complete before.

    """

    manifest: Manifest
    was_done: bool


@dataclass(frozen=True)
class Failure:
    """A shard that could not be converted.

    Attributes
    ----------
    shard
        Name.
    error
        Why.

    """

    shard: str
    error: SA1BError


def convert_shards(
    shards: Sequence[ShardSource], out: Path, options: ConvertOptions, num_proc: int, *, progress: bool
) -> Iterator[Done | Failure]:
    """Convert shards, in one or more processes.

    Yields
    ------
    Done or Failure
        As they come.

    Raises
    ------
    ShardError, RecordError
        With ``on_error="raise"`` the first failure; a worker that died (``reason="worker-died"``) always.

    """
    bar = _Bar(shards, enabled=progress)
    pool = _in_turn if num_proc == 1 or len(shards) < 2 else _in_processes  # noqa: PLR2004
    try:
        for done in pool(shards, out, options, bar, min(num_proc, len(shards))):
            if isinstance(done, Failure) and options.read.on_error == "raise":
                raise done.error
            yield done
    finally:
        bar.close()


class _Bar:
    """Images of all shards, with the bytes written and the shards under way behind them."""

    def __init__(self, shards: Sequence[ShardSource], *, enabled: bool) -> None:
        self._bytes = 0
        self._now: dict[str, int] = {}
        self._bar: Any = None
        if enabled and not are_progress_bars_disabled():
            known = [shard_info(one.number).num_images if one.number is not None else None for one in shards]
            total = None if None in known else sum(count for count in known if count is not None)
            self._bar = tqdm(total=total, desc="SA-1B", unit="img", leave=False)

    def advance(self, shard: str, images: int, size: int) -> None:
        self._bytes += size
        self._now[shard] = self._now.get(shard, 0) + images
        if self._bar is not None:
            under_way = " ".join(f"{name} {count:,}" for name, count in self._now.items())
            self._bar.set_postfix_str(f"{self._bytes / 1e9:.2f} GB written; {under_way}", refresh=False)
            self._bar.update(images)

    def leave(self, shard: str) -> None:
        self._now.pop(shard, None)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _in_turn(
    shards: Sequence[ShardSource], out: Path, options: ConvertOptions, bar: _Bar, _num_proc: int
) -> Iterator[Done | Failure]:
    for shard in shards:
        job = ShardJob(shard, out, options, lambda images, size, name=shard.name: bar.advance(name, images, size))  # type: ignore[misc]
        yield run_job(job)
        bar.leave(shard.name)


def run_job(job: ShardJob) -> Done | Failure:
    """Convert a shard; what is wrong with it comes back as a value, which other processes can send."""
    try:
        manifest = job.run()
    except SA1BError as error:
        return Failure(job.source.name, error)
    return Done(manifest, job.was_done)


# ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _in_processes(
    shards: Sequence[ShardSource], out: Path, options: ConvertOptions, bar: _Bar, num_proc: int
) -> Iterator[Done | Failure]:
    context: SpawnContext = multiprocessing.get_context("spawn")
    # A plain flag: an event waits for each of its waiters to wake, and one that was killed never does.
    news, halt = context.Queue(), context.Value("b", 0, lock=False)
    pool = ProcessPoolExecutor(num_proc, context, _begin_worker, (news, halt))
    try:
        waiting: dict[Future[Done | Failure], str] = {
            pool.submit(_work, shard, out, options): shard.name for shard in shards
        }
        while waiting:
            finished, _ = wait(waiting, _POLL, FIRST_COMPLETED)
            _tell(news, bar)
            for future in finished:
                name = waiting.pop(future)
                bar.leave(name)
                yield _result(future, [name, *waiting.values()])
    finally:
        halt.value = 1
        pool.shutdown(wait=True, cancel_futures=True)
        news.close()


def _result(future: Future[Done | Failure], names: list[str]) -> Done | Failure:
    try:
        return future.result()
    except BrokenProcessPool:
        message = (
            f"a worker process died, killed from outside or out of memory, while {len(names)} shards were left "
            f"({', '.join(names[:8])} …); what is complete stays: run again, with fewer processes if memory was short"
        )
        raise ShardError(message, reason="worker-died") from None


def _tell(news: Any, bar: _Bar) -> None:
    while True:
        try:
            bar.advance(*news.get_nowait())
        except queue.Empty:
            return


_worker: dict[str, Any] = {}


def _begin_worker(news: Any, halt: Any) -> None:
    # Ctrl-C reaches every process of the terminal; the first one tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.update(news=news, halt=halt, switch=Halt())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threading.Thread(target=_end_when_halted, daemon=True).start()


def _end_with_parent() -> None:
    """Do not outlive a process that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end_when_halted() -> None:
    """Do not wait for a server that takes minutes to answer when the work was called off."""
    while not _worker["halt"].value:
        time.sleep(_POLL)
    _worker["switch"].set()
    time.sleep(_GRACE)
    os._exit(1)


def _work(shard: ShardSource, out: Path, options: ConvertOptions) -> Done | Failure:
    def watch(images: int, size: int) -> None:
        if _worker["halt"].value:
            raise HaltedError
        _worker["news"].put((shard.name, images, size))

    return run_job(ShardJob(shard, out, options, watch, _worker["switch"]))
