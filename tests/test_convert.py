"""Conversion: the same rows in other files, once, whatever changes and whoever else is at it."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import sa1b_hf
from sa1b_hf import AnnotationFilter, ImageFilter, ReadOptions, _parts, rle
from sa1b_hf._convert_pool import Failure
from sa1b_hf._convert_shard import ShardJob
from sa1b_hf._receipt import Places, Receipt, write_receipt
from sa1b_hf._row_groups import iter_groups, row_weights
from sa1b_hf.cli import main
from sa1b_hf.convert import ConvertOptions, convert, iter_convert, process_shard, read_manifests
from sa1b_hf.errors import ConfigError, RecordError, ShardError, SourceError
from sa1b_hf.images import decode_image, image_size
from sa1b_hf.testing import make_shard

SMALL_PARTS = ConvertOptions(row_group_rows=6, part_bytes=20_000)


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


def hidden(out: Path) -> list[str]:
    return [path.name for path in (out / ".sa1b").iterdir() if not path.name.endswith(".lock")]


@dataclass(frozen=True)
class CountMasks:
    """A transform that adds the number of masks."""

    fingerprint: str = "count-1"
    spoil: str = ""

    @property
    def provenance(self) -> dict:
        return {"kind": "count", "names": ["few", "many"]}

    def features(self, features):
        return datasets.Features({**features, "num_masks": datasets.Value("int32")})

    def __call__(self, table):
        if self.spoil == "rows":
            return table.slice(1)
        counts = pa.compute.list_value_length(table["annotations"])
        return table.append_column("num_masks", counts.cast(pa.int64()) if self.spoil == "type" else counts)


# ── Parquet ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_plain_parquet_has_the_rows_and_types_of_the_builder(shards, tmp_path):
    """`load_dataset("parquet")` gives exactly what the builder gives, for a map-style dataset too."""
    out = tmp_path / "out"
    manifest = process_shard(shards[0].path, out, SMALL_PARTS)
    assert len(manifest.parts) > 2
    ours, theirs = stream(shards[0].path), stream_parquet(out)
    assert theirs.features == ours.features == sa1b_hf.sa1b_features()
    assert rows_of(theirs) == rows_of(ours)
    files = [str(out / part.path) for part in manifest.parts]
    prepared = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert prepared.features == ours.features
    assert rows_of(prepared) == rows_of(ours)


def test_filters_and_columns_are_those_of_the_builder(shards, tmp_path):
    """Filters and the lack of images give the rows that the builder gives with the same options."""
    read = ReadOptions(
        annotation_filter=AnnotationFilter(max_masks=3, select="area"), image_filter=ImageFilter(sample_fraction=0.5)
    )
    process_shard(shards[0].path, tmp_path, ConvertOptions(image=False, read=read))
    ours = stream(shards[0].path, image=False, max_masks=3, select="area", sample_fraction=0.5)
    theirs = stream_parquet(tmp_path)
    assert theirs.features == ours.features
    assert 0 < len(rows_of(theirs)) == len(rows_of(ours)) < len(shards[0].image_ids)
    assert rows_of(theirs) == rows_of(ours)


def test_layout_of_the_parts(shards, tmp_path):
    """JPEGs lie uncompressed, the rest compressed; scores and areas have statistics and pages an index."""
    manifest = process_shard(shards[0].path, tmp_path, SMALL_PARTS)
    for part in manifest.parts:
        metadata = pq.read_metadata(tmp_path / part.path)
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            assert group.num_rows <= 6
            columns = [group.column(index) for index in range(group.num_columns)]
            compression = {column.path_in_schema: column.compression for column in columns}
            assert compression.pop("image.bytes") == "UNCOMPRESSED"
            assert set(compression.values()) == {"ZSTD"}
            assert all(column.has_offset_index for column in columns)
            prunable = {column.path_in_schema.rpartition(".")[2] for column in columns if column.statistics}
            assert {"image_id", "area", "predicted_iou", "stability_score"} <= prunable
    rows = pq.read_table(tmp_path / manifest.parts[0].path).to_pylist()
    ids = [row["image_id"] for row in rows]
    assert (manifest.parts[0].first_image_id, manifest.parts[0].last_image_id) == (min(ids), max(ids))


def test_provenance_is_in_the_schema(shards, tmp_path):
    """The metadata says what was filtered and what added columns."""
    read = ReadOptions(annotation_filter=AnnotationFilter(min_area=0.01), image_filter=ImageFilter(ids=range(10_000)))
    manifest = process_shard(shards[0].path, tmp_path, ConvertOptions(read=read, transforms=(CountMasks(),)))
    metadata = pq.read_schema(tmp_path / manifest.parts[0].path).metadata
    provenance = json.loads(metadata[b"sa1b_hf"])
    assert provenance["version"] == 1
    assert provenance["filters"]["min_area"] == 0.01
    assert provenance["filters"]["ids"]["count"] == 10_000
    assert provenance["transforms"] == [{"kind": "count", "names": ["few", "many"]}]
    assert b"huggingface" in metadata


@pytest.mark.parametrize("portion", [1, 4, 100])
def test_groups_do_not_depend_on_portions(portion, shards):
    """Rows are cut at the same places however they come, within the limits of number and weight."""
    rows = pa.Table.from_batches(sa1b_hf.iter_batches(shards[0].path, "sa_000000"))
    limit = int(row_weights(rows).max() * 2.5)
    whole = list(iter_groups([rows], 5, limit))
    portions = [rows.slice(start, portion) for start in range(0, rows.num_rows, portion)]
    groups = list(iter_groups(portions, 5, limit))
    assert [group.num_rows for group in groups] == [group.num_rows for group in whole]
    assert pa.concat_tables(groups).equals(rows)
    assert all(row_weights(group).sum() <= limit for group in groups)
    assert {group.num_rows for group in groups} > {2}


# ── once ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_equal_input_gives_equal_bytes(shards, tmp_path):
    """Another folder, less memory and other batches give the same bytes, and the manifest has their hashes."""
    first = process_shard(shards[0].path, tmp_path / "one", SMALL_PARTS)
    other = replace(SMALL_PARTS, read=ReadOptions(ram_cap=5_000, batch_rows=3, inflate_threads=2))
    process_shard(shards[0].path, tmp_path / "two", other)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
    for part in first.parts:
        data = (tmp_path / "one" / part.path).read_bytes()
        assert (_parts.hashlib.sha256(data).hexdigest(), len(data)) == (part.sha256, part.size)
    assert sum(part.rows for part in first.parts) == len(shards[0].image_ids) == first.report.delivered
    assert read_manifests(tmp_path / "one") == [first]
    assert hidden(tmp_path / "one") == []


def change_options(shard: Path, out: Path) -> ConvertOptions:
    return replace(SMALL_PARTS, row_group_rows=3)


def change_file(shard: Path, out: Path) -> ConvertOptions:
    make_shard(shard, first_id=1, num_images=9, seed=5)
    return SMALL_PARTS


def lose_part(shard: Path, out: Path) -> ConvertOptions:
    next(out.glob("data/train/*")).unlink()
    return SMALL_PARTS


def cut_part(shard: Path, out: Path) -> ConvertOptions:
    os.truncate(next(out.glob("data/train/*")), 100)
    return SMALL_PARTS


def garble_manifest(shard: Path, out: Path) -> ConvertOptions:
    (out / "manifests" / "sa_000000.json").write_text("{")
    return SMALL_PARTS


def change_format(shard: Path, out: Path) -> ConvertOptions:
    return replace(SMALL_PARTS, format="webdataset")


def change_to_folder(shard: Path, out: Path) -> ConvertOptions:
    return ConvertOptions(format="folder")


@pytest.mark.parametrize(
    "change",
    [change_options, change_file, lose_part, cut_part, garble_manifest, change_format, change_to_folder],
    ids=lambda change: change.__name__,
)
def test_a_rerun_does_what_changed(change, tmp_path):
    """Nothing is done twice; what changed is done again, and leaves nothing of before."""
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=20).path
    out = tmp_path / "out"
    process_shard(shard, out, SMALL_PARTS)
    (again,) = iter_convert(shard, out, SMALL_PARTS)
    assert again.was_done
    options = change(shard, out)
    (done,) = iter_convert(shard, out, options)
    assert not done.was_done
    process_shard(shard, tmp_path / "fresh", options)
    assert snapshot(out) == snapshot(tmp_path / "fresh")
    (done,) = iter_convert(shard, out, options)
    assert done.was_done


def test_a_known_md5_stands_for_the_time(tmp_path):
    """A shard that was downloaded again, to the same MD5, is done."""
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=3).path

    def receive(md5: str) -> None:
        stat = shard.stat()
        places = Places(tmp_path, "sa_000000")
        places.hidden.mkdir(exist_ok=True)
        write_receipt(places.receipt, Receipt("sa_000000", stat.st_size, stat.st_mtime_ns, "verified", md5))

    receive("aa")
    assert process_shard(shard, tmp_path / "out").input["md5"] == "aa"
    os.utime(shard, ns=(1, 1))
    receive("aa")
    (done,) = iter_convert(shard, tmp_path / "out")
    assert done.was_done
    receive("bb")
    (done,) = iter_convert(shard, tmp_path / "out")
    assert not done.was_done


# ── WebDataset ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_webdataset_is_read_by_both_builders(shards, tmp_path):
    """Our builder gives the same rows but for the shard's name, that of `datasets` pairs of both halves."""
    manifest = process_shard(shards[0].path, tmp_path, replace(SMALL_PARTS, format="webdataset"))
    assert len(manifest.parts) > 2
    ours = {row["image_id"]: row for row in rows_of(stream(shards[0].path))}
    files = [str(tmp_path / part.path) for part in manifest.parts]
    back = rows_of(sa1b_hf.load_dataset(data_files=files, split="train", streaming=True))
    assert [{**row, "shard": "sa_000000"} for row in back] == list(ours.values())
    theirs = datasets.load_dataset("webdataset", data_files=files, split="train", streaming=True)
    seen = 0
    for row in theirs.cast_column("jpg", datasets.Image(decode=False)):
        image_id = int(row["__key__"].removeprefix("sa_"))
        assert row["jpg"]["bytes"] == ours[image_id]["image"]["bytes"]
        assert row["json"] == sa1b_hf.row_to_document(ours[image_id])
        seen += 1
    assert seen == len(ours)


