"""A shard out of its layout: converting against the plain recipe, and reading the result in every way.

    PYTHONPATH=. python benchmarks/bench_convert.py [--images 300] [--rounds 3] [--workdir FOLDER]

The plain recipe is `tarfile` + `json.loads` + `Dataset.from_generator` + `to_parquet`, with the same features; its rows
are compared with ours. Every pass runs in a new process, after a pass over a tiny shard that loads what must be loaded.
Rates are medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import _cpu_seconds, _peak_rss
from readers import _tarfile_pairs
from shards import get_shard, warm_up

_TINY = 20
_MIB = 1 << 20
_BAR = 3.0
_MOST_READ_AT_RANDOM = 200

# ── making: called with a shard and an empty folder; each gives the number of images ────────────────────────────────


def _convert(**options: Any) -> Callable[[Path, Path], int]:
    def run(shard: Path, out: Path) -> int:
        from sa1b_hf import ReadOptions
        from sa1b_hf.convert import ConvertOptions, process_shard

        read = {name: options[name] for name in ("ram_cap", "inflate_threads") if name in options}
        rest = {name: value for name, value in options.items() if name not in read}
        return process_shard(shard, out, ConvertOptions(read=ReadOptions(**read), **rest)).report.delivered

    return run


def _plain_recipe(shard: Path, out: Path) -> int:
    from datasets import Dataset

    from sa1b_hf import sa1b_features

    def rows() -> Any:
        for stem, jpeg, document in _tarfile_pairs(json.loads, "r|gz", shard):
            image = {"bytes": jpeg, "path": f"{stem}.jpg"}
            yield {"image": image, **document["image"], "shard": shard.stem, "annotations": document["annotations"]}

    dataset = Dataset.from_generator(rows, features=sa1b_features(), cache_dir=str(out / "cache"))
    (out / "data").mkdir(parents=True)
    dataset.to_parquet(out / "data" / "plain.parquet")
    shutil.rmtree(out / "cache")
    return len(dataset)


def _extract(shard: Path, out: Path) -> int:
    with tarfile.open(shard) as tar:
        tar.extractall(out, filter="data")
    return len(list(out.glob("*.jpg")))


MAKERS: dict[str, tuple[str, Callable[[Path, Path], int]]] = {
    "plain": ("`tarfile` + `json.loads` + `from_generator` + `to_parquet`", _plain_recipe),
    "extract": ("`tarfile.extractall`", _extract),
    "parquet": ("**sa1b_hf, Parquet**", _convert()),
    "parquet-64": ("**sa1b_hf, Parquet, `ram_cap` 64 MiB**", _convert(ram_cap=64 * _MIB)),
    "webdataset": ("**sa1b_hf, WebDataset**", _convert(format="webdataset")),
    "annotations": ("**sa1b_hf, Parquet, annotations only**", _convert(image=False)),
    "resized": ("**sa1b_hf, Parquet, resized to 1024**", _convert(resize=1024)),
}

# ── reading: called with the folder of makers' results; each gives a function to time and how many images it reads ──


def _ids(folder: Path) -> list[int]:
    ids = [int(path.stem[3:]) for path in (folder / "extract").glob("*.jpg")]
    random.Random(0).shuffle(ids)
    return ids[:_MOST_READ_AT_RANDOM]


def _read_parquet(folder: Path, _: Path, **options: Any) -> int:
    from datasets import Image, load_dataset

    files = sorted(str(path) for path in (folder / "parquet").glob("data/train/*.parquet"))
    dataset = load_dataset("parquet", data_files=files, split="train", streaming=True, **options)
    return sum(1 for _row in dataset.cast_column("image", Image(decode=False)))


def _read_parquet_unbuffered(folder: Path, shard: Path) -> int:
    from pyarrow.dataset import ParquetFragmentScanOptions

    return _read_parquet(folder, shard, fragment_scan_options=ParquetFragmentScanOptions(pre_buffer=False))


def _read_parquet_batches(folder: Path, _: Path) -> int:
    from datasets import load_dataset

    files = sorted(str(path) for path in (folder / "parquet").glob("data/train/*.parquet"))
    dataset = load_dataset("parquet", data_files=files, split="train", streaming=True).with_format("arrow")
    return sum(table.num_rows for table in dataset.iter(batch_size=16))


def _read_shard(_: Path, shard: Path) -> int:
    from datasets import Image

    import sa1b_hf

    dataset = sa1b_hf.load_dataset(data_files=str(shard), split="train", streaming=True)
    return sum(1 for _row in dataset.cast_column("image", Image(decode=False)))


def _read_files(folder: Path, _: Path) -> int:
    return sum(_read_pair(path) for path in sorted((folder / "extract").glob("*.json")))


def _read_pair(path: Path) -> int:
    json.loads(path.read_bytes())
    return bool(path.with_suffix(".jpg").read_bytes())


def _random_parquet(folder: Path, _: Path) -> int:
    from sa1b_hf.dataset_index import ConvertedDataset

    dataset = ConvertedDataset(folder / "parquet")
    return sum(dataset.by_id(image_id)["image_id"] == image_id for image_id in _ids(folder))


def _random_shard(folder: Path, shard: Path) -> int:
    from sa1b_hf.shard import SA1BShard

    with SA1BShard(shard, folder / "shard.index", shard=shard.stem) as found:
        return sum(found.by_id(image_id)["image_id"] == image_id for image_id in _ids(folder))


def _random_files(folder: Path, _: Path) -> int:
    return sum(_read_pair(folder / "extract" / f"sa_{image_id}.json") for image_id in _ids(folder))


READERS: dict[str, tuple[str, Callable[[Path, Path], int]]] = {
    "stream-shard": ("the shard, streamed rows", _read_shard),
    "stream-files": ("extracted files, `json.loads`", _read_files),
    "stream-parquet": ('**converted, `load_dataset("parquet")`, streamed rows**', _read_parquet),
    "stream-parquet-unbuffered": ("**the same with `pre_buffer=False`**", _read_parquet_unbuffered),
    "stream-parquet-batches": ("**converted, streamed Arrow batches**", _read_parquet_batches),
    "random-shard": ("the shard, at random, `SA1BShard`", _random_shard),
    "random-files": ("extracted files, at random", _random_files),
    "random-parquet": ("**converted, at random, `ConvertedDataset`**", _random_parquet),
}

# ── one pass, in its own process ────────────────────────────────────────────────────────────────────────────────────


def _measure_here(task: str, key: str, shard: Path, folder: Path, tiny: Path) -> dict[str, float]:
    if task == "make":
        _, run = MAKERS[key]
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            run(tiny, Path(scratch) / "out")
        target = folder / key
        shutil.rmtree(target, ignore_errors=True)
    else:
        _, run = READERS[key]
        run(folder, shard)  # warms imports and the page cache, for everyone alike
        target = folder
    os.sync()  # or the disk would still be writing what the pass before left, at this one's expense
    cpu, started = _cpu_seconds(), time.perf_counter()
    images = run(shard, target) if task == "make" else run(target, shard)
    seconds = time.perf_counter() - started
    return {"images": images, "seconds": seconds, "cpu": _cpu_seconds() - cpu, "peak": _peak_rss()}


def _measure(task: str, key: str, shard: Path, folder: Path, tiny: Path) -> dict[str, float]:
    result = folder / "result.json"
    environment = {**os.environ, "HF_HOME": str(folder / "hf"), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, __file__, "--one", task, key, str(shard), str(folder), str(tiny)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{key}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return dict(json.loads(result.read_text()))


def _take_turns(
    task: str, keys: Any, rounds: int, shard: Path, folder: Path, tiny: Path
) -> dict[str, dict[str, float]]:
    names = list(keys)
    samples: dict[str, list[dict[str, float]]] = {key: [] for key in names}
    for number in range(rounds):
        first = number % len(names)  # nobody always comes after the same one, whose memory it uses again or not
        for key in names[first:] + names[:first]:
            print(f"{task} {number + 1}/{rounds}: {key}", file=sys.stderr)
            warm_up(shard)
            samples[key].append(_measure(task, key, shard, folder, tiny))
    return {
        key: {name: statistics.median(one[name] for one in found) for name in found[0]}
        for key, found in samples.items()
    }


# ── what they have in common ────────────────────────────────────────────────────────────────────────────────────────


def _check_equal_rows(folder: Path) -> int:
    """Compare every row of the plain recipe's file with ours; raises if one differs."""
    tables = []
    for key in ("plain", "parquet"):
        import pyarrow.parquet as pq

        rows = {}
        for path in sorted((folder / key / "data").rglob("*.parquet")):
            file = pq.ParquetFile(path)
            for batch in file.iter_batches(batch_size=16):
                for row in batch.to_pylist():
                    jpeg = hashlib.sha256(row["image"].pop("bytes")).digest()
                    rows[row["image_id"]] = (jpeg, row)
        tables.append(rows)
    if tables[0] != tables[1]:
        raise SystemExit("the rows of the plain recipe and ours differ")
    return len(tables[0])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and ".sa1b" not in path.parts)


