"""One small pool of threads for the kernels, which release the GIL: made when first needed, made anew after a fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["run_together"]

_pool: ThreadPoolExecutor | None = None


def run_together(kernel: Callable[..., Any], arguments: tuple[Any, ...], threads: int) -> None:
    """Call a kernel in this thread and ``threads - 1`` others at once; its arguments make the calls share the work."""
    others = [_get_pool().submit(kernel, *arguments) for _ in range(threads - 1)]
    try:
        kernel(*arguments)
    finally:
        for other in others:
            other.result()


def _get_pool() -> ThreadPoolExecutor:
    global _pool  # noqa: PLW0603 (one pool for the process)
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="sa1b_hf-rle")
    return _pool


def _forget_pool() -> None:
    global _pool  # noqa: PLW0603 (the same; its threads did not survive the fork)
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
