"""A stream goes on where it stood: the same rows, none twice, without reading what came before."""

from __future__ import annotations

import json
import os
import pickle
import random
import time

import datasets
import pytest
from datasets.distributed import split_dataset_by_node
from support.incompressible import compress, make_members, make_tar
from support.misbehaving_server import Answer, MisbehavingServer

from sa1b_hf import _restarts, load_dataset
from sa1b_hf._random_bytes import RandomBytes
from sa1b_hf._shard_state import IdSet, ShardState
from sa1b_hf.errors import CompressionError, ConfigError, PairingError, SourceChangedError
from sa1b_hf.filters import AnnotationFilter, ImageFilter
from sa1b_hf.reader import ReadOptions, Resume, iter_resumable
from sa1b_hf.reports import PassReport


@pytest.fixture(autouse=True)
def _many_restarts(monkeypatch):
    """Note restarts so often that small shards have many."""
    monkeypatch.setattr(_restarts, "SPACING", 1 << 18)


def _write(folder, how, order="random", **options):
    members = make_members(24, **options)
    if order == "sorted":
        members.sort()
    path = folder / "sa_000000.tar"
    path.write_bytes(compress(make_tar(members), how))
    return path


@pytest.fixture(
    scope="module",
    params=["gnu-6-random", "gnu-6-sorted", "members-random", "zlib-ng-6-random", "none-random", "none-sorted"],
)
def shard(request, tmp_path_factory):
    how, _, order = request.param.rpartition("-")
    return _write(tmp_path_factory.mktemp("shard"), how, order)


def _read(path, part=None, resume=None, report=None, **options):
    found = iter_resumable(path, "sa_000000", ReadOptions(**options), report or PassReport(), part=part, resume=resume)
    return [(batch.to_pylist(), state) for batch, state in found]


def _ids(batches):
    return [[row["image_id"] for row in rows] for rows, _ in batches]


