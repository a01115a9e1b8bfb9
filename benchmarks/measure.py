"""Run one contender in a fresh process and measure it from inside; also the script that this process runs."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from readers import CONTENDERS

_TIMEOUT = 3600
_MAX_ROWS_DESCRIBED = 100_000


@dataclass(frozen=True)
class Sample:
    """One pass.

    Attributes
    ----------
    images
        Delivered; 0 for contenders that give bytes.
    seconds, cpu_seconds
        Wall time, and user and system time of the process and its children, of a pass that follows another one:
        imports and first use of memory are not part of it.
    peak_rss
        Bytes, of the whole process.
    first_seconds
        Until the first example; None for contenders that give bytes.

    """

    images: int
    seconds: float
    cpu_seconds: float
    peak_rss: int
    first_seconds: float | None


class ContenderError(Exception):
    """A contender did not come to its end, or what it delivered was wrong."""


def measure(key: str, shard: Path, workdir: Path, *, warm_up: Path, reference: Path | None = None) -> Sample:
    """Measure one pass in a new process.

    Parameters
    ----------
    key
        Of the contender.
    shard
        What to read.
    workdir
        Where the contender's files may be; they are removed.
    warm_up
        A shard to read before.
    reference
        File with what the shard holds: a further, untimed pass is compared with it.

    Raises
    ------
    ContenderError
        The contender failed, or delivered something else than the reference.

    """
    checking = [] if reference is None else ["--reference", str(reference)]
    return Sample(**_run_process("measure", key, shard, workdir, ["--warm-up", str(warm_up), *checking]))


def describe(key: str, shard: Path, workdir: Path) -> str:
    """Say what a reader makes of a shard that it was not written for."""
    return str(_run_process("describe", key, shard, workdir, [])["words"])


def _run_process(task: str, key: str, shard: Path, workdir: Path, arguments: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=workdir, prefix="scratch-") as scratch:
        environment = {
            **os.environ,
            "HF_HOME": scratch,
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "TMPDIR": scratch,
            # no contender uses it, and `datasets` would import it
            "USE_TORCH": "0",
        }
        command = [sys.executable, __file__, task, key, str(shard), scratch, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        result = Path(scratch) / "result.json"
        if done.returncode or not result.is_file():
            raise ContenderError(f"{key}: exit status {done.returncode}\n{done.stderr[-2000:]}")
        return dict(json.loads(result.read_text()))


def _measure_here(key: str, shard: Path, scratch: Path) -> Sample:
    contender = CONTENDERS[key]
    images, first = 0, None
    cpu, started = _cpu_seconds(), time.perf_counter()
    for item in contender.run(shard, scratch):
        count = contender.count(item)
        if count and first is None:
            first = time.perf_counter() - started
        images += count
    seconds = time.perf_counter() - started
    return Sample(images, seconds, _cpu_seconds() - cpu, _peak_rss(), first)


def _describe_here(key: str, shard: Path, scratch: Path) -> str:
    rows = whole = 0
    try:
        for row in CONTENDERS[key].run(shard, scratch):
            rows += 1
            whole += row.get("jpg") is not None and row.get("json") is not None
            if rows > _MAX_ROWS_DESCRIBED:
                break
    except Exception as error:
        # `datasets` is apt to wrap a message in a tuple, or over lines
        text = " ".join(str(error).split())
        return f"{type(error).__name__} after {rows:,} rows: {text[:160]}"
    return f"no error; {rows:,} rows, of which {whole:,} have an image and its annotations"


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(chain.from_iterable((usage.ru_utime, usage.ru_stime) for usage in usages))


def _peak_rss() -> int:
    # On Linux ru_maxrss also counts the parent at the moment of the fork, VmHWM does not.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("measure", "describe"))
    parser.add_argument("key", choices=CONTENDERS)
    parser.add_argument("shard", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--warm-up", type=Path)
    parser.add_argument("--reference", type=Path)
    arguments = parser.parse_args()
    folders = {name: arguments.scratch / name for name in ("warm-up", "timed", "checked")}
    for folder in folders.values():
        folder.mkdir()
    if arguments.task == "describe":
        result: dict[str, Any] = {"words": _describe_here(arguments.key, arguments.shard, folders["timed"])}
    else:
        _measure_here(arguments.key, arguments.warm_up, folders["warm-up"])
        result = asdict(_measure_here(arguments.key, arguments.shard, folders["timed"]))
        if arguments.reference:
            from correctness import check, load_reference

            check(arguments.key, arguments.shard, folders["checked"], load_reference(arguments.reference))
    (arguments.scratch / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    _main()
