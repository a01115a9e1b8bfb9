"""One shard to Arrow: every row exact, every fault counted, nothing good around it lost."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from sa1b_hf.errors import ConfigError, RecordError, SA1BError, ShardError
from sa1b_hf.features import COLUMNS, row_to_document, sa1b_features
from sa1b_hf.filters import AnnotationFilter, ImageFilter
from sa1b_hf.reader import ReadOptions, iter_batches
from sa1b_hf.reports import PassReport
from sa1b_hf.testing import FAULTS, ShardManifest, make_shard

SHARD_FAULTS = sorted(name for name, fault in FAULTS.items() if fault.scope == "shard")
RECORD_FAULTS = sorted(name for name, fault in FAULTS.items() if fault.scope == "record")
LIMIT_SECONDS = 10  # promised for any bad input


def _read(manifest: ShardManifest, **options) -> tuple[list[dict], PassReport, SA1BError | None]:
    report, rows = PassReport(), []
    try:
        for batch in iter_batches(manifest.path, manifest.shard, ReadOptions(**options), report):
            assert batch.num_rows
            batch.validate(full=True)
            rows += batch.to_pylist()
    except SA1BError as error:
        return rows, report, error
    return rows, report, None


def _check_rows(rows: list[dict], manifest: ShardManifest) -> None:
    for row in rows:
        assert row_to_document(row) == manifest.document(row["image_id"])
        assert row["image"] == {"bytes": manifest.jpeg(row["image_id"]), "path": f"sa_{row['image_id']}.jpg"}
        assert row["shard"] == manifest.shard
    ids = [row["image_id"] for row in rows]
    assert len(ids) == len(set(ids))


def _reconcile(report: PassReport) -> None:
    assert report.seen == report.delivered + report.skipped.total() + report.filtered.total()
    assert report.passes == report.completed == 1


@pytest.mark.parametrize("order", ["random", "sorted"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("prefix", ["./", "", "sa_000000/"])
def test_every_row_is_exact(tmp_path, order, compression, prefix):
    """Rows hold Meta's values and the JPEG's bytes, in exactly the schema of the features."""
    manifest = make_shard(
        tmp_path / "sa_000003.tar", num_images=80, order=order, compression=compression, prefix=prefix, first_id=33000
    )
    batches = list(iter_batches(manifest.path, "sa_000003"))
    assert all(batch.schema.equals(sa1b_features().arrow_schema) for batch in batches)
    rows = pa.Table.from_batches(batches).to_pylist()
    assert {row["image_id"] for row in rows} == set(manifest.image_ids)
    _check_rows(rows, manifest)
    _, report, error = _read(manifest)
    assert error is None
    assert report.is_clean
    assert report.delivered == report.seen == 80
    assert report.num_annotations == sum(len(row["annotations"]) for row in rows)


@pytest.mark.parametrize("ram_cap", [0, 20_000, 512 << 20])
def test_scratch_changes_nothing(tmp_path, ram_cap):
    """What waits on disk comes back as it was, whatever the cap."""
    manifest = make_shard(tmp_path / "sa_000000.tar", num_images=150)
    rows, _, error = _read(manifest, ram_cap=ram_cap, scratch_dir=str(tmp_path))
    assert error is None
    assert len(rows) == 150
    _check_rows(rows, manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["sa_000000.tar"]


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("name", SHARD_FAULTS)
def test_shard_faults(tmp_path, name, compression):
    """A broken shard gives everything before the break, then its typed reason; counts reconcile."""
    fault = FAULTS[name]
    if fault.needs_gzip and compression == "none":
        pytest.skip("a fault of the gzip layer")
    manifest = make_shard(tmp_path / "sa_000001.tar", num_images=40, faults=[name], compression=compression)
    started = time.perf_counter()
    rows, report, error = _read(manifest, on_error="warn")
    assert time.perf_counter() - started < LIMIT_SECONDS
    assert error is None
    assert {row["image_id"] for row in rows} >= manifest.good_ids
    assert [shard.shard for shard in report.broken] == ["sa_000001"]
    assert report.broken[0].reason in fault.reasons
    _reconcile(report)
    _check_rows([row for row in rows if row["image_id"] in manifest.good_ids], manifest)

    strict_rows, strict_report, error = _read(manifest)
    assert error is not None
    assert error.shard == "sa_000001"
    if not report.skipped.keys() - {"incomplete"}:  # else what the damage did to an image is met, and raised, first
        assert isinstance(error, ShardError)
        assert error.reason == report.broken[0].reason
    assert strict_rows == rows
    assert strict_report.delivered == len(rows)


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("name", RECORD_FAULTS)
def test_record_faults(tmp_path, name, compression):
    """One bad image costs only itself; the strict mode names it."""
    fault = FAULTS[name]
    manifest = make_shard(tmp_path / "sa_000001.tar", num_images=40, faults=[name], compression=compression)
    started = time.perf_counter()
    rows, report, error = _read(manifest, on_error="warn")
    assert time.perf_counter() - started < LIMIT_SECONDS
    assert error is None
    assert {row["image_id"] for row in rows} == manifest.good_ids
    _check_rows(rows, manifest)
    _reconcile(report)
    assert not report.is_clean
    assert not report.broken
    assert set(report.skipped + report.other_members) <= set(fault.reasons)
    assert (report.skipped + report.other_members).total() == 1
    assert report.problems

    _, _, error = _read(manifest)
    assert isinstance(error, RecordError)
    assert error.reason in fault.reasons
    assert "sa_000001" in str(error)


def test_many_faults_at_once(tmp_path):
    """All record faults in one shard are each counted once, and all good images come out."""
    manifest = make_shard(tmp_path / "sa_000002.tar", num_images=120, faults=RECORD_FAULTS)
    rows, report, error = _read(manifest, on_error="warn")
    assert error is None
    assert {row["image_id"] for row in rows} == manifest.good_ids
    _reconcile(report)
    assert (report.skipped + report.other_members).total() == len(RECORD_FAULTS)
    assert str(report).count("skipped") == 1


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_annotations_only(tmp_path, compression):
    """Without the image nothing is paired: documents alone are enough, and JPEGs are not looked at."""
    manifest = make_shard(
        tmp_path / "sa_000000.tar",
        num_images=30,
        compression=compression,
        faults=["orphan_json", "orphan_jpg", "torn_jpg", "not_a_jpg"],
    )
    columns = tuple(name for name in COLUMNS if name != "image")
    rows, report, error = _read(manifest, columns=columns)
    assert error is None
    assert report.is_clean
    assert set(rows[0]) == set(columns)
    assert manifest.good_ids < {row["image_id"] for row in rows}
    assert len(rows) == 29
    assert all(row_to_document(row) == manifest.document(row["image_id"]) for row in rows)


def test_columns_in_any_order(tmp_path):
    """A choice of columns keeps the schema's order; an unknown name is refused with the known ones."""
    manifest = make_shard(tmp_path / "sa_000000.tar", num_images=5)
    batch = next(iter_batches(manifest.path, "sa_000000", ReadOptions(columns=("shard", "image_id"))))
    assert batch.schema.names == ["image_id", "shard"]
    with pytest.raises(ConfigError, match="annotations"):
        next(iter_batches(manifest.path, "sa_000000", ReadOptions(columns=("masks",))))


