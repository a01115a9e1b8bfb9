"""The index of a converted folder: where images are, fair subsets, random access."""

from __future__ import annotations

import json
import pickle
import random
import shutil

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import sa1b_hf
from sa1b_hf import ReadOptions
from sa1b_hf.cli import main
from sa1b_hf.convert import ConvertOptions, convert
from sa1b_hf.dataset_index import ConvertedDataset, build_dataset_index, load_dataset_index, subset
from sa1b_hf.errors import ConfigError, PairingError

OPTIONS = ConvertOptions(row_group_rows=4, part_bytes=20_000)


@pytest.fixture(scope="module")
def originals(shards):
    """Rows of all three shards by image id, with the JPEGs as bytes."""
    files = [str(shard.path) for shard in shards]
    dataset = sa1b_hf.load_dataset(data_files=files, split="train", streaming=True)
    return {row["image_id"]: row for row in dataset.cast_column("image", datasets.Image(decode=False))}


@pytest.fixture(scope="module")
def converted(shards, tmp_path_factory):
    """The same, converted into many small parts and indexed."""
    out = tmp_path_factory.mktemp("converted")
    convert([shard.path for shard in shards], out, OPTIONS)
    build_dataset_index(out)
    return out


def test_index_says_where_images_are(converted, originals):
    """Each image is at the part and row that the index says, in the row group that it says."""
    rows = load_dataset_index(converted).to_pylist()
    assert [row["image_id"] for row in rows] == sorted(originals)
    assert len({row["part"] for row in rows}) > 6
    for row in rows:
        with pq.ParquetFile(converted / row["part"]) as file:
            assert file.read(columns=["image_id"])["image_id"][row["row"]].as_py() == row["image_id"]
            group = file.read_row_group(row["row_group"], columns=["image_id"])
            assert row["image_id"] in group["image_id"].to_pylist()
        assert row["shard"] == originals[row["image_id"]]["shard"]


def test_summaries(converted, originals):
    """Numbers of masks, areas and scores are those of the annotations."""
    for row in load_dataset_index(converted).to_pylist():
        original = originals[row["image_id"]]
        masks = original["annotations"]
        assert (row["width"], row["height"]) == (original["width"], original["height"])
        assert row["num_masks"] == len(masks)
        areas = [mask["area"] for mask in masks]
        assert (row["area_sum"], row["area_min"], row["area_max"]) == (sum(areas), min(areas), max(areas))
        for name in ("predicted_iou", "stability_score"):
            scores = [mask[name] for mask in masks]
            assert row[f"{name}_mean"] == pytest.approx(np.mean(scores), rel=1e-6)
            assert row[f"{name}_min"] == pytest.approx(min(scores), rel=1e-6)


def test_images_without_masks_have_null_summaries(shards, tmp_path):
    """Where filters left nothing the number is 0 and the summaries are null."""
    read = ReadOptions(annotation_filter=sa1b_hf.AnnotationFilter(min_area=0.3))
    convert(shards[0].path, tmp_path, ConvertOptions(image=False, read=read))
    build_dataset_index(tmp_path)
    rows = load_dataset_index(tmp_path).to_pylist()
    counts = [row["num_masks"] for row in rows]
    assert 0 in counts
    assert max(counts) > 0
    assert [row["area_sum"] is None and row["predicted_iou_min"] is None for row in rows] == [not n for n in counts]
    assert len(subset(load_dataset_index(tmp_path), 5, by="area")) == 5


def test_columns_that_are_missing_are_null(shards, tmp_path):
    """A conversion of ids alone has an index too."""
    convert(shards[0].path, tmp_path, ConvertOptions(read=ReadOptions(columns=("image_id",))))
    build_dataset_index(tmp_path)
    rows = load_dataset_index(tmp_path).to_pylist()
    assert len(rows) == 20
    assert {(row["width"], row["num_masks"], row["shard"]) for row in rows} == {(None, None, "sa_000000")}


# ── random access ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_random_access_gives_the_rows_of_the_builder(converted, originals):
    """By number, by id, in batches, in any order: each row is the builder's."""
    dataset = ConvertedDataset(converted, max_open=2)
    ids = sorted(originals)
    assert len(dataset) == len(ids)
    order = list(range(len(ids)))
    random.Random(1).shuffle(order)
    for number in order:
        assert dataset[number] == originals[ids[number]]
        assert dataset.by_id(ids[number]) == originals[ids[number]]
    assert dataset.__getitems__(order[:20]) == [originals[ids[number]] for number in order[:20]]
    assert dataset[-1] == originals[ids[-1]]
    assert len(dataset._files) <= 2
    dataset.close()
    assert dataset[3] == originals[ids[3]]
    dataset.close()


