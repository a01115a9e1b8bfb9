"""Iterators that nobody reads to the end, closed while the interpreter is still whole.

A script that leaves a stream half read would otherwise end with messages about clean-up code that met an interpreter
without modules.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
from collections.abc import Callable, Generator, Iterator
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

__all__ = ["closed_at_exit"]

_Parameters = ParamSpec("_Parameters")
_Item = TypeVar("_Item")

_open: WeakSet[Generator[Any, None, None]] = WeakSet()


def closed_at_exit(function: Callable[_Parameters, Iterator[_Item]]) -> Callable[_Parameters, Iterator[_Item]]:
    """Let a generator function's generators be closed when the interpreter ends."""

    @functools.wraps(function)
    def begin(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Iterator[_Item]:
        generator = function(*args, **kwargs)
        _open.add(generator)  # type: ignore[arg-type]
        return generator

    return begin


@atexit.register
def _close_all() -> None:
    for generator in list(_open):
        with contextlib.suppress(Exception):  # one that runs in another thread cannot be closed
            generator.close()
