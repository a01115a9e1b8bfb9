"""Memory while streaming: resident bytes after every thousand of many examples, from small shards read again and again.

    python benchmarks/bench_memory.py [--examples 10000] [--decode]

Exits with status 1 if memory after the first thousand examples moves by more than five percent.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

import sa1b_hf
from sa1b_hf.testing import make_shard

BAR = 0.05
STEP = 1000


def resident_bytes() -> int:
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # elsewhere only the peak is known
    return peak if sys.platform == "darwin" else peak << 10


def iter_examples(folder: Path, *, decode: bool) -> Iterator[Any]:
    """Examples without end: pass after pass over the same dataset, as in training."""
    ds = datasets.load_dataset("sa1b.py", data_dir=str(folder), split="train", streaming=True)
    if decode:
        ds = sa1b_hf.DecodeMasks(size=256, max_masks=16).attach(ds)
    else:
        ds = ds.cast_column("image", datasets.Image(decode=False))
    while True:
        yield from ds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--decode", action="store_true", help="decode image and masks of each example too")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    os.environ["SA1B_HF_SHARDS"] = ""
    import logging

    logging.getLogger("sa1b_hf").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(4):
            path = Path(temporary) / f"sa_{number:06d}.tar"
            make_shard(path, first_id=1 + 1000 * number, num_images=250, preset="small", compression="gzip")
        samples: list[int] = []
        began = time.perf_counter()
        print("| examples | RSS MB | against the first thousand |\n|--:|--:|--:|")
        for count, _ in enumerate(iter_examples(Path(temporary), decode=options.decode), start=1):
            if count % STEP == 0:
                gc.collect()
                samples.append(resident_bytes())
                print(f"| {count:,} | {samples[-1] / 1e6:.1f} | {samples[-1] / samples[0] - 1:+.1%} |", flush=True)
            if count >= options.examples:
                break
        seconds = time.perf_counter() - began
    worst = max((abs(sample / samples[0] - 1) for sample in samples), default=0.0)
    print(f"\n{options.examples:,} examples in {seconds:.0f} s")
    print(f"bar ±{BAR:.0%}: {worst:.1%} {'ok' if worst <= BAR else 'MISSED'}")
    raise SystemExit(worst > BAR)


if __name__ == "__main__":
    main()
