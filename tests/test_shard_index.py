"""Any image of a shard by number or id, through an index of a few bytes an image."""

from __future__ import annotations

import json
import os
import random

import pytest
from support.incompressible import compress, make_members, make_tar

from sa1b_hf.errors import ConfigError, PairingError, ShardError, SourceChangedError
from sa1b_hf.index import IndexedMember, ShardIndex, build_index
from sa1b_hf.reader import iter_batches
from sa1b_hf.shard import SA1BShard


@pytest.fixture(scope="module", params=["gnu-6", "zlib-ng-6", "members", "none"])
def shard(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "sa_000000.tar"
    path.write_bytes(compress(make_tar(make_members(12)), request.param))
    return path


def _rows(path):
    return {row["image_id"]: row for batch in iter_batches(path, "sa_000000") for row in batch.to_pylist()}


@pytest.mark.parametrize("spacing", [1 << 15, 1 << 20])
def test_every_image(shard, spacing):
    """By number and by id come the same rows as from a pass over the shard."""
    rows = _rows(shard)
    with SA1BShard(shard, build_index(shard, spacing=spacing), shard="sa_000000") as images:
        assert len(images) == len(rows) == 12
        assert images.image_ids == sorted(rows)
        assert {image_id: images.by_id(image_id) for image_id in rows} == rows
        assert [images[number] for number in (0, 5, -1)] == [rows[images.image_ids[number]] for number in (0, 5, -1)]


def test_saved(shard, tmp_path):
    """An index is built once, saved, and found the next time; it comes back as it was."""
    path = tmp_path / "sa_000000.index.parquet"
    built = SA1BShard(shard, path, shard="sa_000000").index
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert ShardIndex.load(path) == built
    stamp = path.stat().st_mtime_ns
    assert SA1BShard(shard, path, shard="sa_000000").by_id(3)["image_id"] == 3
    assert path.stat().st_mtime_ns == stamp


def test_size(tmp_path):
    """An index of a shard of usual size and order takes at most 20 bytes an image on disk."""
    rng = random.Random(0)
    halves = [(image_id, kind) for image_id in range(223_750, 223_750 + 11_186) for kind in ("jpg", "json")]
    rng.shuffle(halves)
    members, points, offset = {"jpg": {}, "json": {}}, [(0, 0, False)], 1024
    for image_id, kind in halves:
        size = int(rng.lognormvariate(13.8, 0.4)) if kind == "jpg" else int(rng.lognormvariate(10.9, 0.6))
        members[kind][image_id] = IndexedMember(image_id, kind, offset, size, rng.getrandbits(24))
        offset += size + -size % 512 + 512
        while offset - points[-1][1] > 1_400_000:
            step = rng.randrange(5 << 18, 1_600_000)
            points.append((points[-1][0] + int(step * rng.uniform(0.95, 0.999)), points[-1][1] + step, True))
    index, path = ShardIndex(points[-1][0], members, points), tmp_path / "index"
    index.save(path)
    assert path.stat().st_size / len(members["jpg"]) <= 20
    assert ShardIndex.load(path) == index


def test_remote(shard):
    """A half of an image on a server takes one request, whatever its place."""
    from support.misbehaving_server import MisbehavingServer

    rows = _rows(shard)
    index = build_index(shard)
    with MisbehavingServer() as server:
        url = server.add("/sa_000000.tar", shard.read_bytes())
        with SA1BShard(url, index, shard="sa_000000") as images:
            before = len(server.requests)
            assert images.read(7, "jpg") == rows[7]["image"]["bytes"]
            assert len(server.requests) == before + 1
            assert images.by_id(3) == rows[3]


def test_what_is_not_there(shard):
    """An unknown id and an unknown number are errors of their own kind."""
    with SA1BShard(shard, build_index(shard)) as images:
        with pytest.raises(PairingError, match="image_ids"):
            images.by_id(99)
        with pytest.raises(IndexError):
            images[12]


def test_changed_shard(shard, tmp_path):
    """Bytes that are not those of the index are refused: another size at once, other content when it is read."""
    index = build_index(shard)
    data = bytearray(shard.read_bytes())
    other = tmp_path / "sa_000000.tar"
    other.write_bytes(data + b"\0")
    with pytest.raises(SourceChangedError, match="indexed"):
        SA1BShard(other, index)
    refused = 0
    for at in range(5000, len(data), len(data) // 40):
        data[at] ^= 1
    other.write_bytes(data)
    rows = _rows(shard)
    with SA1BShard(other, index, shard="sa_000000") as images:
        for image_id in images.image_ids:
            try:
                assert images.by_id(image_id) == rows[image_id]
            except SourceChangedError:
                refused += 1
    assert refused >= 10


def test_no_index_of_a_damaged_shard(shard):
    """A shard that is damaged gets no index."""
    data = bytearray(shard.read_bytes())
    damaged = shard.with_name("sa_000001.tar")
    damaged.write_bytes(data[: len(data) // 2])
    with pytest.raises(ShardError):
        build_index(damaged)


@pytest.mark.parametrize("content", [b"", b"PAR1", bytes(1000)])
def test_no_index(tmp_path, content):
    """A file that is no index is refused with advice."""
    path = tmp_path / "sa_000000.index.parquet"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="build it anew"):
        ShardIndex.load(path)


def _index(*arguments):
    from click.testing import CliRunner

    from sa1b_hf.cli import main

    return CliRunner().invoke(main, ["index", *map(str, arguments)])


def test_command(shard, tmp_path):
    """`sa1b index` writes what `SA1BShard` and `index_dir` use, and leaves alone what fits."""
    out = tmp_path / "indexes"
    done = _index(shard, "--out", out, "--format", "json")
    assert (done.exit_code, json.loads(done.stdout)["images"]) == (0, 12), done.output
    path = out / "sa_000000.index.parquet"
    assert [file.name for file in out.iterdir()] == [path.name]
    assert ShardIndex.load(path) == build_index(shard)
    assert json.loads(_index(shard, "--out", out, "--format", "json").stdout)["is_new"] is False
    path.write_bytes(b"damaged")
    assert json.loads(_index(shard, "--out", out, "--format", "json").stdout)["is_new"] is True
    assert json.loads(_index(shard, "--out", out, "--format", "json", "--force").stdout)["is_new"] is True
    assert "was there" in _index(shard, "--out", out).stdout
    later = path.stat().st_mtime_ns + 10**9
    os.utime(shard, ns=(later, later))  # written again since
    assert "indexed" in _index(shard, "--out", out).stdout


def test_command_failures(tmp_path):
    """A damaged shard gets no index and a status of 1, beside a whole one; a URL needs a folder."""
    folder = tmp_path / "shards"
    folder.mkdir()
    data = compress(make_tar(make_members(6)), "gnu-6")
    (folder / "sa_000000.tar").write_bytes(data[:-100])
    (folder / "sa_000001.tar").write_bytes(data)
    done = _index(folder)
    assert done.exit_code == 1
    assert "gzip" in done.stdout
    assert sorted(path.name for path in folder.glob("*.parquet")) == ["sa_000001.index.parquet"]
    assert _index("http://127.0.0.1:9/sa_000000.tar").exit_code == 2
    assert _index(tmp_path / "nowhere.tar").exit_code == 1