def test_random_access_to_some_columns_from_a_copy(converted, originals):
    """Columns are chosen, and a pickled copy opens its own files."""
    dataset = ConvertedDataset(converted, columns=["image_id", "width"])
    image_id = max(originals)
    assert dataset.by_id(image_id) == {"image_id": image_id, "width": originals[image_id]["width"]}
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy._files == {}
    assert copy.by_id(image_id) == dataset.by_id(image_id)
    assert [row["image_id"] for row in copy] == sorted(originals)
    copy.close()
    dataset.close()


@pytest.mark.parametrize("image_id", [0, 10**9])
def test_an_image_that_is_not_there(image_id, converted):
    """Its id is in the error."""
    with pytest.raises(PairingError, match=str(image_id)):
        ConvertedDataset(converted).by_id(image_id)


# ── subsets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("by", ["num_masks", "area", "predicted_iou"])
def test_subsets_are_spread_as_the_whole(by, converted):
    """One image comes from each stratum, always the same one for a seed."""
    index = load_dataset_index(converted)
    ids = subset(index, 12, by=by, seed=3)
    assert len(set(ids.tolist())) == 12
    assert ids.tolist() == sorted(ids.tolist()) == subset(index, 12, by=by, seed=3).tolist()
    assert ids.tolist() != subset(index, 12, by=by, seed=4).tolist()
    masks, areas = index["num_masks"].to_numpy(), index["area_sum"].to_numpy()
    key = {"num_masks": masks, "area": areas / masks, "predicted_iou": index["predicted_iou_mean"].to_numpy()}[by]
    ranks = np.searchsorted(np.sort(key), key[np.isin(index["image_id"].to_numpy(), ids)])
    # of 63 images in 12 strata of 5 or 6
    assert np.abs(np.sort(ranks) - np.arange(12) * 63 / 12).max() <= 12
    assert set(subset(index, 1000, by=by).tolist()) == set(index["image_id"].to_pylist())


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 2.5}, {"n": 2, "by": "colour"}, {"n": 2, "seed": "x"}])
def test_subsets_that_make_no_sense(options, converted):
    """Numbers, keys and seeds are checked."""
    with pytest.raises(ConfigError):
        subset(load_dataset_index(converted), **options)


# ── the index and its folder ────────────────────────────────────────────────────────────────────────────────────────


def test_an_index_of_other_parts_is_refused(converted, shards, tmp_path):
    """After another conversion the index must be made anew; without one, the line to type is said."""
    out = tmp_path / "out"
    shutil.copytree(converted, out)
    convert(shards[0].path, out, ConvertOptions(image=False))
    with pytest.raises(ConfigError, match="found that of others; run  sa1b index"):
        ConvertedDataset(out)
    build_dataset_index(out)
    assert len(ConvertedDataset(out)) == 63
    with pytest.raises(ConfigError, match="found none; run  sa1b index"):
        load_dataset_index(tmp_path)


def test_only_parquet_has_an_index(shards, tmp_path):
    """Other formats are refused by name."""
    convert(shards[0].path, tmp_path, ConvertOptions(format="webdataset"))
    with pytest.raises(ConfigError, match="webdataset"):
        build_dataset_index(tmp_path)


def test_index_is_deterministic(converted):
    """Equal parts give an equal index."""
    before = (converted / "index.parquet").read_bytes()
    build_dataset_index(converted)
    assert (converted / "index.parquet").read_bytes() == before


def test_command(shards, tmp_path):
    """`sa1b index` makes the index, finds an image, and lists a subset that `sa1b convert --ids` takes."""

    def run(*arguments) -> tuple[int, str]:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
        return result.exit_code, result.output

    out = tmp_path / "out"
    convert(shards[0].path, out, OPTIONS)
    assert run("index", out)[1].strip().endswith("20 images")
    image_id = shards[0].image_ids[7]
    status, text = run("index", out, "--image", image_id, "--format", "json")
    assert (status, json.loads(text)["image_id"]) == (0, image_id)
    assert run("index", out, "--image", 10**9) == (1, "")
    status, text = run("index", out, "--subset", 5, "--by", "area")
    assert (status, len(text.split())) == (0, 5)
    (tmp_path / "ids.txt").write_text(text)
    status, text = run("convert", shards[0].path, tmp_path / "few", "--ids", tmp_path / "ids.txt")
    assert "5 images delivered" in text