OPTIONS = {
    "plain": {},
    "annotations only": {"columns": ("image_id", "annotations")},
    "filters": {
        "image_filter": ImageFilter(sample_fraction=0.6),
        "annotation_filter": AnnotationFilter(max_masks=1),
    },
    "scratch": {"ram_cap": 0, "batch_rows": 5},
    "threads": {"inflate_threads": 2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_state_of_a_pass(shard, options):
    """From each batch, and each row in it, the rest of the pass follows, in the same batches."""
    whole = _read(shard, **options)
    for number, (rows, state) in enumerate(whole):
        for skip in {0, len(rows) // 2, len(rows)}:
            report = PassReport()
            rest = _read(shard, resume=Resume(state, skip), report=report, **options)
            expected = [rows[skip:], *(later for later, _ in whole[number + 1 :])]
            assert [given for given, _ in rest] == [batch for batch in expected if batch]
            assert report.seen == report.delivered + report.filtered.total(), "the pass reconciles by itself"
            assert report.delivered == sum(map(len, expected))


@pytest.mark.parametrize("part", [(0, 3), (1, 3), (2, 3)])
@pytest.mark.parametrize("indexed", [True, False])
def test_parts(shard, part, indexed, tmp_path):
    """Parts go on too, also where they look for documents in other parts."""
    options = {"index_dir": str(tmp_path)} if indexed else {}
    whole = _read(shard, part, **options)
    for number, (rows, state) in enumerate(whole):
        for skip in (0, len(rows) - 1, len(rows)):
            rest = _ids(_read(shard, part, Resume(state, skip), **options))
            expected = [_ids([(rows[skip:], None)])[0], *_ids(whole[number + 1 :])]
            assert rest == [batch for batch in expected if batch]


def test_states_of_a_resumed_pass(shard):
    """A pass that went on can be left and continued again, anywhere, also before it read anything new."""
    order = [image_id for batch in _ids(_read(shard)) for image_id in batch]
    rng, given, resume = random.Random(0), [], None
    while len(given) < len(order):
        for rows, state in _read(shard, resume=resume):
            take = rng.randrange(1, len(rows) + 1)
            given += [row["image_id"] for row in rows[:take]]
            if take < len(rows) or rng.random() < 0.5:
                resume = Resume(pickle.loads(pickle.dumps(state)), take)
                break
    assert given == order


def test_only_the_rest_is_read(shard, monkeypatch):
    """Going on near the end reads little of what came before; nothing is looked for."""
    rows, state = _read(shard)[-1]
    read = []
    original = RandomBytes.read
    monkeypatch.setattr(RandomBytes, "read", lambda self, at, size: read.append(size) or original(self, at, size))
    assert _read(shard, resume=Resume(state, len(rows))) == []
    assert sum(read) < shard.stat().st_size / 3


def test_the_checksum_is_still_checked(tmp_path):
    """Damage behind the state is noticed, also such as only the checksum of the whole can tell."""
    path = _write(tmp_path, "gnu-6")
    _, state = _read(path)[3]
    data = bytearray(path.read_bytes())
    stamp = path.stat()
    data[-8] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(CompressionError, match="checksum"):
        _read(path, resume=Resume(state))
    report = PassReport()
    assert [row for batch in _ids(_read(path, resume=Resume(state), report=report, on_error="warn")) for row in batch]
    assert report.broken[0].reason == "gzip-crc"


def test_another_file(tmp_path):
    """A state is not used for another file: neither one of another size nor one written later."""
    path = _write(tmp_path, "gnu-6")
    _, state = _read(path)[2]
    path.write_bytes(path.read_bytes())
    with pytest.raises(SourceChangedError, match="mtime"):
        _read(path, resume=Resume(state))
    path.write_bytes(path.read_bytes() + bytes(10))
    with pytest.raises(SourceChangedError, match="size"):
        _read(path, resume=Resume(state))


@pytest.mark.parametrize("state", ["", "{}", "[]", '{"version":2}', "null", '{"version":1,"joints":[1]}'])
def test_nonsense(tmp_path, state):
    """What is no state is refused."""
    with pytest.raises(ConfigError, match="state"):
        _read(_write(tmp_path, "gnu-6"), resume=Resume(state))


def test_damaged_states(tmp_path):
    """A state that was changed is refused, or leads to an error of this package, and never to wrong rows."""
    path = _write(tmp_path, "gnu-6")
    whole = _read(path)
    number = len(whole) // 2
    fields, rng = json.loads(whole[number][1]), random.Random(0)
    expected = {row["image_id"]: row for rows, _ in whole for row in rows}
    for _ in range(40):
        packed = bytearray(fields["pending"].encode())
        for _ in range(rng.choice([1, 4])):
            packed[rng.randrange(len(packed))] = rng.choice(b"ABab01+/=")
        state = json.dumps({**fields, "pending": packed.decode()})
        try:
            for rows, _ in _read(path, resume=Resume(state)):
                for row in rows:
                    assert expected[row["image_id"]] == row
        except (ConfigError, SourceChangedError, PairingError, ValueError, OSError):
            pass


def test_faults_are_reported_after_the_state(tmp_path):
    """An image without document and a torn document are reported by the pass that goes on, as by one that did not stop."""
    members = [member for member in make_members(24, seed=4) if member[0] != "./sa_3.json"]
    members = [(name, b"{" if name == "./sa_7.json" else body) for name, body in members]
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(make_tar(members), "gnu-6"))
    whole = _read(path, on_error="warn")
    for number, (rows, state) in enumerate(whole):
        report = PassReport()
        rest = _read(path, resume=Resume(state, len(rows)), on_error="warn", report=report)
        assert [given for given, _ in rest] == [given for given, _ in whole[number + 1 :]]
        assert report.skipped["no-json"] == 1
        assert report.seen == report.delivered + report.skipped.total()


def test_server(shard):
    """On a server a stream goes on with requests for what it needs; a replaced file is noticed."""
    with MisbehavingServer() as server:
        url = server.add("/sa_000000.tar", shard.read_bytes())
        whole = _read(url)
        rows, state = whole[3]
        assert "127.0.0.1" not in state
        rest = _read(url, resume=Resume(state, 1))
        assert [given for given, _ in rest] == [rows[1:], *(later for later, _ in whole[4:])]
        server.add("/sa_000000.tar", shard.read_bytes() + bytes(512))
        with pytest.raises(SourceChangedError):
            _read(url, resume=Resume(state, 1))


@pytest.mark.parametrize("answer", [Answer(framing="chunked"), Answer(framing="close"), Answer(ignore_range=True)])
def test_simple_servers(shard, answer):
    """Servers that tell no size, or take no ranges, are read from front to back; without a size there is no state."""
    with MisbehavingServer() as server:
        url = server.add("/sa_000000.tar", shard.read_bytes(), then=answer)
        found = _read(url)
    assert [rows for rows, _ in found] == [rows for rows, _ in _read(shard)]
    assert all((state is None) == (answer.framing != "length") for _, state in found)


def test_id_set():
    """Ids come out of their bits as they went in."""
    rng = random.Random(0)
    ids = {rng.randrange(10**18) for _ in range(50)} | set(range(223_750, 224_900)) | {0}
    packed = IdSet()
    for image_id in (*ids, 5):
        packed.add(image_id)
    packed.discard(5)
    assert IdSet.unpack(packed.pack()).to_set() == ids
    assert IdSet().to_set() == set()


def test_state_is_small(tmp_path):
    """A state takes some tens of bytes for each image that waits, and is plain text."""
    path = _write(tmp_path, "gnu-6")
    for _, state in _read(path):
        found = ShardState.decode(state)
        assert len(state) < 2000 + 40 * len(found.pending) // 24
        assert ShardState.decode(found.encode()) == found


# -- through `datasets`


@pytest.fixture(scope="module", params=["gnu-6-random", "none-sorted"])
def streamed(request, tmp_path_factory):
    how, _, order = request.param.rpartition("-")
    return _write(tmp_path_factory.mktemp("streamed"), how, order)


def _stream(path, **options):
    ds = load_dataset("sa1b.py", data_files=[str(path)], split="train", streaming=True, **options)
    return ds.cast_column("image", datasets.Image(decode=False))


PIPELINES = {
    "as it is": lambda ds: ds,
    "columns": lambda ds: ds.select_columns(["image_id", "annotations"]),
    "map": lambda ds: ds.map(lambda row: {"twice": 2 * row["image_id"]}),
    "batched": lambda ds: ds.map(lambda rows: {"twice": [2 * i for i in rows["image_id"]]}, batched=True, batch_size=3),
    "filter": lambda ds: ds.filter(lambda row: row["image_id"] % 3 > 0),
    "arrow": lambda ds: ds.with_format("arrow"),
    "skip": lambda ds: ds.skip(2),
    "node": lambda ds: split_dataset_by_node(ds, 1, 2),
}


def _rows(ds):
    return [row if isinstance(row, dict) else row.to_pylist()[0] for row in ds]


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("options", [{}, {"parts": 3}, {"min_area": 1}], ids=["whole", "parts", "filter"])
def test_state_dict(streamed, name, options):
    """`state_dict` and `load_state_dict` work through what people put around a stream."""
    if not hasattr(datasets.IterableDataset, "reshard") and name in ("map", "batched", "filter"):
        pytest.skip("datasets 3.6 itself loses rows when these go on")
    if options and name not in ("as it is", "arrow", "batched"):
        pytest.skip("said by the others")
    ds = PIPELINES[name](_stream(streamed, **options))
    whole = _rows(ds)
    for position in (1, len(whole) // 2, len(whole) - 1):
        iterator = iter(ds)
        for _ in range(position):
            next(iterator)
        state = json.loads(json.dumps(ds.state_dict()))
        iterator.close()
        other = PIPELINES[name](_stream(streamed, **options))
        other.load_state_dict(state)
        assert _rows(other) == whole[position:]


def _forget_places(value):
    """Take out of a state dict what stock `datasets` does not write."""
    for key, inner in list(value.items()):
        if key.startswith("sa1b_place"):
            del value[key]
        elif isinstance(inner, dict):
            _forget_places(inner)


def test_shuffled_shards(tmp_path):
    """The order of shards of a shuffled stream is the same after it goes on."""
    for number in range(3):
        _write(tmp_path, "gnu-6", first_id=1 + 100 * number).rename(tmp_path / f"sa_{number + 1:06d}.tar")
    ds = load_dataset("sa1b.py", data_dir=str(tmp_path), split="train", streaming=True).select_columns(["image_id"])
    if hasattr(ds, "reshard"):
        ds = ds.shuffle(seed=3, buffer_size=1)
    ds.set_epoch(2)  # shuffles shards too
    whole, states = [], []
    for row in ds:
        whole.append(row["image_id"])
        states.append(json.dumps(ds.state_dict()))
    assert sorted(whole) == sorted(100 * shard + 1 + number for shard in range(3) for number in range(24))
    for position in (5, 30, 60):
        results = []
        for forget in (lambda state: None, _forget_places):
            state = json.loads(states[position])
            forget(state)
            ds.load_state_dict(state)
            results.append([row["image_id"] for row in ds])
        # what waits in the buffer is lost by `datasets`; the rest is the same
        assert results[0] == results[1]
        assert set(results[0]) <= set(whole)


def test_a_state_of_the_stock_kind(streamed):
    """A state without our place, as an earlier version wrote it, goes on by counting."""
    ds = _stream(streamed).select_columns(["image_id"])
    whole = _rows(ds)
    iterator = iter(ds)
    for _ in range(9):
        next(iterator)
    state = ds.state_dict()
    _forget_places(state)
    assert "sa1b_place" not in json.dumps(state)
    ds.load_state_dict(state)
    assert _rows(ds) == whole[9:]


def test_unknown_internals(streamed, monkeypatch):
    """With a `datasets` that keeps other things in its state, streams are its own, and still right."""
    from datasets.iterable_dataset import ArrowExamplesIterable

    original = ArrowExamplesIterable._init_state_dict

    def changed(self):
        self._state_dict = {**original(self), "new": 1}
        return self._state_dict

    monkeypatch.setattr(ArrowExamplesIterable, "_init_state_dict", changed)
    ds = _stream(streamed).select_columns(["image_id"])
    assert type(ds._ex_iterable).__name__ != "ResumableExamples"
    whole = _rows(ds)
    iterator = iter(ds)
    for _ in range(9):
        next(iterator)
    ds.load_state_dict(ds.state_dict())
    assert _rows(ds) == whole[9:]


def test_time(tmp_path, monkeypatch):
    """From 20 positions of a shard going on takes a small fraction of what reading up to there took."""
    monkeypatch.undo()
    members = make_members(160, least=400_000, most=600_000)
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(make_tar(members), "isal-1"))
    ds = _stream(path).select_columns(["image_id"])
    positions = sorted(random.Random(1).sample(range(40, 160), 20))
    states, began, before = {}, time.process_time(), None
    for number, row in enumerate(ds):
        if number in positions:
            states[number] = (row["image_id"], before, time.process_time() - began)
        before = ds.state_dict()
    resumed = prefix = 0.0
    for expected, state, took in states.values():
        ds.load_state_dict(state)
        began = time.process_time()
        assert next(iter(ds))["image_id"] == expected
        resumed += time.process_time() - began
        prefix += took
    assert resumed < prefix / 2, (resumed, prefix)
