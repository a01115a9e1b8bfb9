"""What was used last, up to a number of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["ByteCache"]

_T = TypeVar("_T")


class ByteCache(Generic[_T]):
    """A cache that forgets what was not used for longest; safe to use from many threads.

    Parameters
    ----------
    capacity
        Bytes.
    size_of
        Gives the bytes of a value.

    """

    def __init__(self, capacity: int, size_of: Callable[[_T], int]) -> None:
        self._capacity = capacity
        self._size_of = size_of
        self._values: OrderedDict[Hashable, _T] = OrderedDict()
        self._lock = threading.Lock()
        self.num_bytes = 0

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Give a value, made anew if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        # two threads may both make it: that costs less than to let all wait for one
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self.num_bytes += self._size_of(value)
            while self.num_bytes > self._capacity and len(self._values) > 1:
                _, old = self._values.popitem(last=False)
                self.num_bytes -= self._size_of(old)
        return value
