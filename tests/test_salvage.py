"""Damage costs the members that it touches and no others, and what was lost is listed."""

from __future__ import annotations

import json
import random

import pytest
from support.incompressible import compress, make_tar
from support.incompressible import make_members as make_prefixed_members

from sa1b_hf._deflate import resolve_copying_engine
from sa1b_hf._gzip_walk import GzipWalk
from sa1b_hf._random_bytes import RandomBytes
from sa1b_hf.errors import ConfigError
from sa1b_hf.gzsync import START, iter_points
from sa1b_hf.reader import ReadOptions, iter_batches
from sa1b_hf.reports import PassReport
from sa1b_hf.salvage import SalvageReport, iter_salvaged_members

TRIALS = 640


def make_members(num_images, **options):
    return [(name[2:], body) for name, body in make_prefixed_members(num_images, **options)]


def _salvage(path):
    report = SalvageReport()
    return {member.name: member.read() for member in iter_salvaged_members(path, report)}, report


class _Map:
    """Where each member of a whole shard lies in the compressed file, and where inflate can begin."""

    def __init__(self, path, members):
        self.members = dict(members)
        self.points, self.spans = [], {}
        with RandomBytes(path) as data:
            self.size = data.size
            self.is_gzip = data.read(0, 2) == b"\x1f\x8b"
            ends = [(0, 0)]
            if self.is_gzip:
                walk = GzipWalk(resolve_copying_engine(), START.point)
                for point in iter_points(data, 0, data.size):
                    for _ in walk.feed(data.read(walk.position, point.compressed - walk.position)):
                        pass
                    if walk.is_at_stored() if point.is_stored else walk.is_at_end:
                        self.points.append(point.compressed)
                        ends.append((walk.produced, point.compressed))
            tar_size = sum(512 + len(body) + -len(body) % 512 for _, body in members)
            at = 0
            for name, body in members:
                stop = at + 512 + len(body) + -len(body) % 512
                if self.is_gzip:  # as exact as the points are: a bit too wide
                    low = max(compressed for produced, compressed in ends if produced <= at)
                    high = min((compressed for produced, compressed in ends if produced >= stop), default=data.size)
                else:
                    low, high = at, stop
                self.spans[name] = (low, high)
                at = stop
            assert at == tar_size

    def touched(self, low, high):
        """Members that need a byte between the damage and the next place where inflate can begin."""
        if self.is_gzip:
            high = next((point for point in self.points if point >= high), self.size)
        return {name for name, (start, stop) in self.spans.items() if start < high + 1 and stop > low - 1}


def _damage(data: bytearray, rng: random.Random) -> tuple[int, int]:
    """Spoil a few bytes or some kilobytes, in one of several ways."""
    size = rng.choice([1, 4, 100, 3000, 65_536])
    low = rng.randrange(20, len(data) - size - 40)
    kind = rng.choice(["flip", "zero", "noise", "same"])
    for at in range(low, low + size) if kind in ("flip", "noise") else ():
        data[at] ^= 1 << rng.randrange(8) if kind == "flip" else rng.randrange(1, 256)
    if kind == "zero":
        data[low : low + size] = bytes(size)
    if kind == "same":
        data[low : low + size] = b"\xff" * size
    return low, low + size


@pytest.fixture(scope="module", params=["gnu-6", "zlib-ng-6", "members", "none"])
def shard(request, tmp_path_factory):
    members = make_members(12, seed=3, least=60_000, most=150_000)
    path = tmp_path_factory.mktemp("salvage") / "sa_000000.tar"
    path.write_bytes(compress(make_tar(members), request.param))
    return path, _Map(path, members)


def test_nothing_is_lost_without_damage(shard):
    """A whole shard gives all its members and an empty list."""
    path, whole = shard
    found, report = _salvage(path)
    assert found == whole.members
    assert report.lost == []
    assert report.delivered == len(whole.members)