# ── resize ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_resized_rows_fit_together(shards, tmp_path):
    """Image, masks, boxes, areas and points of a row are of one size, and as resizing each of them gives."""
    process_shard(shards[0].path, tmp_path, ConvertOptions(resize=48, quality=80))
    process_shard(shards[0].path, tmp_path / "again", ConvertOptions(resize=48, quality=80))
    again = snapshot(tmp_path / "again")
    assert {name: data for name, data in snapshot(tmp_path).items() if "again" not in name} == again
    originals = {row["image_id"]: row for row in rows_of(stream(shards[0].path))}
    for row in rows_of(stream_parquet(tmp_path)):
        original = originals[row["image_id"]]
        size = (row["height"], row["width"])
        assert max(size) == 48
        assert image_size(row["image"]) == size
        assert len(row["image"]["bytes"]) < len(original["image"]["bytes"])
        wanted = decode_image(original["image"], size).astype(int)
        assert np.abs(decode_image(row["image"]).astype(int) - wanted).mean() < 12
        masks, before = row["annotations"], original["annotations"]
        assert np.array_equal(rle.decode(masks), rle.decode(before, size))
        assert [one["area"] for one in masks] == rle.area(masks).tolist()
        assert [one["bbox"] for one in masks] == rle.bbox(masks).tolist()
        scale = np.array([row["width"] / original["width"], row["height"] / original["height"]])
        for one, other in zip(masks, before, strict=True):
            assert one["segmentation"]["size"] == list(size)
            assert np.allclose(one["point_coords"], np.array(other["point_coords"]) * scale)
            assert np.allclose(one["crop_box"], np.array(other["crop_box"]) * np.tile(scale, 2))
            assert {key: one[key] for key in ("id", "predicted_iou", "stability_score")} == {
                key: other[key] for key in ("id", "predicted_iou", "stability_score")
            }


