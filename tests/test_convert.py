"""Conversion: the same rows in other files, once, whatever changes and whoever else is at it."""

from __future__ import annotations

from pathlib import Path

import datasets

import sa1b_hf
from sa1b_hf.convert import ConvertOptions, process_shard


def rows_of(dataset) -> list[dict]:
    """Rows with the JPEGs as bytes."""
    if "image" in dataset.features:
        dataset = dataset.cast_column("image", datasets.Image(decode=False))
    return list(dataset)


def stream(path, **options):
    return sa1b_hf.load_dataset(data_files=str(path), split="train", streaming=True, **options)


def stream_parquet(out: Path):
    files = sorted(str(path) for path in out.glob("data/train/*.parquet"))
    return datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)


def snapshot(out: Path) -> dict[str, bytes]:
    """Everything visible in a folder."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and ".sa1b" not in path.parts]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_plain_parquet_has_the_rows_and_types_of_the_builder(shards, tmp_path):
    """`load_dataset("parquet")` gives exactly what the builder gives, for a map-style dataset too."""
    out = tmp_path / "out"
    process_shard(shards[0].path, out, ConvertOptions(row_group_rows=7, part_bytes=60_000))
    assert len(list(out.glob("data/train/sa_000000-*.parquet"))) > 1
    ours = stream(shards[0].path)
    theirs = stream_parquet(out)
    assert theirs.features == ours.features == sa1b_hf.sa1b_features()
    assert rows_of(theirs) == rows_of(ours)
    files = [str(path) for path in out.glob("data/train/*.parquet")]
    prepared = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert prepared.features == ours.features
