"""Reading a shard in parts, in whatever processes, gives each image exactly once."""

from __future__ import annotations

import tempfile
from itertools import chain

import pytest
from datasets.exceptions import DatasetGenerationError
from support.incompressible import compress, make_members, make_tar

from sa1b_hf import _covers, load_dataset
from sa1b_hf._handover import Handover
from sa1b_hf.errors import CompressionError, ConfigError
from sa1b_hf.filters import ImageFilter
from sa1b_hf.parts import PartReader, PartSums
from sa1b_hf.reader import ReadOptions, iter_batches
from sa1b_hf.reports import PassReport
from sa1b_hf.source import open_shard
from sa1b_hf.tar import iter_members


def _rows(path, part=None, report=None, **options):
    batches = iter_batches(path, "sa_000000", ReadOptions(**options), report, part)
    return [row for batch in batches for row in batch.to_pylist()]


def _by_id(rows):
    return sorted(rows, key=lambda row: row["image_id"])


def _write(folder, how, order, **options):
    members = make_members(14, **options)
    if order == "sorted":
        members.sort()
    path = folder / "sa_000000.tar"
    path.write_bytes(compress(make_tar(members), how))
    return path


@pytest.fixture(
    scope="module",
    params=[("gnu-6", "random"), ("gnu-6", "sorted"), ("members", "random"), ("none", "random"), ("none", "sorted")],
    ids="-".join,
)
def shard(request, tmp_path_factory):
    return _write(tmp_path_factory.mktemp("shard"), *request.param)


@pytest.fixture(autouse=True)
def _short_lookback(monkeypatch):
    """Approach joints from close by, so that small shards have more than one way to be read."""
    monkeypatch.setattr(_covers, "_NEAR", 1 << 17)
    monkeypatch.setattr(
        PartReader.__init__, "__kwdefaults__", {**PartReader.__init__.__kwdefaults__, "lookback": 1 << 19}
    )