def test_small_images_are_not_touched(shards, tmp_path):
    """Images that are small enough keep every byte, beside others that do not."""
    process_shard(shards[0].path, tmp_path, ConvertOptions(resize=96))
    pairs = list(zip(rows_of(stream_parquet(tmp_path)), rows_of(stream(shards[0].path)), strict=True))
    is_small = [max(before["width"], before["height"]) <= 96 for _, before in pairs]
    assert [row == before for row, before in pairs] == is_small
    assert 0 < sum(is_small) < len(pairs)


@pytest.mark.parametrize("image", [True, False])
def test_resize_without_images_and_without_masks(image, tmp_path):
    """Only what is there is resized; an image that lost all masks to a filter keeps its empty list."""
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=4).path
    read = ReadOptions(annotation_filter=AnnotationFilter(min_predicted_iou=5.0))
    process_shard(shard, tmp_path / "out", ConvertOptions(image=image, resize=40, read=read))
    rows = rows_of(stream_parquet(tmp_path / "out"))
    assert len(rows) == 4
    found = {(max(row["width"], row["height"]), len(row["annotations"]), "image" in row) for row in rows}
    assert found == {(40, 0, image)}


# ── damage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["torn_jpg", "json_missing_key", "missing_end", "gzip_bad_crc", "corrupt_gzip_late"])
def test_damage_is_counted_in_the_manifest(fault, tmp_path):
    """A tolerant conversion has the good rows, and counts the others by reason as a pass does."""
    manifest = make_shard(tmp_path / "sa_000000.tar", num_images=20, faults=[fault])
    read = ReadOptions(on_error="warn")
    report = process_shard(manifest.path, tmp_path / "out", ConvertOptions(read=read)).report
    rows = rows_of(stream_parquet(tmp_path / "out"))
    assert {row["image_id"] for row in rows} >= manifest.good_ids
    assert report.delivered == len(rows)
    found = Counter(report.skipped) + Counter(shard.reason for shard in report.broken)
    assert set(found) & set(manifest.reasons[fault])
    assert report.seen == report.delivered + report.skipped.total()


