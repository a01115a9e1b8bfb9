"""Batches that shrink until they fit into memory, and work that is begun ahead of its turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from sa1b_hf.errors import ConfigError

from ._backend import torch

__all__ = ["AdaptiveBatch", "iter_ahead"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# Some backends, cuBLAS among them, raise a plain RuntimeError with one of these in its text.
_SIGNS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


class AdaptiveBatch:
    """Calls a function on ranges; a range that does not fit into the device's memory is halved, for good.

    Parameters
    ----------
    size
        Most items of a range.
    what
        The items, for the message when not even one fits.

    """

    def __init__(self, size: int, what: str) -> None:
        self.size = size
        self.what = what

    def run(self, function: Callable[[int, int], _Result], count: int) -> list[_Result]:
        """Call ``function(first, last)`` on ranges that cover `count` items, in order.

        Raises
        ------
        ConfigError
            Not even one item fits.

        """
        results, first = [], 0
        while first < count:
            last = min(count, first + self.size)
            failure = ""
            try:
                results.append(function(first, last))
                first = last
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise
                failure = str(error).partition("\n")[0]
            # Outside of the handler, whose traceback keeps the tensors of the failed call alive.
            if failure:
                self._shrink(last - first, failure)
        return results

    def _shrink(self, tried: int, failure: str) -> None:
        if tried <= 1:
            advice = "use a smaller resolution or model, or another device"
            raise ConfigError(f"expected memory for one of {self.what} at a time, found {failure}; {advice}")
        self.size = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def iter_ahead(function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int) -> Iterator[_Result]:
    """Give the results of a function in order, computed by threads a few items ahead of who asks for them."""
    if threads < 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Any]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sa1b-decode")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
