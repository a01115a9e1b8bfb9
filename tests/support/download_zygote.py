"""A process that has imported everything and forks a child for each download, so that killing many is quick.

Reads lines of JSON: ``{"folder", "url", "shards", "delay", "point", "nth", "after"}``. Each child downloads, and is
killed with SIGKILL after ``delay`` seconds, or by itself before or after the ``nth`` call of the function ``point``.
Answers a line with the exit status each time (-9 for killed).
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from sa1b_hf import _resume, _shard_download  # noqa: E402
from sa1b_hf.download import DownloadOptions, download  # noqa: E402
from support.zygote import serve  # noqa: E402

PIECE = 1 << 14


def arm(point: str, nth: int, after: bool) -> None:
    """Make a function kill the process."""
    module_name, _, path = point.partition(":")
    owner = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function = getattr(owner, name)
    left = nth

    def deadly(*args, **kwargs):
        nonlocal left
        left -= 1
        is_due = not left  # other threads call it too
        if is_due and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if is_due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def run(order: dict) -> None:
    """Download what an order says."""
    _shard_download.PIECE = PIECE
    _resume._BACKOFF = 0.002
    if order.get("point"):
        arm(order["point"], order["nth"], order["after"])
    options = DownloadOptions(
        connections=3, retries=3, timeout=2.0, progress=False, checksums=None, shards_at_once=order.get("at_once", 1)
    )
    for _ in download(order["folder"], source=order["url"], shards=order.get("shards", "0"), options=options):
        pass


if __name__ == "__main__":
    serve(run)