def test_strict_conversion_leaves_nothing_of_a_damaged_shard(tmp_path):
    """With on_error="raise" there is no part, no draft and no manifest; the shards before it stay."""
    good = make_shard(tmp_path / "sa_000000.tar", num_images=4).path
    bad = make_shard(tmp_path / "sa_000001.tar", first_id=100, num_images=20, faults=["missing_end"]).path
    out = tmp_path / "out"
    with pytest.raises(ShardError, match="sa_000001"):
        convert([good, bad], out, ConvertOptions(row_group_rows=3))
    gc.collect()  # what is left of the writer does not complain
    assert [manifest.shard for manifest in read_manifests(out)] == ["sa_000000"]
    assert {part.name for part in (out / "data" / "train").iterdir()} == {"sa_000000-00000.parquet"}
    assert hidden(out) == []


def test_masks_that_do_not_decode_cost_their_image(tmp_path):
    """A mask whose runs do not fill the image is found by resizing, counted, and taken off the delivered."""
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=6, compression="none").path
    data = shard.read_bytes()
    at = data.index(b'"counts":')
    start = data.index(b'"', at + 9) + 1
    shard.write_bytes(data[: start + 2] + b"000" + data[start + 5 :])
    with pytest.raises(RecordError, match="sa_"):
        process_shard(shard, tmp_path / "out", ConvertOptions(resize=40))
    read = ReadOptions(on_error="warn")
    report = process_shard(shard, tmp_path / "out", ConvertOptions(resize=40, read=read)).report
    rows = rows_of(stream_parquet(tmp_path / "out"))
    assert (report.seen, report.delivered, report.skipped.total()) == (6, 5, 1)
    assert report.delivered == len(rows)
    assert report.num_annotations == sum(len(row["annotations"]) for row in rows)