@pytest.mark.parametrize("block", range(4))
def test_random_damage(shard, tmp_path, block):
    """Whatever the damage does, members that it did not touch come out as they were, and it is listed."""
    path, whole = shard
    clean = path.read_bytes()
    for trial in range(TRIALS // 16):
        rng = random.Random(f"{block} {trial}")
        data = bytearray(clean)
        low, high = _damage(data, rng)
        damaged = tmp_path / "sa_000000.tar"
        damaged.write_bytes(data)
        found, report = _salvage(damaged)
        touched = whole.touched(low, high) if data != clean else set()
        missing = {name for name in whole.members if name not in found}
        assert missing <= touched, (trial, low, high, missing - touched)
        wrong = {name for name, body in found.items() if body != whole.members[name]}
        assert wrong <= touched
        assert len(found) == report.delivered
        if whole.is_gzip and data != clean:
            assert report.lost, "a checksum covers every byte"
        named = {loss.name for loss in report.lost if loss.name}
        assert named <= touched


@pytest.mark.parametrize("how", ["gnu-6", "none"])
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_cut_off(tmp_path, how, keep):
    """Of a file that was cut off all whole members come out, and the one at the end is named."""
    members = make_members(8)
    path = tmp_path / "sa_000000.tar"
    data = compress(make_tar(members), how)
    cut = int(len(data) * keep)
    path.write_bytes(data)
    whole = sum(stop <= cut for _, stop in _Map(path, members).spans.values())
    path.write_bytes(data[:cut])
    found, report = _salvage(path)
    assert list(found.items()) == members[: len(found)]
    assert len(found) >= max(1, whole)
    assert report.lost[-1].name == members[len(found)][0]
    assert report.lost[-1].reason in ("gzip-truncated", "truncated")


def test_beginning_overwritten(tmp_path):
    """A gzip file whose first kilobytes are gone is still known for one."""
    members = make_members(10)
    path = tmp_path / "sa_000000.tar"
    data = compress(make_tar(members), "gnu-6")
    path.write_bytes(data)
    touched = _Map(path, members).touched(0, 5000)
    path.write_bytes(bytes(5000) + data[5000:])
    found, report = _salvage(path)
    assert len(touched) < len(members) / 2
    assert {name for name, _ in members} - set(found) <= touched
    assert report.lost


def test_reader(shard, tmp_path):
    """With `salvage` a pass delivers images from behind the damage, and its counts reconcile."""
    path, whole = shard
    data = bytearray(path.read_bytes())
    middle = sorted(whole.spans.values())[8][0]
    data[middle : middle + 70_000] = bytes(70_000)
    damaged = tmp_path / "sa_000000.tar"
    damaged.write_bytes(data)

    def read(**options):
        report = PassReport()
        batches = iter_batches(damaged, "sa_000000", ReadOptions(on_error="warn", **options), report)
        ids = {image_id for batch in batches for image_id in batch["image_id"].to_pylist()}
        assert report.seen == report.delivered + report.skipped.total()
        assert report.broken
        return ids

    ids = {int(name[3:-5]) for name in whole.members if name.endswith(".json")}
    touched = {int(name.partition(".")[0][3:]) for name in whole.touched(middle, middle + 70_000)}
    salvaged = read(salvage=True)
    assert salvaged >= ids - touched
    assert salvaged > read()
    with pytest.raises(ConfigError, match="salvage"):
        ReadOptions(salvage=True)


def test_command(tmp_path):
    """`sa1b verify --salvage` counts what can be read of a damaged shard and lists what is lost."""
    from click.testing import CliRunner

    from sa1b_hf.cli import main

    members = make_members(10)
    data = bytearray(compress(make_tar(members), "gnu-6"))
    (tmp_path / "sa_000000.tar").write_bytes(data)
    data[len(data) // 2 : len(data) // 2 + 70_000] = random.Random(0).randbytes(70_000)
    (tmp_path / "sa_000001.tar").write_bytes(data)

    def verify(*arguments):
        done = CliRunner().invoke(main, ["verify", str(tmp_path), "--no-md5", "--salvage", *arguments])
        assert done.exit_code == 1
        return done.stdout

    whole, damaged = map(json.loads, verify("--format", "json").splitlines())
    assert whole["salvage"] is None
    found, report = _salvage(tmp_path / "sa_000001.tar")
    assert damaged["salvage"]["num_members"] == len(found) < 20
    ids = {"jpg": set(), "json": set()}
    for name in found:
        ids[name.partition(".")[2]].add(name.partition(".")[0])
    assert damaged["salvage"]["num_images"] == len(ids["jpg"] & ids["json"])
    assert [loss["start"] for loss in damaged["salvage"]["lost"]] == [loss.start for loss in report.lost]
    text = verify()
    assert f"{len(found)} members can be read" in text
    for loss in report.lost:
        assert f"bytes {loss.start:,} to {loss.stop:,}" in text
