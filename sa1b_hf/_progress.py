"""Progress bars of a download: one for everything, one for each shard under way."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from tqdm.auto import tqdm

__all__ = ["Progress", "ShardBar"]

_TRUE = frozenset({"1", "ON", "YES", "TRUE"})


class Progress:
    """The bar for everything; what silences the bars of `datasets` silences it too.

    Parameters
    ----------
    total
        Bytes expected in all.
    enabled
        False shows nothing, and counts all the same.

    Attributes
    ----------
    num_bytes
        Bytes that arrived.
    num_left
        Bytes that are still to arrive.

    """

    def __init__(self, total: int, *, enabled: bool) -> None:
        self.enabled = enabled
        self.num_bytes = 0
        self.num_left = total
        self.lock = threading.Lock()
        self._began = time.monotonic()
        self._bar = make_bar(total, "SA-1B", enabled=enabled)

    @property
    def rate(self) -> float:
        """Bytes per second since the beginning."""
        return self.num_bytes / max(time.monotonic() - self._began, 1e-6)

    def expect(self, more: int) -> None:
        """Change the total."""
        with self.lock:
            self.num_left += more
            if self._bar is not None:
                self._bar.total += more

    def found(self, count: int) -> None:
        """Count bytes that were there already, which say nothing about the rate."""
        with self.lock:
            self.num_left -= count
            if self._bar is not None:
                self._bar.initial += count
                self._bar.update(count)

    def arrived(self, count: int) -> None:
        """Count bytes that arrived; the caller holds `lock`."""
        self.num_bytes += count
        self.num_left -= count
        if self._bar is not None:
            self._bar.update(count)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


class ShardBar:
    """The bar of one shard.

    Parameters
    ----------
    progress
        The bar for everything.
    name
        Of the shard.
    expected
        Bytes that the total of `progress` already holds for it.

    Attributes
    ----------
    num_bytes
        Bytes that arrived for this shard.

    """

    def __init__(self, progress: Progress, name: str, expected: int) -> None:
        self.num_bytes = 0
        self._progress = progress
        self._name = name
        self._expected = expected
        self._bar: Any = None

    def start(self, total: int | None, done: int, phase: str = "") -> None:
        """Begin a phase: fetching, or checking."""
        self.close()
        if not phase and total is not None:
            self._progress.expect(total - self._expected)
            self._expected = total
            self._progress.found(done)
        self._bar = make_bar(total, f"{self._name} {phase}".strip(), enabled=self._progress.enabled, initial=done)

    def arrived(self, count: int) -> None:
        """Count bytes that arrived, from any thread."""
        with self._progress.lock:
            self.num_bytes += count
            self._progress.arrived(count)
            self._advance(count)

    def checked(self, count: int) -> None:
        """Count bytes that were checked."""
        with self._progress.lock:
            self._advance(count)

    def _advance(self, count: int) -> None:
        if self._bar is not None:
            self._bar.update(count)

    def close(self) -> None:
        """Remove the bar."""
        with self._progress.lock:
            bar, self._bar = self._bar, None
            if bar is not None:
                bar.close()


def make_bar(total: int | None, title: str, *, enabled: bool, initial: int = 0) -> Any:
    """Make one bar that counts bytes; None if bars are not wanted."""
    if not enabled or are_bars_disabled():
        return None
    return tqdm(total=total, initial=initial, desc=title, unit="B", unit_scale=True, leave=False)


def are_bars_disabled() -> bool:
    """Tell whether bars of `datasets` are switched off, without importing it for that."""
    if (library := sys.modules.get("datasets.utils")) is not None:
        return bool(library.are_progress_bars_disabled())
    return os.environ.get("HF_DATASETS_DISABLE_PROGRESS_BARS", "").upper() in _TRUE