def test_what_the_network_withheld_is_not_called_done(tmp_path):
    """A tolerant conversion whose server gives up in the middle is a failure that a rerun mends, not a short shard."""
    from support.misbehaving_server import Answer, MisbehavingServer

    shard = make_shard(tmp_path / "sa_000000.tar", num_images=20).path
    body = shard.read_bytes()
    options = ConvertOptions(read=ReadOptions(on_error="warn"))
    with MisbehavingServer() as server:
        script = [Answer(), Answer(cut_after=len(body) // 2)]
        url = server.add("/sa_000000.tar", body, script=script, then=Answer(status=403))
        result = convert(url, tmp_path / "out", options)
        assert [failure.error.reason for failure in result.failures] == ["http-403"]
        assert not list((tmp_path / "out").glob("manifests/*"))
        server.add("/sa_000000.tar", body)
        result = convert(url, tmp_path / "out", options)
        (again,) = iter_convert(url, tmp_path / "out", options)
    assert result.report.delivered == 20
    assert again.was_done


@pytest.mark.parametrize(("number", "reason"), [(errno.ENOSPC, "disk-full"), (errno.EIO, "io-error")])
def test_a_full_disk_is_said(number, reason, shards, tmp_path, monkeypatch):
    """A failing write becomes the error that says what to do; the next run succeeds."""

    def fail(self, data):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(_parts.DraftFile, "write", fail)
        with pytest.raises(SourceError, match="run again") as caught:
            process_shard(shards[0].path, tmp_path)
    assert caught.value.reason == reason
    assert hidden(tmp_path) == []
    assert process_shard(shards[0].path, tmp_path).report.delivered == 20


def test_a_shard_replaced_meanwhile_is_noticed(tmp_path):
    """Rows of a file that was replaced during the conversion are not published."""
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=4).path
    (source,) = sa1b_hf.sources.find_shards(data_files={"train": [str(shard)]})["train"]
    job = ShardJob(source, tmp_path / "out", ConvertOptions(), watch=lambda *_: os.utime(shard, ns=(1, 1)))
    with pytest.raises(SourceError, match="replaced"):
        job.run()
    assert not list((tmp_path / "out").glob("data/*/*"))


# ── transforms ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_transforms_add_columns(shards, tmp_path):
    """A transform's columns are in the files with their features; another fingerprint does it again."""
    options = ConvertOptions(transforms=(CountMasks(),))
    process_shard(shards[0].path, tmp_path, options)
    dataset = stream_parquet(tmp_path)
    assert dataset.features == CountMasks().features(sa1b_hf.sa1b_features())
    assert all(row["num_masks"] == len(row["annotations"]) for row in rows_of(dataset))
    (same,) = iter_convert(shards[0].path, tmp_path, options)
    (other,) = iter_convert(shards[0].path, tmp_path, ConvertOptions(transforms=(CountMasks("count-2"),)))
    assert (same.was_done, other.was_done) == (True, False)


@pytest.mark.parametrize("spoil", ["rows", "type"])
def test_a_transform_that_breaks_its_promise_is_refused(spoil, shards, tmp_path):
    """Other rows or types than promised are an error, not a file."""
    with pytest.raises(ConfigError, match="expected"):
        process_shard(shards[0].path, tmp_path, ConvertOptions(transforms=(CountMasks(spoil=spoil),)))


def test_webdataset_has_added_columns_in_the_documents(shards, tmp_path):
    """What a transform added is a key of the document, which readers of SA-1B pass over."""
    process_shard(shards[0].path, tmp_path, ConvertOptions(format="webdataset", transforms=(CountMasks(),)))
    files = [str(path) for path in tmp_path.glob("data/train/*.tar")]
    for row in datasets.load_dataset("webdataset", data_files=files, split="train", streaming=True):
        assert row["json"]["num_masks"] == len(row["json"]["annotations"])


# ── many shards ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_processes_give_the_same(shards, tmp_path):
    """Two processes write what one writes, and the counts of all shards are summed up."""
    paths = [shard.path for shard in shards]
    one = convert(paths, tmp_path / "one", SMALL_PARTS)
    two = convert(paths, tmp_path / "two", SMALL_PARTS, num_proc=2)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
    assert [manifest.shard for manifest in two.manifests] == ["sa_000000", "sa_000001", "sa_000002"]
    assert str(one.report) == str(two.report)
    assert two.report.delivered == sum(len(shard.image_ids) for shard in shards)


@dataclass(frozen=True)
class Die(CountMasks):
    """A transform that kills its process at the second shard."""

    def __call__(self, table):
        if table["shard"][0].as_py() == "sa_000001":
            os.kill(os.getpid(), 9)
        return super().__call__(table)


def test_a_dead_worker_is_reported(shards, tmp_path):
    """A worker that is killed ends the run with an error that says so; complete shards stay, nothing half-done shows."""
    paths = [shard.path for shard in shards[:2]]
    with pytest.raises(ShardError, match="sa_000001") as caught:
        convert(paths, tmp_path, ConvertOptions(transforms=(Die(),)), num_proc=2)
    assert caught.value.reason == "worker-died"
    assert not list(tmp_path.glob("data/train/sa_000001*"))


def test_ranks_share_the_shards(shards, tmp_path):
    """Each shard is one rank's; together they convert all of a folder."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in shards:
        shutil.copy(shard.path, folder)
    done = [
        [one.shard for one in convert(folder, tmp_path / "out", rank=rank, world_size=2).manifests] for rank in (0, 1)
    ]
    assert done == [["sa_000000", "sa_000002"], ["sa_000001"]]
    assert len(read_manifests(tmp_path / "out")) == 3


def test_tolerance_goes_on_with_other_shards(shards, tmp_path):
    """With on_error="warn" a shard that cannot be had is a failure among the results."""
    paths = [tmp_path / "sa_000009.tar", shards[0].path]
    result = convert(paths, tmp_path / "out", ConvertOptions(read=ReadOptions(on_error="warn")))
    assert [failure.shard for failure in result.failures] == ["sa_000009"]
    assert isinstance(result.failures[0], Failure)
    assert [manifest.shard for manifest in result.manifests] == ["sa_000000"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: ConvertOptions(format="png"), "format: expected one of"),
        (lambda path: ConvertOptions(resize=0), "longest of 1 to"),
        (lambda path: ConvertOptions(resize=10, quality=101), "quality of 1 to 100"),
        (lambda path: ConvertOptions(part_bytes=0), "part_bytes"),
        (lambda path: ConvertOptions(read=ReadOptions(columns=("image",))), "image_id"),
        (lambda path: ConvertOptions(format="coco", read=ReadOptions(columns=("image", "image_id"))), "annotations"),
        (lambda path: convert(path, "out", num_proc=0), "num_proc"),
        (lambda path: convert(path, "out", rank=2, world_size=2), "rank: expected 0 to 1"),
        (lambda path: convert([path, path], "out"), "more than once"),
        (lambda path: read_manifests("nowhere"), "run sa1b convert first"),
    ],
)
def test_options_that_make_no_sense(call, message, shards):
    """Each is refused before anything is written, saying what was expected."""
    with pytest.raises(ConfigError, match=message):
        call(shards[0].path)


# ── command line ────────────────────────────────────────────────────────────────────────────────────────────────────


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.exit_code, result.output


def test_command(shards, tmp_path):
    """`sa1b convert` filters, converts and counts; again, it says that this was done before."""
    out = tmp_path / "out"
    arguments = ("convert", shards[0].path, out, "--max-masks", 2, "--min-area", "0.001", "--no-images")
    status, text = run(*arguments)
    assert status == 0
    assert "sa_000000  converted" in text
    assert "20 images delivered of 20 seen" in text
    rows = rows_of(stream_parquet(out))
    assert rows == rows_of(stream(shards[0].path, image=False, max_masks=2, min_area=0.001))
    status, text = run(*arguments, "--format", "json")
    assert (status, json.loads(text)["status"]) == (0, "done before")


def test_command_says_what_is_damaged(tmp_path):
    """A shard that breaks off is converted as far as it goes, and the exit status says so."""
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=20, faults=["missing_end"]).path
    status, text = run("convert", shard, tmp_path / "out", "--on-error", "warn")
    assert status == 1
    assert "BROKEN sa_000000: missing-end" in text
    status, text = run("convert", shard, tmp_path / "strict")
    assert status == 1
    assert "Error: sa_000000" in text


def test_command_chooses_shards(shards, tmp_path):
    """--shards chooses from a folder; places and links exclude each other, and one of them is needed."""
    folder = shards[0].path.parent
    status, text = run("convert", folder, tmp_path / "out", "--shards", "1", "--format", "quiet")
    assert (status, text) == (0, "")
    assert [manifest.shard for manifest in read_manifests(tmp_path / "out")] == ["sa_000001"]
    assert run("convert", tmp_path / "out")[0] == 2
    assert run("convert", shards[0].path, tmp_path / "out", "--shards", "1")[0] == 2
    assert run("convert", shards[0].path, tmp_path / "out", "--min-area", "big")[0] == 2


def test_process_and_delete(shards, tmp_path):
    """`sa1b download --then "sa1b convert …"` converts each shard, deletes it, and does nothing the second time."""
    import sys

    folder, out = tmp_path / "work", tmp_path / "out"
    command = f"{sys.executable} -m sa1b_hf convert {{path}} {out} --no-images --format quiet"
    arguments = ("download", folder, "--from", shards[0].path.parent, "--shards", "0", "--no-md5", "--then", command)
    for _ in range(2):
        status, _ = run(*arguments, "--format", "quiet")
        assert status == 0
        assert [path.name for path in folder.iterdir()] == [".sa1b"]
        assert read_manifests(out)[0].report.delivered == 20
