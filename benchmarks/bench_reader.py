"""Compare the reader with others, in one run on the same shards.

Every figure that counts is a ratio against a peer of the same run: contenders take turns, each pass in a process of its
own. The file is in the page cache, and the process has read it once before, so that neither disks nor imports nor the
first use of memory are timed: a released shard is twenty times as long. (Where peak memory is the question, only a tiny
shard is read before.) In the first round each contender is also held against the standard library's reading of the same
shard: ids, annotations and JPEG bytes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bars import Results
from correctness import make_reference
from measure import ContenderError, Sample, describe, measure
from readers import CONTENDERS, INFLATERS
from shards import Shard, get_shard, warm_up
from tables import bars_table, first_example_line, group_table

import sa1b_hf

GROUPS = {
    "real": (
        *INFLATERS,
        "tarfile-batches",
        "tarfile-orjson-batches",
        "naive-rows",
        "naive-prepared",
        "our-batches",
        "our-tables",
        "our-rows",
        "our-prepared",
        "our-annotations",
    ),
    "plain": (
        "read",
        "tarfile-rows",
        "tarfile-orjson-rows",
        "stock-webdataset",
        "webdataset",
        "our-batches",
        "our-rows",
        "our-annotations",
    ),
    "memory": ("tarfile-batches", "our-capped-batches"),
}
TITLES = {
    "real": "Real layout: gzip -6, random order, ./ prefix",
    "plain": "Re-packed: plain tar, sorted, image and annotations adjacent (the same images)",
    "memory": "Memory: real layout, larger",
}
BASELINES = {"real": "tarfile-batches", "plain": "webdataset", "memory": "tarfile-batches"}
# They look for an image and its annotations side by side, which released shards do not have.
STRANGERS = ("stock-webdataset", "stock-webdataset-features", "webdataset")
_TINY = 12
_PACKAGES = ("datasets", "pyarrow", "webdataset", "orjson", "isal", "zlib-ng")


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    if options.workdir is None:
        options.workdir = Path(tempfile.gettempdir()) / "sa1b_hf-bench"
    options.workdir.mkdir(parents=True, exist_ok=True)
    machine = _machine()
    print("# Reading SA-1B shards\n")
    print(", ".join(f"{name} {value}" for name, value in machine.items()), end="\n\n")
    results: dict[str, dict[str, list[Sample]]] = {}
    shards: dict[str, Shard] = {}
    words: dict[str, str] = {}
    try:
        for group in options.groups:
            shards[group] = _make_shard(group, options)
            results[group] = _run_group(group, shards[group], options)
            _print_group(group, shards[group], results[group])
            if group == "real":
                words = _describe_strangers(shards[group], options.workdir)
    except ContenderError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print("## Bars\n")
    print("\n".join(bars_table(results, shards["memory"].images if "memory" in shards else None)))
    if options.json:
        _write_json(options.json, machine, shards, results, words)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600, help="of each shard that speed is measured on (600)")
    parser.add_argument("--memory-images", type=int, default=3000, help="of the shard for peak memory (3000)")
    parser.add_argument("--rounds", type=int, default=3, help="passes of each contender (3)")
    parser.add_argument("--preset", default="full", help="of sa1b_hf.testing.make_shard (full: realistic sizes)")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS), help="which tables (all)")
    parser.add_argument("--workdir", type=Path, help="where shards are kept (a folder in the temporary directory)")
    parser.add_argument("--json", type=Path, help="also write every sample to this file")
    options = parser.parse_args(argv)
    for name in ("images", "memory_images", "rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: expected at least 1, found {getattr(options, name)}")
    return options


def _make_shard(group: str, options: argparse.Namespace) -> Shard:
    layout = "plain" if group == "plain" else "real"
    images = options.memory_images if group == "memory" else options.images
    return get_shard(options.workdir, layout, images=images, preset=options.preset)


def _run_group(group: str, shard: Shard, options: argparse.Namespace) -> dict[str, list[Sample]]:
    """Let the contenders take turns, so that a slow minute of the machine hits all of them."""
    keys = [key for key in GROUPS[group] if not _missing(key)]
    samples: dict[str, list[Sample]] = {key: [] for key in keys}
    tiny = get_shard(options.workdir, "real", images=_TINY, preset="small")
    before = tiny if group == "memory" else shard
    with tempfile.TemporaryDirectory(dir=options.workdir, prefix="reference-") as folder:
        reference = Path(folder) / "reference.json"
        reference.write_text(json.dumps(make_reference(shard.path, shard.images)))
        rounds = 1 if group == "memory" else options.rounds
        for number in range(rounds):
            warm_up(shard.path)
            for key in keys:
                print(f"{group} {number + 1}/{rounds}: {CONTENDERS[key].label}", file=sys.stderr)
                check = None if number else reference
                sample = measure(key, shard.path, options.workdir, warm_up=before.path, reference=check)
                expected = 0 if CONTENDERS[key].gives == "bytes" else shard.images
                if sample.images != expected:
                    raise ContenderError(f"{key}: expected {expected:,} images, found {sample.images:,}")
                samples[key].append(sample)
    return samples


def _missing(key: str) -> list[str]:
    """Name the packages that a contender needs and that are not installed."""
    return [name for name in CONTENDERS[key].needs if importlib.util.find_spec(name) is None]


def _print_group(group: str, shard: Shard, samples: dict[str, list[Sample]]) -> None:
    sizes = f"{shard.images:,} images, {shard.file_bytes / 1e6:,.1f} MB on disk, {shard.tar_bytes / 1e6:,.1f} MB of tar"
    print(f"## {TITLES[group]}\n\n{sizes}\n")
    baseline = BASELINES[group] if BASELINES[group] in samples else next(iter(samples))
    print("\n".join(group_table(shard, samples, baseline)))
    for key in GROUPS[group]:
        if key not in samples:
            print(f"\nLeft out: {CONTENDERS[key].label} ({', '.join(_missing(key))} is not installed).")
    if group == "memory":
        print(f"\n{first_example_line(shard, samples)}")
    print(flush=True)


def _describe_strangers(shard: Shard, workdir: Path) -> dict[str, str]:
    words = {key: describe(key, shard.path, workdir) for key in STRANGERS if not _missing(key)}
    print(f"Readers that expect adjacent pairs, on these {shard.images:,} images:\n")
    for key, text in words.items():
        print(f"- {CONTENDERS[key].label}: {text}")
    print(flush=True)
    return words


def _machine() -> dict[str, Any]:
    versions = {"sa1b_hf": sa1b_hf.__version__}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    load = f"{os.getloadavg()[0]:.1f}"
    return {"Python": platform.python_version(), **versions, "cores": os.cpu_count(), "load": load}


def _write_json(
    path: Path, machine: dict[str, Any], shards: dict[str, Shard], results: Results, words: dict[str, str]
) -> None:
    groups = {
        group: {key: [asdict(sample) for sample in passes] for key, passes in samples.items()}
        for group, samples in results.items()
    }
    facts = {group: asdict(shard) for group, shard in shards.items()}
    document = {"machine": machine, "shards": facts, "groups": groups, "strangers": words}
    path.write_text(json.dumps(document, indent=1, default=str) + "\n")


if __name__ == "__main__":
    sys.exit(main())
