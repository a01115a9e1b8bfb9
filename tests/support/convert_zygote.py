"""A process that has imported everything and forks a child for each conversion, so that killing many is quick.

Reads lines of JSON: ``{"source", "out", "options", "kill_at", "delay", "children"}``. Each child converts, and is killed
with SIGKILL after ``delay`` seconds, or by itself right before its ``kill_at``-th operation on the folder, counted from
1: opening a file to write, every tenth write, syncing, renaming, removing, making a folder. Answers a line with the exit status
each time (-9 for killed).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from sa1b_hf import _parts  # noqa: E402
from sa1b_hf.convert import ConvertOptions, process_shard  # noqa: E402
from support.zygote import serve  # noqa: E402

_EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def arm(kill_at: int, out: str) -> None:
    """Make this process kill itself before an operation."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple) -> None:
        if (event in _EVENTS and _is_below(arguments[0])) or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & _TO_WRITE and _is_below(arguments[0])
        ):
            step()

    def _is_below(path: object) -> bool:
        # removing a tree goes by handles of folders and bare names
        return isinstance(path, (str, os.PathLike)) and (os.fspath(path).startswith(out) or "/" not in os.fspath(path))

    fsync, write, writes = os.fsync, _parts.DraftFile.write, 0

    def deadly_fsync(handle: int) -> None:
        step()
        fsync(handle)

    def deadly_write(self: _parts.DraftFile, data: object) -> int:
        nonlocal writes
        writes += 1
        if writes % 10 == 1:
            step()
        return write(self, data)

    os.fsync, _parts.DraftFile.write = deadly_fsync, deadly_write
    sys.addaudithook(audit)


def run(order: dict) -> None:
    """Convert what an order says."""
    if order.get("kill_at"):
        arm(order["kill_at"], order["out"])
    process_shard(order["source"], order["out"], ConvertOptions(**order["options"]))


if __name__ == "__main__":
    serve(run)
