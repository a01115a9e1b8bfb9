"""Formats for other tools: what they read from them is what SA-1B has."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow as pa
import pytest
from pycocotools.coco import COCO

import sa1b_hf
from sa1b_hf import ReadOptions, rle
from sa1b_hf.convert import ConvertOptions, convert, process_shard
from sa1b_hf.errors import ConfigError, MissingExtraError
from sa1b_hf.exports import merge_coco
from sa1b_hf.exports.categories import Categories
from sa1b_hf.exports.yolo import mask_to_polygon
from sa1b_hf.testing import make_shard


@pytest.fixture(scope="module")
def originals(shards):
    """Rows of the first two shards by image id, with the JPEGs as bytes."""
    files = [str(shard.path) for shard in shards[:2]]
    dataset = sa1b_hf.load_dataset(data_files=files, split="train", streaming=True)
    return {row["image_id"]: row for row in dataset.cast_column("image", datasets.Image(decode=False))}


@dataclass(frozen=True)
class LabelByArea:
    """Labels masks "small" or "large", and abstains for the first of each image."""

    fingerprint: str = "by-area"

    @property
    def provenance(self) -> dict:
        return {"kind": "labels", "names": ["small", "large"], "column": "labels"}

    def features(self, features):
        labels = [{"annotation_id": datasets.Value("int64"), "label_ids": [datasets.Value("int32")]}]
        return datasets.Features({**features, "labels": labels})

    def __call__(self, table):
        rows = [
            [
                {"annotation_id": one["id"], "label_ids": [-1] if not number else [int(one["area"] > 300)]}
                for number, one in enumerate(row)
            ]
            for row in table["annotations"].to_pylist()
        ]
        kind = pa.list_(pa.struct([("annotation_id", pa.int64()), ("label_ids", pa.list_(pa.int32()))]))
        return table.append_column("labels", pa.array(rows, kind))


def label_of(number: int, annotation: dict) -> int:
    return 0 if not number else 1 + int(annotation["area"] > 300)


def load_coco(path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def check_coco(coco: COCO, originals: dict, label=lambda number, annotation: 0) -> None:
    """Compare everything that pycocotools reads with the rows."""
    assert sorted(coco.getImgIds()) == sorted(originals)
    for image_id, row in originals.items():
        entry = coco.imgs[image_id]
        assert (entry["width"], entry["height"]) == (row["width"], row["height"])
        found = {one["id"]: one for one in coco.loadAnns(coco.getAnnIds(imgIds=image_id))}
        assert len(found) == len(row["annotations"])
        for number, annotation in enumerate(row["annotations"]):
            one = found[annotation["id"]]
            x, y, width, height = annotation["bbox"]
            assert one["bbox"] == [x, y, width + 1, height + 1]
            assert one["bbox"] == rle.bbox(annotation, convention="coco").tolist()
            assert one["category_id"] == label(number, annotation) + 1
            assert (one["area"], one["iscrowd"]) == (annotation["area"], 0)
            assert one["predicted_iou"] == annotation["predicted_iou"]
            assert np.array_equal(coco.annToMask(one), rle.decode(annotation))


# ── COCO ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_coco_round_trip(shards, originals, tmp_path):
    """pycocotools reads from each file what the shard has, and the JPEGs lie where the file says."""
    convert([shard.path for shard in shards[:2]], tmp_path, ConvertOptions(format="coco"))
    for name in ("sa_000000", "sa_000001"):
        coco = load_coco(tmp_path / "annotations" / f"{name}.json")
        rows = {image_id: row for image_id, row in originals.items() if row["shard"] == name}
        check_coco(coco, rows)
        for image_id, row in rows.items():
            assert (tmp_path / "images" / coco.imgs[image_id]["file_name"]).read_bytes() == row["image"]["bytes"]


def test_coco_files_are_joined(shards, originals, tmp_path):
    """The files of all shards as one hold all of them; without images there are none."""
    convert([shard.path for shard in shards[:2]], tmp_path, ConvertOptions(format="coco", image=False))
    assert not (tmp_path / "images").exists()
    merge_coco(sorted((tmp_path / "annotations").iterdir()), tmp_path / "all.json")
    coco = load_coco(tmp_path / "all.json")
    check_coco(coco, originals)
    assert coco.imgs[min(originals)]["file_name"] == f"sa_{min(originals)}.jpg"
    assert [path.name for path in tmp_path.iterdir() if "draft" in path.name] == []


def test_coco_has_labels_as_categories(shards, originals, tmp_path):
    """Labels become categories after "object", which stays for masks without one."""
    options = ConvertOptions(format="coco", image=False, transforms=(LabelByArea(),))
    process_shard(shards[0].path, tmp_path, options)
    coco = load_coco(tmp_path / "annotations" / "sa_000000.json")
    assert {one["id"]: one["name"] for one in coco.cats.values()} == {1: "object", 2: "small", 3: "large"}
    check_coco(coco, {key: row for key, row in originals.items() if row["shard"] == "sa_000000"}, label_of)


def test_coco_without_any_image(tmp_path):
    """A shard of which a filter leaves nothing gives a valid, empty file."""
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=3).path
    read = ReadOptions(image_filter=sa1b_hf.ImageFilter(min_width=10_000))
    process_shard(shard, tmp_path / "out", ConvertOptions(format="coco", read=read))
    document = json.loads((tmp_path / "out" / "annotations" / "sa_000000.json").read_text())
    assert (document["images"], document["annotations"]) == ([], [])
    merge_coco([tmp_path / "out" / "annotations" / "sa_000000.json"] * 2, tmp_path / "all.json")
    assert json.loads((tmp_path / "all.json").read_text())["images"] == []


def test_coco_files_that_cannot_be_joined(shards, tmp_path):
    """Files of somebody else, or with other categories, are refused, and nothing is written."""
    for name, transforms in (("one", ()), ("two", (LabelByArea(),))):
        options = ConvertOptions(format="coco", image=False, transforms=transforms)
        process_shard(shards[0].path, tmp_path / name, options)
    files = [tmp_path / name / "annotations" / "sa_000000.json" for name in ("one", "two")]
    with pytest.raises(ConfigError, match="one list of categories"):
        merge_coco(files, tmp_path / "all.json")
    (tmp_path / "other.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(ConfigError, match="found another one"):
        merge_coco([tmp_path / "other.json"], tmp_path / "all.json")
    assert not (tmp_path / "all.json").exists()


@pytest.mark.parametrize(
    ("label", "category"),
    [(None, 0), ({"label_ids": None}, 0), ({"label_ids": []}, 0), ({"label_ids": [-1]}, 0), ({"label_ids": [1, 0]}, 2)],
)
def test_category_of_a_label(label, category):
    """The best label counts; none at all, or -1, is "object"."""
    categories = Categories({"transforms": [{"kind": "count"}, {"names": ["a", "b"]}]})
    assert categories.names == ["object", "a", "b"]
    assert categories.of_row({"annotations": [{}], "labels": [label]}) == [category]
    assert categories.of_row({"annotations": [{}, {}]}) == [0, 0]


# ── a folder of files ───────────────────────────────────────────────────────────────────────────────────────────────


def test_folder_of_files(shards, originals, tmp_path):
    """Each image is its JPEG, to the byte, and its document, to the value."""
    manifest = process_shard(shards[0].path, tmp_path, ConvertOptions(format="folder"))
    (part,) = manifest.parts
    rows = {image_id: row for image_id, row in originals.items() if row["shard"] == "sa_000000"}
    files = {path.name: path.read_bytes() for path in (tmp_path / part.path).iterdir()}
    assert len(files) == 2 * len(rows)
    assert sum(map(len, files.values())) == part.size
    for image_id, row in rows.items():
        assert files[f"sa_{image_id}.jpg"] == row["image"]["bytes"]
        assert json.loads(files[f"sa_{image_id}.json"]) == sa1b_hf.row_to_document(row)


# ── YOLO ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def rasterise(polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32)], 1)
    return canvas


def test_yolo_lines(shards, originals, tmp_path):
    """Each line is a mask, its class and an outline in 0 to 1, beside the JPEGs; data.yaml names the classes."""
    pytest.importorskip("cv2")
    convert([shard.path for shard in shards[:2]], tmp_path, ConvertOptions(format="yolo", transforms=(LabelByArea(),)))
    assert '0: "object"\n  1: "small"\n  2: "large"' in (tmp_path / "data.yaml").read_text()
    overlaps = []
    for image_id, row in originals.items():
        image = tmp_path / "images" / "train" / row["shard"] / f"sa_{image_id}.jpg"
        assert image.read_bytes() == row["image"]["bytes"]
        lines = (tmp_path / "labels" / "train" / row["shard"] / f"sa_{image_id}.txt").read_text().splitlines()
        size = np.array([row["width"], row["height"]])
        expected = [(label_of(n, one), rle.decode(one)) for n, one in enumerate(row["annotations"])]
        expected = [(label, mask) for label, mask in expected if len(mask_to_polygon(mask)) >= 3]
        assert len(lines) == len(expected)
        for line, (label, mask) in zip(lines, expected, strict=True):
            category, *numbers = line.split()
            points = np.array(numbers, np.float64).reshape(-1, 2)
            assert int(category) == label
            assert points.min() >= 0
            assert points.max() <= 1
            drawn = rasterise(points * size, mask.shape)
            overlaps.append((drawn & mask).sum() / (drawn | mask).sum())
    # of small ragged masks; holes are lost
    assert np.median(overlaps) > 0.9


def test_yolo_joins_the_parts_of_a_mask():
    """A mask of three parts is one outline that covers all of them and little else."""
    pytest.importorskip("cv2")
    mask = np.zeros((60, 80), np.uint8)
    mask[5:20, 5:30] = mask[40:55, 10:20] = mask[10:50, 50:75] = 1
    polygon = mask_to_polygon(mask)
    drawn = rasterise(polygon, mask.shape)
    assert not (mask & ~drawn).any()
    assert (drawn & ~mask & 1).sum() < 100  # two bridges, a pixel wide
    assert mask_to_polygon(np.zeros((5, 5), np.uint8)).shape == (0, 2)
    assert mask_to_polygon(np.zeros((0, 0), np.uint8)).shape == (0, 2)


def test_yolo_without_its_extra(shards, tmp_path, monkeypatch):
    """Without OpenCV the error has the line to type, and nothing is left behind."""
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sa1b_hf\[yolo\]'"):
        process_shard(shards[0].path, tmp_path, ConvertOptions(format="yolo"))
    assert not list(tmp_path.glob("manifests/*"))


def test_yolo_passes_over_malformed_masks(tmp_path):
    """An image whose mask does not decode is skipped by its reason, and the others are written."""
    pytest.importorskip("cv2")
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=6, compression="none").path
    data = shard.read_bytes()
    start = data.index(b'"', data.index(b'"counts":') + 9) + 1
    shard.write_bytes(data[: start + 2] + b"000" + data[start + 5 :])
    options = ConvertOptions(format="yolo", read=ReadOptions(on_error="warn"))
    manifest = process_shard(shard, tmp_path / "out", options)
    assert (manifest.report.delivered, manifest.report.skipped.total()) == (5, 1)
    assert len(list((tmp_path / "out").glob("labels/train/sa_000000/*.txt"))) == 5
    assert manifest.parts[0].rows == 5