@pytest.fixture(params=["alone", "with others"])
def company(request, monkeypatch, tmp_path):
    """Readers that find what others left, and readers on machines of their own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "alone":
        monkeypatch.setattr(Handover, "read_covers", lambda *_: [])


@pytest.mark.usefixtures("company")
@pytest.mark.parametrize("of", [1, 2, 3, 4, 8, 16, 64])
def test_each_image_once(shard, of):
    """Whatever the number of parts, together they are the rows of the whole shard, and the counts add up."""
    whole, total, rows = PassReport(), PassReport(), []
    expected = _rows(shard, report=whole)
    for index in range(of):
        report = PassReport()
        rows += _rows(shard, (index, of), report)
        assert report.is_clean
        total.merge(report)
    assert _by_id(rows) == _by_id(expected)
    assert (total.seen, total.delivered) == (whole.seen, whole.delivered)


@pytest.mark.usefixtures("company")
@pytest.mark.parametrize("of", [2, 5])
def test_order_within_a_part(shard, of):
    """Images whose halves lie in one part come in the order of the whole, then the others in that of their JPEGs."""
    order = [row["image_id"] for row in _rows(shard)]
    with open_shard(shard) as cursor:
        jpegs = [member.image_id for member in iter_members(cursor) if member.kind == "jpg"]
    ids = [[row["image_id"] for row in _rows(shard, (index, of))] for index in range(of)]
    assert sorted(chain.from_iterable(ids)) == sorted(order)
    for found in ids:
        own = next((at for at in range(len(found), -1, -1) if found[:at] == sorted(found[:at], key=order.index)), 0)
        assert found[own:] == sorted(found[own:], key=jpegs.index)


@pytest.mark.parametrize("of", [2, 7])
@pytest.mark.parametrize(
    "options",
    [{"image_filter": ImageFilter(sample_fraction=0.5)}, {"columns": ("image_id", "annotations")}, {"ram_cap": 0}],
)
def test_options(shard, of, options):
    """Filters, columns and the scratch file work in parts as they do in whole shards, and are counted once."""
    whole, total, rows = PassReport(), PassReport(), []
    expected = _rows(shard, report=whole, **options)
    for index in range(of):
        rows += _rows(shard, (index, of), total, **options)
    assert _by_id(rows) == _by_id(expected)
    assert (total.seen, total.delivered, total.filtered) == (whole.seen, whole.delivered, whole.filtered)


@pytest.mark.usefixtures("company")
@pytest.mark.parametrize("of", [3, 16])
def test_with_index(shard, of, tmp_path):
    """With an index, built by the first part that needs it, the rows are the same."""
    rows = [row for index in range(of) for row in _rows(shard, (index, of), index_dir=str(tmp_path / "index"))]
    assert _by_id(rows) == _by_id(_rows(shard))
    assert [path.name for path in (tmp_path / "index").glob("*")] in ([], ["sa_000000.index.parquet"])


@pytest.mark.usefixtures("company")
@pytest.mark.parametrize("how", ["gnu-6", "none"])
@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize("of", [2, 6])
def test_orphans_are_counted_once(tmp_path, how, of, with_index):
    """An image without document, or the other way round, is reported by the part that has it, and by no other."""
    members = [member for member in make_members(12) if member[0] not in ("./sa_3.jpg", "./sa_5.json")]
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(make_tar(members), how))
    report, rows, folder = PassReport(), [], str(tmp_path) if with_index else None
    for index in range(of):
        rows += _rows(path, (index, of), report, on_error="warn", index_dir=folder)
    assert sorted(row["image_id"] for row in rows) == [1, 2, 4, *range(6, 13)]
    assert dict(report.skipped) == {"no-jpg": 1, "no-json": 1}
    assert report.seen == report.delivered + report.skipped.total() == 12


def test_remote(shard):
    """Parts of a shard on a server are the rows of the shard."""
    from support.misbehaving_server import MisbehavingServer

    with MisbehavingServer() as server:
        url = server.add("/sa_000000.tar", shard.read_bytes())
        rows = [row for index in range(3) for row in _rows(url, (index, 3))]
        assert len(server.requests) < 100, "joints are approached by few requests"
    assert _by_id(rows) == _by_id(_rows(shard))


def test_reshard(shard):
    """`reshard` cuts one original shard into parts that can be given to workers."""
    ds = load_dataset("sa1b.py", data_files=[str(shard)], split="train", streaming=True).select_columns(["image_id"])
    if not hasattr(ds, "reshard"):
        pytest.skip("needs datasets 5")
    ids = [row["image_id"] for row in ds]
    resharded = ds.reshard()
    assert resharded.num_shards == resharded.reshard().num_shards == 8
    assert sorted(row["image_id"] for row in resharded) == sorted(ids)
    pieces = [resharded.shard(num_shards=3, index=index) for index in range(3)]
    assert sorted(row["image_id"] for piece in pieces for row in piece) == sorted(ids)


def test_more_processes_than_shards(shard, tmp_path):
    """With `parts` one shard is prepared by two processes."""
    ds = load_dataset("sa1b.py", data_files=[str(shard)], split="train", parts=4, num_proc=2, cache_dir=str(tmp_path))
    assert sorted(ds["image_id"]) == list(range(1, 15))
    with pytest.raises(ConfigError, match="parts"):
        load_dataset("sa1b.py", data_files=[str(shard)], split="train", parts=0, streaming=True)


@pytest.mark.parametrize("how", ["gnu-6", "members"])
def test_checksum_of_all_parts(tmp_path, how):
    """A process that reads all parts of a shard checks the checksum of the whole, as one that does not split it."""
    data = bytearray(compress(make_tar(make_members(14)), how))
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(data)
    sums = PartSums()
    for index in (2, 0, 1):
        list(iter_batches(path, "sa_000000", None, None, (index, 3), sums=sums))
    options = {"data_files": [str(path)], "split": "train", "parts": 3}
    load_dataset("sa1b.py", **options, cache_dir=str(tmp_path / "good"))
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetGenerationError) as raised:
        load_dataset("sa1b.py", **options, cache_dir=str(tmp_path / "bad"))
    assert isinstance(raised.value.__cause__, CompressionError)
    assert raised.value.__cause__.reason == "gzip-crc"


def test_two_workers_three_epochs(shard):
    """Two workers on one original shard yield every image once, in each of three shuffled epochs."""
    data = pytest.importorskip("torch.utils.data")
    ds = load_dataset("sa1b.py", data_files=[str(shard)], split="train", streaming=True, parts=4)
    ds = ds.select_columns(["image_id"]).shuffle(seed=0, buffer_size=8)
    for epoch in range(3):
        ds.set_epoch(epoch)
        loader = data.DataLoader(ds, batch_size=None, num_workers=2)
        assert sorted(int(row["image_id"]) for row in loader) == list(range(1, 15))
