"""Both ends of a process that has imported everything and forks a child for each order, so that killing many is quick.

Orders are lines of JSON, answers the exit statuses of the children, -9 for killed. ``children`` in an order says how many
there are, ``delay`` after how many seconds they are killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def serve(run: Callable[[dict], None]) -> None:
    """Fork children that run what each line of the standard input orders."""
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        children = []
        for _ in range(order.get("children", 1)):
            child = os.fork()
            if not child:
                status = 1
                try:
                    run(order)
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        if "delay" in order:
            time.sleep(order["delay"])
            for child in children:
                os.kill(child, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


class Zygote:
    """Starts a script that calls `serve`, and gives it orders."""

    def __init__(self, script: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(script))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        assert self._process.stdout.readline() == "ready\n"

    def order(self, **order: object) -> list[int]:
        """Give the exit status of each child."""
        self._process.stdin.write(json.dumps(order, default=str) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