def test_filters_are_counted(tmp_path):
    """Dropped images and annotations are counted by reason, and rows hold exactly the others."""
    manifest = make_shard(tmp_path / "sa_000000.tar", num_images=60)
    wanted = manifest.image_ids[::2]
    rows, report, error = _read(
        manifest,
        annotation_filter=AnnotationFilter(min_predicted_iou=0.95, max_masks=2),
        image_filter=ImageFilter(ids=frozenset(wanted), drop_empty=True),
    )
    assert error is None
    _reconcile(report)
    expected = {}
    for image_id in wanted:
        annotations = [a for a in manifest.document(image_id)["annotations"] if a["predicted_iou"] >= 0.95]
        best = sorted(annotations, key=lambda a: -a["predicted_iou"])[:2]
        if best:
            expected[image_id] = {a["id"] for a in best}
    assert {row["image_id"]: {a["id"] for a in row["annotations"]} for row in rows} == expected
    assert report.filtered["ids"] == 30
    assert report.filtered["no_masks"] == 30 - len(expected)
    assert set(report.filtered_annotations) == {"min_predicted_iou", "max_masks"}
    assert report.num_annotations == sum(map(len, expected.values()))


def test_first_batches_are_small(tmp_path):
    """The first example does not wait for a full batch; later batches are large."""
    manifest = make_shard(tmp_path / "sa_000000.tar", num_images=100, order="sorted")
    sizes = [batch.num_rows for batch in iter_batches(manifest.path, "sa_000000", ReadOptions(batch_rows=16))]
    assert sizes[:5] == [1, 2, 4, 8, 16]
    assert sum(sizes) == 100


def test_leaving_early_lets_go_of_everything(tmp_path):
    """A consumer that stops leaves no open file, thread or scratch behind, and the report says it was not completed."""
    manifest = make_shard(tmp_path / "sa_000000.tar", num_images=100)
    report = PassReport()
    threads = threading.active_count()
    batches = iter_batches(manifest.path, "sa_000000", ReadOptions(ram_cap=0), report)
    next(batches)
    batches.close()
    assert report.completed == 0
    assert report.passes == 1
    assert threading.active_count() == threads


def test_sample_of_pixels(tmp_path):
    """The JPEG decodes to the size that its row states."""
    manifest = make_shard(tmp_path / "sa_000000.tar", num_images=3)
    for row in _read(manifest)[0]:
        assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (row["width"], row["height"])


def test_options_are_checked():
    """Options that make no sense are refused before anything is read."""
    with pytest.raises(ConfigError, match="batch_rows"):
        ReadOptions(batch_rows=0)
    with pytest.raises(ConfigError, match="ram_cap"):
        ReadOptions(ram_cap=-1)


_READ_ALL_FAULTS = """
import pathlib, resource, sys
from sa1b_hf.reader import ReadOptions, iter_batches
from sa1b_hf.testing import FAULTS, make_shard

folder = pathlib.Path(sys.argv[1])
if sys.argv[2] == "make":
    for name in FAULTS:
        make_shard(folder / f"{name}.tar", num_images=6, faults=[name])
else:
    for path in sorted(folder.glob("*.tar")):
        for batch in iter_batches(path, path.stem, ReadOptions(on_error="warn")):
            pass
    status = pathlib.Path("/proc/self/status")
    if status.is_file():  # Linux counts in ru_maxrss what the parent had before exec
        print(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_no_fault_costs_memory(tmp_path):
    """All damaged shards, bombs and hostile documents included, are read within 1 GiB and without a signal."""
    for step in ("make", "read"):
        done = subprocess.run(
            [sys.executable, "-c", _READ_ALL_FAULTS, str(tmp_path), step],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 1 << 30
