"""A process that has imported everything and forks a child for each push, so that killing many is quick.

Reads lines of JSON: ``{"folder", "repo", "endpoint", "token"}``. Answers a line with the child's process id, which begins
to push then, and a line with its exit status (-9 for killed).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import datasets  # noqa: E402
import huggingface_hub  # noqa: E402, F401

from sa1b_hf import hub  # noqa: E402

COMMIT_FILES = 2


def run(order: dict) -> None:
    """Push what an order says."""
    datasets.disable_progress_bars()
    hub._COMMIT_FILES = COMMIT_FILES
    hub.push(order["folder"], order["repo"], endpoint=order["endpoint"], token=order["token"], include_images=True)


def main() -> None:
    """Fork a child for each line."""
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            status = 1
            try:
                run(json.loads(line))
                status = 0
            finally:
                os._exit(status)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