def _print_table(title: str, names: dict[str, Any], found: dict[str, dict[str, float]], sizes: dict[str, int]) -> None:
    print(f"\n## {title}\n\n| | images/s | CPU ms/image | peak RSS MB | size MB |\n|---|--:|--:|--:|--:|")
    for key, one in found.items():
        size = f"{sizes[key] / 1e6:,.1f}" if key in sizes else "-"
        rate, cpu = one["images"] / one["seconds"], one["cpu"] / one["images"] * 1e3
        print(f"| {names[key][0]} | {rate:,.0f} | {cpu:,.2f} | {one['peak'] / 1e6:,.0f} | {size} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="full", help="of sa1b_hf.testing.make_shard (full: realistic sizes)")
    parser.add_argument("--workdir", type=Path, default=Path(tempfile.gettempdir()) / "sa1b_hf-bench")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        task, key, *paths = options.one
        shard, folder, tiny = map(Path, paths)
        (folder / "result.json").write_text(json.dumps(_measure_here(task, key, shard, folder, tiny)))
        return 0
    from sa1b_hf.dataset_index import build_dataset_index

    shard = get_shard(options.workdir, "real", images=options.images, preset=options.preset)
    tiny = get_shard(options.workdir, "real", images=_TINY, preset="small")
    with tempfile.TemporaryDirectory(dir=options.workdir) as name:
        folder = Path(name)
        made = _take_turns("make", MAKERS, options.rounds, shard.path, folder, tiny.path)
        equal = _check_equal_rows(folder)
        sizes = {key: _size(folder / key) for key in MAKERS}
        print(f"{shard.images:,} images, {shard.file_bytes / 1e6:,.1f} MB of gzip; {equal:,} rows are equal")
        _print_table("Converting", MAKERS, made, sizes)
        started = time.perf_counter()
        index = build_dataset_index(folder / "parquet")
        print(
            f"\nIndex: {time.perf_counter() - started:.2f} s, {index.stat().st_size / shard.images:.0f} bytes an image"
        )
        read = _take_turns("read", READERS, options.rounds, shard.path, folder, tiny.path)
        _print_table("Reading", READERS, read, {})
    ratio = made["plain"]["seconds"] / made["parquet"]["seconds"]
    print(f"\nConverting to Parquet against the plain recipe: {ratio:.1f}x, {'' if ratio >= _BAR else 'NOT '}met (3x)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
