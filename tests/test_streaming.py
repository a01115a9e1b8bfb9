"""What people do with the stream: workers, nodes, shuffling, resuming; every image once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import pytest
from datasets import load_dataset
from datasets.distributed import split_dataset_by_node

import sa1b_hf
from sa1b_hf.testing import make_shard


@pytest.fixture
def ds(shards):
    """The three shards, streamed, pictures not decoded."""
    stream = load_dataset("sa1b.py", data_dir=str(shards[0].path.parent), split="train", streaming=True)
    return stream.cast_column("image", datasets.Image(decode=False))


@pytest.fixture
def all_ids(shards):
    return sorted(image_id for manifest in shards for image_id in manifest.image_ids)


def _ids(dataset) -> list[int]:
    return [row["image_id"] for row in dataset]


def test_each_shard_is_a_unit(ds):
    """Shards can be divided among workers."""
    assert getattr(ds, "num_shards", getattr(ds, "n_shards", None)) == 3


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_nodes_see_every_image_once(ds, all_ids, world_size):
    """Nodes share the images without overlap, whether or not shards divide evenly."""
    seen = [image_id for rank in range(world_size) for image_id in _ids(split_dataset_by_node(ds, rank, world_size))]
    assert sorted(seen) == all_ids


def test_shuffle(ds, all_ids):
    """A shuffle is another order of the same images, the same for the same seed, another in another epoch."""
    first = _ids(ds.shuffle(seed=3, buffer_size=30))
    assert sorted(first) == all_ids
    assert first != _ids(ds)
    assert first == _ids(ds.shuffle(seed=3, buffer_size=30))
    shuffled = ds.shuffle(seed=3, buffer_size=30)
    shuffled.set_epoch(1)
    assert sorted(_ids(shuffled)) == all_ids
    assert _ids(shuffled) != first


@pytest.mark.parametrize("position", [1, 7, 20, 25, 41, 62])
def test_resume(ds, position):
    """A state taken anywhere continues with the next image."""
    whole = _ids(ds)
    iterator = iter(ds)
    for _ in range(position):
        next(iterator)
    state = ds.state_dict()
    ds.load_state_dict(state)
    assert _ids(ds) == whole[position:]


def test_take_skip_and_batches(ds):
    """Slices and batches are those of the stream."""
    whole = _ids(ds)
    assert _ids(ds.take(5)) == whole[:5]
    assert _ids(ds.skip(60)) == whole[60:]
    batches = list(ds.iter(batch_size=10))
    assert [image_id for batch in batches for image_id in batch["image_id"]] == whole


def test_arrow_format_stays_arrow(shards):
    """The Arrow format gives tables with the bytes of the shard, and no Python object per row."""
    ds = load_dataset("sa1b.py", data_dir=str(shards[0].path.parent), split="train", streaming=True)
    tables = list(ds.with_format("arrow").iter(batch_size=8))
    assert sum(map(len, tables)) == 63
    by_id = {manifest.shard: manifest for manifest in shards}
    for table in tables:
        for row in table.select(["image", "image_id", "shard"]).to_pylist():
            assert row["image"]["bytes"] == by_id[row["shard"]].jpeg(row["image_id"])


@pytest.mark.skipif(not hasattr(datasets.IterableDataset, "reshard"), reason="this version has no reshard")
def test_reshard(ds, all_ids):
    """Asking for more shards loses nothing."""
    assert sorted(_ids(ds.reshard())) == all_ids


_LOADER = """
import sys
from collections import Counter
from datasets import Image, load_dataset
import sa1b_hf
import torch.utils.data as data

if __name__ == "__main__":
    ds = load_dataset("sa1b.py", data_dir=sys.argv[1], split="train", streaming=True)
    ds = ds.cast_column("image", Image(decode=False))
    loader = data.DataLoader(ds, num_workers=3, batch_size=None, multiprocessing_context=sys.argv[2])
    counts = Counter(row["image_id"] for row in loader)
    report = sa1b_hf.report(ds)
    print(len(counts), set(counts.values()), report.delivered, report.passes)
"""


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_data_loader_workers(shards, tmp_path, start_method):
    """Workers of a DataLoader see every image exactly once, and their reports add up."""
    pytest.importorskip("torch")
    script = tmp_path / "loader.py"
    script.write_text(_LOADER)
    done = subprocess.run(
        [sys.executable, str(script), str(shards[0].path.parent), start_method],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "63 {1} 63 3"


_HALF_READ = """
import sys
import sa1b_hf
from datasets import Image

ds = sa1b_hf.load_dataset(data_dir=sys.argv[1], split="train", streaming=True).cast_column("image", Image(decode=False))
rows = iter(ds)
print(next(rows)["image_id"] > 0)
"""


def test_a_script_may_end_in_the_middle(shards):
    """A stream that is left half read ends with the script, without messages of an interpreter that goes down."""
    done = subprocess.run(
        [sys.executable, "-c", _HALF_READ, str(shards[0].path.parent)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr, done.stderr


def test_first_example_needs_a_fraction(tmp_path):
    """The first example comes after as much of the shard as it takes to complete a pair, not after the whole."""
    from support.misbehaving_server import MisbehavingServer

    manifest = make_shard(tmp_path / "sa_000000.tar", num_images=1500, seed=2)
    size = manifest.path.stat().st_size
    with MisbehavingServer() as server:
        url = server.add("/sa_000000.tar", manifest.path)
        ds = sa1b_hf.load_dataset(data_files=url, split="train", streaming=True)
        next(iter(ds))
    # about sqrt(pi n / 2) members of 2 n, and what buffers hold beyond
    report = sa1b_hf.report(ds)
    assert report.seen < 200, report
    assert size > 4 << 20


def test_several_epochs(ds, all_ids):
    """Each epoch is complete."""
    counts = Counter(image_id for _ in range(3) for image_id in _ids(ds))
    assert counts == dict.fromkeys(all_ids, 3)
