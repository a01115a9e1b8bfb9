"""DecodeMasks: the arrays of an example against pycocotools, OpenCV and NumPy, from every form of row."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import cv2
import datasets
import numpy as np
import pyarrow as pa
import pytest
from datasets.fingerprint import Hasher
from PIL import Image
from pycocotools import mask as coco

import sa1b_hf
from sa1b_hf import rle
from sa1b_hf.errors import AnnotationError, ConfigError, ImageError, RLEError
from sa1b_hf.features import sa1b_features
from sa1b_hf.masks import DecodeMasks
from sa1b_hf.testing import make_shard

REAL = Path(__file__).parents[2] / "shared" / "data" / "real"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one shard of eight small images."""
    folder = tmp_path_factory.mktemp("masks")
    make_shard(folder / "sa_000000.tar", num_images=8, seed=3, compression="none", order="sorted")
    return folder


@pytest.fixture(scope="module")
def stream(folder):
    """The images as a stream."""
    return sa1b_hf.load_dataset("sa1b.py", data_dir=str(folder), split="train", streaming=True)


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    """The images, prepared."""
    cache_dir = str(tmp_path_factory.mktemp("cache"))
    return sa1b_hf.load_dataset("sa1b.py", data_dir=str(folder), split="train", cache_dir=cache_dir)


@pytest.fixture(scope="module")
def rows(stream):
    """Rows with JPEG bytes."""
    return list(stream.cast_column("image", datasets.Image(decode=False)))


def by_coco(annotations):
    """Dense masks by pycocotools, shape (N, h, w)."""
    planes = [
        coco.decode({**one["segmentation"], "counts": one["segmentation"]["counts"].encode()}) for one in annotations
    ]
    return np.stack(planes)


def by_cv2(planes, size):
    """The masks resized by OpenCV."""
    return np.stack([cv2.resize(plane, size[::-1], interpolation=cv2.INTER_NEAREST) for plane in planes])


def chosen(row, example):
    """The annotations that an example has, in its order."""
    by_id = {one["id"]: one for one in row["annotations"]}
    return [by_id[annotation_id] for annotation_id in example["annotation_ids"].tolist()]


def assert_same(first, second):
    """Two examples are equal, types included."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, list):
            assert len(value) == len(second[name])
        for one, two in zip(value, second[name], strict=True) if isinstance(value, list) else [(value, second[name])]:
            assert type(one) is type(two), name
            assert getattr(one, "dtype", None) == getattr(two, "dtype", None), name
            np.testing.assert_array_equal(one, two, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 64},
        {"size": 130},
        {"size": 50, "resize": "shortest"},
        {"size": (31, 77), "resize": "exact"},
        {"size": None},
    ],
)
def test_stack_equals_pycocotools_and_opencv(rows, options):
    """A stack has pycocotools' pixels, resized as OpenCV does, whatever the target."""
    for row in rows:
        example = DecodeMasks(**options, max_masks=None)(row)
        height, width = example["size"].tolist()
        expected = by_cv2(by_coco(row["annotations"]), (height, width))
        assert example["masks"].flags.c_contiguous
        assert example["image"].shape == (height, width, 3)
        np.testing.assert_array_equal(example["masks"], expected)
        np.testing.assert_array_equal(example["original_size"], [row["height"], row["width"]])
        np.testing.assert_allclose(example["scale_xy"], [width / row["width"], height / row["height"]])


@pytest.mark.parametrize("dtype", ["uint8", "bool"])
def test_padding_surrounds_the_same_pixels(rows, dtype):
    """Padded to a square, image and masks hold what they hold without, at the top left, and the pad value elsewhere."""
    for row in rows:
        plain = DecodeMasks(size=60, dtype=dtype)(row)
        padded = DecodeMasks(size=60, dtype=dtype, pad=True, pad_value=7)(row)
        height, width = plain["size"].tolist()
        assert padded["masks"].dtype == dtype
        assert padded["image"].shape == (60, 60, 3)
        np.testing.assert_array_equal(padded["image"][:height, :width], plain["image"])
        np.testing.assert_array_equal(padded["masks"][:, :height, :width], plain["masks"])
        assert padded["masks"].sum() == plain["masks"].sum()
        assert (padded["image"][height:] == 7).all()
        assert (padded["image"][:, width:] == 7).all()
        np.testing.assert_array_equal(padded["size"], plain["size"])


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("size", [33, 101])
def test_layouts_agree(rows, size, pad):
    """Bits, label map and crops hold the pixels of the stack."""
    for row in rows:
        stack = DecodeMasks(size=size, pad=pad)(row)["masks"]
        bits = DecodeMasks(size=size, pad=pad, layout="bits")(row)["masks"]
        np.testing.assert_array_equal(bits, np.packbits(stack, axis=-1))

        labels = DecodeMasks(size=size, pad=pad, layout="label_map")(row)["masks"]
        assert labels.dtype == np.uint8
        expected = np.zeros_like(labels)
        areas = np.array([one["area"] for one in row["annotations"]])
        for index in np.argsort(-areas, kind="stable"):
            expected[stack[index] > 0] = index + 1
        np.testing.assert_array_equal(labels, expected)

        example = DecodeMasks(size=size, pad=pad, layout="crops")(row)
        for plane, crop, (x, y, w, h) in zip(stack, example["masks"], example["crop_boxes_xywh"], strict=True):
            assert crop.shape == (h, w)
            assert crop.sum() == plane.sum()
            np.testing.assert_array_equal(crop, plane[y : y + h, x : x + w])
            assert not crop.size or (crop.any(axis=0)[[0, -1]].all() and crop.any(axis=1)[[0, -1]].all())


def test_crops_at_the_original_size(rows):
    """Without a resize crops are those of the codec."""
    example = DecodeMasks(size=None, layout="crops", dtype="bool")(rows[0])
    expected = rle.crops(rows[0]["annotations"], dtype=bool)
    np.testing.assert_array_equal(example["crop_boxes_xywh"], expected.boxes_xywh)
    assert_same({"masks": example["masks"]}, {"masks": list(expected)})


def test_area_mode_averages(rows):
    """``mode="area"`` gives shares that sum to the mask's area in the original."""
    row = rows[0]
    example = DecodeMasks(size=40, mode="area")(row)
    pixel = np.prod(example["original_size"] / example["size"])
    areas = [one["area"] for one in row["annotations"]]
    assert example["masks"].dtype == np.float32
    np.testing.assert_allclose(example["masks"].sum(axis=(1, 2)) * pixel, areas, rtol=1e-4)


def test_boxes_points_and_scores(rows):
    """Boxes and points move with the pixels; ids, areas and scores are the annotations'."""
    for row in rows:
        example = DecodeMasks(size=48)(row)
        annotations = chosen(row, example)
        scale = example["scale_xy"]
        np.testing.assert_allclose(
            example["boxes_xywh"], np.array([one["bbox"] for one in annotations]) * np.tile(scale, 2), rtol=1e-6
        )
        np.testing.assert_allclose(
            example["points_xy"], np.array([one["point_coords"] for one in annotations]) * scale, rtol=1e-6
        )
        for key, name in (
            ("area", "areas"),
            ("predicted_iou", "predicted_iou"),
            ("stability_score", "stability_score"),
        ):
            np.testing.assert_array_equal(
                example[name], np.array([one[key] for one in annotations], example[name].dtype)
            )
        assert example["image_id"] == row["image_id"]
        # the box holds the mask, within the pixel that the convention leaves out and one for the rounding
        for plane, (x, y, w, h) in zip(example["masks"], example["boxes_xywh"], strict=True):
            at_y, at_x = np.nonzero(plane)
            assert at_x.min() >= x - 1
            assert at_x.max() <= x + w + 1 + scale[0]
            assert at_y.min() >= y - 1
            assert at_y.max() <= y + h + 1 + scale[1]


def test_image_equals_pillow(rows, monkeypatch):
    """With Pillow the image is the draft-decoded one, resized over its whole area."""
    monkeypatch.setattr("sa1b_hf.images._simplejpeg", None)
    row = rows[0]
    opened = Image.open(io.BytesIO(row["image"]["bytes"]))
    width, height = opened.size
    size = (height // 3, width // 3)
    opened.draft("RGB", size[::-1])
    assert opened.size == (width // 2, height // 2)
    expected = np.asarray(opened.resize(size[::-1], Image.Resampling.BILINEAR))
    example = DecodeMasks(size=size, resize="exact")(row)
    np.testing.assert_array_equal(example["image"], expected)
    assert example["image"].flags.writeable


@pytest.mark.parametrize(
    "form", ["pil", "bytes", "buffer", "array", "path", "no columns", "dict of lists", "arrow list", "numpy"]
)
def test_every_form_of_row_gives_the_same(rows, form, tmp_path):
    """A row gives the same example in whatever form `datasets` hands it over."""
    row = rows[1]
    decode = DecodeMasks(size=None, max_masks=3, image=True)
    expected = decode(row)
    data, annotations = row["image"]["bytes"], row["annotations"]
    changed = dict(row)
    if form == "pil":
        changed["image"] = Image.open(io.BytesIO(data))
    elif form == "bytes":
        changed["image"] = data
    elif form == "buffer":
        changed["image"] = memoryview(bytearray(data))
    elif form == "array":
        changed["image"] = np.asarray(Image.open(io.BytesIO(data)))
    elif form == "path":
        (tmp_path / "image.jpg").write_bytes(data)
        changed["image"] = {"bytes": None, "path": str(tmp_path / "image.jpg")}
    elif form == "no columns":
        del changed["width"], changed["height"]
    elif form == "dict of lists":
        columns = {key: [one[key] for one in annotations] for key in annotations[0]}
        masks = columns["segmentation"]
        changed["annotations"] = {
            **columns,
            "segmentation": {key: [one[key] for one in masks] for key in ("size", "counts")},
        }
    elif form == "arrow list":
        changed["annotations"] = pa.array([annotations], sa1b_features().arrow_schema.field("annotations").type)[0]
    elif form == "numpy":
        arrays = [
            {key: np.array(value) if isinstance(value, list) else value for key, value in one.items()}
            for one in annotations
        ]
        changed["annotations"] = np.array(arrays, object)
        changed["image_id"] = np.int64(row["image_id"])
    assert_same(decode(changed), expected)


@pytest.mark.parametrize("layout", ["stack", "label_map", "bits", "crops"])
def test_batches_and_tables(rows, prepared, layout):
    """A batch and an Arrow table, chunked or sliced, give lists of what their rows give."""
    decode = DecodeMasks(size=64, max_masks=3, layout=layout, keep=("file_name",))
    expected = [decode(row) for row in rows[2:5]]
    assert expected[0]["file_name"] == rows[2]["file_name"]
    batch = {name: [row[name] for row in rows[2:5]] for name in rows[0]}
    table = pa.concat_tables([prepared.with_format("arrow")[0:4], prepared.with_format("arrow")[4:8]]).slice(2, 3)
    assert [row["image_id"] for row in rows] == prepared["image_id"][:]
    for data in (batch, table):
        result = decode(data)
        for index, example in enumerate(expected):
            assert_same({name: values[index] for name, values in result.items()}, example)
    assert {name: [] for name in expected[0]} == decode(table.slice(0, 0))
    assert sorted(decode({name: [] for name in rows[0]})) == sorted(expected[0])


@pytest.mark.parametrize("select", ["random", "area", "predicted_iou", "stratified"])
@pytest.mark.parametrize("form", ["objects", "arrow"])
def test_selection_is_reproducible(rows, select, form):
    """The same masks are selected on every call, in every form, in their order; random ones change with seed and epoch."""
    seen = set()
    for plain in rows:
        row = {**plain, "annotations": pa.array(plain["annotations"])} if form == "arrow" else plain
        decode = DecodeMasks(size=16, max_masks=2, select=select, image=False)
        ids = decode(row)["annotation_ids"]
        again = pickle.loads(pickle.dumps(decode))(row)["annotation_ids"]
        order = [one["id"] for one in plain["annotations"]]
        assert len(ids) == 2
        np.testing.assert_array_equal(ids, again)
        assert order.index(ids[0]) < order.index(ids[1])
        others = [decode.with_epoch(epoch)(row)["annotation_ids"].tolist() for epoch in range(12)]
        assert others[0] == ids.tolist()
        assert decode(row, epoch=5)["annotation_ids"].tolist() == others[5]
        seen.add(len({tuple(other) for other in others}))
    assert (max(seen) > 1) == (select in ("random", "stratified"))


def test_highest_are_selected(rows):
    """``"area"`` and ``"predicted_iou"`` keep the highest, in the order of the annotations."""
    for row in rows:
        for select in ("area", "predicted_iou"):
            ids = DecodeMasks(size=16, max_masks=2, select=select, image=False)(row)["annotation_ids"].tolist()
            best = sorted(row["annotations"], key=lambda one: -one[select])[:2]
            assert ids == [one["id"] for one in row["annotations"] if one in best]


def test_missing_keys_are_measured(rows):
    """Annotations with masks only get boxes and areas from the masks, and no scores."""
    row = {**rows[0], "annotations": [{"segmentation": one["segmentation"]} for one in rows[0]["annotations"]]}
    decode = DecodeMasks(size=64, max_masks=2, select="area", image=False)
    example, expected = decode(row), decode(rows[0])
    for name in ("masks", "boxes_xywh", "areas"):
        np.testing.assert_array_equal(example[name], expected[name])
    assert np.isnan(example["predicted_iou"]).all()
    assert np.isnan(example["points_xy"]).all()
    assert (example["annotation_ids"] == -1).all()


@pytest.mark.parametrize("layout", ["stack", "label_map", "bits", "crops"])
@pytest.mark.parametrize("annotations", [[], pa.array([[]], sa1b_features().arrow_schema.field("annotations").type)[0]])
def test_an_image_without_masks(rows, layout, annotations):
    """No annotations give empty arrays of the usual shapes and types."""
    decode = DecodeMasks(size=64, layout=layout, pad=True)
    example, usual = decode({**rows[0], "annotations": annotations}), decode(rows[0])
    assert example.keys() == usual.keys()
    for name, value in usual.items():
        if isinstance(value, np.ndarray):
            assert example[name].dtype == value.dtype
            assert example[name].ndim == value.ndim, name
    assert len(example["annotation_ids"]) == 0
    assert layout != "stack" or example["masks"].shape == (0, 64, 64)


def test_ragged_points(rows):
    """Masks with different numbers of points get NaN for those that are missing, from Python and from Arrow."""
    annotations = [dict(one) for one in rows[0]["annotations"][:2]]
    annotations[0]["point_coords"] = []
    annotations[1]["point_coords"] = [[1.0, 2.0], [3.0, 4.0]]
    for form in (annotations, pa.array(annotations)):
        points = DecodeMasks(size=None, image=False)({**rows[0], "annotations": form})["points_xy"]
        np.testing.assert_array_equal(points, [[[np.nan] * 2] * 2, [[1, 2], [3, 4]]])


def change_mask(row, **changes):
    """The row with one mask changed."""
    annotations = [dict(one) for one in row["annotations"]]
    annotations[1]["segmentation"] = {**annotations[1]["segmentation"], **changes}
    return {**row, "annotations": annotations}


def test_bad_rows_are_named(rows):
    """A malformed mask, a mask of another size, a torn image, a wrong image: each error says which, and pickles."""
    row = rows[0]
    decode = DecodeMasks(size=64)
    size, data = [row["height"], row["width"]], row["image"]["bytes"]
    cases = [
        (change_mask(row, counts="~~"), RLEError, None),
        (change_mask(row, size=size[::-1]), RLEError, "size_mismatch"),
        (change_mask(row, size=None), RLEError, "size"),
        ({**row, "image": {"bytes": data[: len(data) // 2], "path": None}}, ImageError, "image-decode"),
        ({**row, "image": b"nonsense"}, ImageError, "image-decode"),
        ({**row, "image": None}, ImageError, "image-missing"),
        ({**row, "image": 7}, ImageError, "image-type"),
        ({**row, "image": np.zeros((4, 4), np.uint8)}, ImageError, "image-type"),
        ({**row, "image": rows[1]["image"]}, ImageError, "size-mismatch"),
        ({**row, "image": {"bytes": None, "path": "/no/such/file.jpg"}}, ImageError, "image-decode"),
        ({**row, "annotations": None}, AnnotationError, "type"),
        ({**row, "annotations": [7]}, AnnotationError, "type"),
        ({**row, "annotations": pa.array([1])}, AnnotationError, "type"),
        ({**row, "annotations": [{**row["annotations"][0], "bbox": [1.0, 2.0]}]}, AnnotationError, "field"),
        ({**row, "annotations": [{**row["annotations"][0], "id": None}]}, AnnotationError, "field"),
        ({**row, "annotations": [{**row["annotations"][0], "area": "x"}]}, AnnotationError, "field"),
        (
            {**row, "annotations": [row["annotations"][0], {"segmentation": row["annotations"][1]["segmentation"]}]},
            AnnotationError,
            "field",
        ),
    ]
    for bad, kind, reason in cases:
        with pytest.raises(kind, match=f"{row['image_id']}") as caught:
            decode(bad)
        error = pickle.loads(pickle.dumps(caught.value))
        assert error.where["image_id"] == row["image_id"]
        assert error.shard == "sa_000000"
        assert reason in (None, error.reason), (error, error.reason)


def test_a_turned_image_is_refused_with_advice(rows):
    """An image that `datasets` turned by its EXIF tag does not fit its masks, and the message says what to do."""
    turned = Image.open(io.BytesIO(rows[0]["image"]["bytes"])).transpose(Image.Transpose.ROTATE_90)
    with pytest.raises(ImageError, match=r"decode=False"):
        DecodeMasks(size=64)({**rows[0], "image": turned})


def test_exif_is_ignored(rows):
    """Bytes with an orientation tag decode as stored, because masks are drawn on the stored pixels."""
    opened = Image.open(io.BytesIO(rows[0]["image"]["bytes"]))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = io.BytesIO()
    opened.save(stored, "JPEG", exif=exif, quality=95)
    example = DecodeMasks(size=None)({**rows[0], "image": stored.getvalue()})
    np.testing.assert_array_equal(example["image"], np.asarray(Image.open(stored)))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colour_modes(rows, mode):
    """Grey and CMYK JPEGs come out as RGB."""
    opened = Image.open(io.BytesIO(rows[0]["image"]["bytes"])).convert(mode)
    stored = io.BytesIO()
    opened.save(stored, "JPEG", quality=95)
    example = DecodeMasks(size=None)({**rows[0], "image": stored.getvalue()})
    expected = np.asarray(Image.open(stored).convert("RGB"))
    assert np.abs(example["image"].astype(int) - expected).max() <= 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image_id": 1}, "annotations"),
        ({"image_id": 1, "annotations": []}, "image=False"),
        (7, "found int"),
    ],
)
def test_missing_columns(row, message):
    """What a row must have is said."""
    with pytest.raises(ConfigError, match=message):
        DecodeMasks()(row)


def test_rows_without_size_or_id(rows):
    """Without size, image and masks nothing can be known; without an id nothing can be drawn by it."""
    with pytest.raises(ConfigError, match="height"):
        DecodeMasks(image=False)({"annotations": []})
    bare = {"annotations": rows[0]["annotations"]}
    with pytest.raises(ConfigError, match="image_id"):
        DecodeMasks(image=False, max_masks=1)(bare)
    example = DecodeMasks(image=False, max_masks=1, select="area", size=None)(bare)
    assert example["image_id"] == -1
    np.testing.assert_array_equal(example["size"], [rows[0]["height"], rows[0]["width"]])


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"size": 1.5},
        {"size": True},
        {"size": 70_000},
        {"size": (4, 5)},
        {"size": (4, 5, 6), "resize": "exact"},
        {"resize": "longer"},
        {"size": None, "pad": True},
        {"resize": "shortest", "pad": True},
        {"max_masks": 0},
        {"select": "best"},
        {"layout": "stacks"},
        {"layout": "bits", "dtype": "bool"},
        {"layout": "bits", "mode": "area"},
        {"layout": "label_map", "dtype": "bool"},
        {"mode": "area", "dtype": "bool"},
        {"dtype": "float32"},
        {"resample": "nearest"},
        {"pad_value": 256},
        {"threads": 0},
        {"seed": -1},
        {"epoch": -1},
        {"keep": "file_name"},
    ],
)
def test_options_are_checked(options):
    """Options out of range or that do not go together are refused at once, by name."""
    with pytest.raises(ConfigError, match=rf"^({'|'.join(options)})\b"):
        DecodeMasks(**options)


def test_a_sliver_is_refused_not_blown_up():
    """Bringing the short side of a sliver to a size would make its long side enormous."""
    with pytest.raises(ConfigError, match="longest"):
        DecodeMasks(size=1024, resize="shortest", image=False)({"height": 1, "width": 65_000, "annotations": []})


def test_hook_pickles_and_hashes(rows):
    """The hook survives pickling, and `datasets` gives equal hooks one fingerprint and other hooks another."""
    decode = DecodeMasks(size=64, max_masks=3)
    assert pickle.loads(pickle.dumps(decode)) == decode
    assert Hasher.hash(decode) == Hasher.hash(DecodeMasks(size=64, max_masks=3))
    assert Hasher.hash(decode) != Hasher.hash(decode.with_epoch(1))
    assert_same(pickle.loads(pickle.dumps(decode))(rows[0]), decode(rows[0]))


@pytest.mark.parametrize("decoded", [True, False], ids=["PIL", "bytes"])
@pytest.mark.parametrize("batched", [False, True])
def test_stream_map(stream, rows, batched, decoded):
    """`IterableDataset.map` gives the arrays themselves."""
    source = stream if decoded else stream.cast_column("image", datasets.Image(decode=False))
    decode = DecodeMasks(size=None, max_masks=3)
    examples = list(source.map(decode, batched=batched, batch_size=3, remove_columns=["annotations"]))
    assert len(examples) == len(rows)
    for row, example in zip(rows, examples, strict=True):
        expected = decode(row)
        assert_same({name: example[name] for name in expected}, expected)


def test_attach_to_a_stream(stream, rows):
    """A stream with the hook attached gives exactly what the hook gives."""
    decode = DecodeMasks(size=64, max_masks=3, keep=("file_name",))
    for row, example in zip(rows, decode.attach(stream), strict=True):
        assert_same(example, decode(row))
    without = list(DecodeMasks(size=64, image=False).attach(stream))
    assert "image" not in without[0]


def test_attach_to_prepared_rows(prepared, rows):
    """Prepared rows with the hook attached give exactly what the hook gives, one by one and as slices."""
    decode = DecodeMasks(size=64, max_masks=3)
    attached = decode.attach(prepared)
    assert_same(attached[2], decode(rows[2]))
    batch = attached[1:3]
    assert_same({name: values[1] for name, values in batch.items()}, decode(rows[2]))
    with pytest.raises(ConfigError, match="split"):
        decode.attach(datasets.DatasetDict(train=prepared))


def test_with_transform_decodes_pil_images(prepared, rows):
    """`with_transform` and `set_transform` work on images that `datasets` has decoded."""
    decode = DecodeMasks(size=None, max_masks=3)
    assert_same(prepared.with_transform(decode)[0], decode(rows[0]))
    copy = prepared.select(range(2))
    copy.set_transform(decode)
    assert_same(copy[1], decode(rows[1]))


@pytest.mark.parametrize("layout", ["stack", "label_map", "bits", "crops"])
@pytest.mark.parametrize("form", [None, "arrow"])
def test_prepared_map(prepared, rows, form, layout, tmp_path):
    """`Dataset.map` stores what the hook gives, from Python rows, and from Arrow tables in batches."""
    decode = DecodeMasks(size=40, max_masks=3, layout=layout, image=False)
    source = prepared.select(range(3)).with_format(form)
    mapped = source.map(decode, batched=form == "arrow", cache_file_name=str(tmp_path / "cache.arrow")).with_format(
        None
    )
    for row, stored in zip(rows, mapped, strict=False):
        expected = decode(row)
        for name in ("masks", "annotation_ids", "boxes_xywh", "size"):
            found = stored[name]
            if name == "masks" and layout == "crops":
                assert [np.array(one).tolist() for one in found] == [one.tolist() for one in expected[name]]
            else:
                np.testing.assert_array_equal(np.array(found), expected[name])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_data_loader(stream, prepared, rows, num_workers):
    """A DataLoader with workers gives the masks that one process gives, from streams and prepared rows."""
    torch = pytest.importorskip("torch")
    from functools import partial

    from sa1b_hf.collate import collate_pad

    decode = DecodeMasks(size=48, max_masks=3, pad=True)
    collate = partial(collate_pad, tensors="pt")
    for dataset in (decode.attach(stream), decode.attach(prepared)):
        loader = torch.utils.data.DataLoader(dataset, batch_size=3, collate_fn=collate, num_workers=num_workers)
        found = {}
        for batch in loader:
            for index, image_id in enumerate(batch["image_id"].tolist()):
                found[image_id] = {name: value[index] for name, value in batch.items()}
        assert len(found) == len(rows)
        for row in rows:
            expected, example = decode(row), found[row["image_id"]]
            np.testing.assert_array_equal(example["masks"][example["valid"]], expected["masks"])
            np.testing.assert_array_equal(example["image"], expected["image"])
            assert example["annotation_ids"][example["valid"]].tolist() == expected["annotation_ids"].tolist()


def test_data_loader_over_arrow_rows(stream, rows):
    """A stream in Arrow format is decoded by the collate."""
    torch = pytest.importorskip("torch")
    from functools import partial

    from sa1b_hf.collate import collate_concat

    decode = DecodeMasks(size=48, max_masks=3, pad=True)
    collate = partial(collate_concat, decode=decode, tensors="pt")
    loader = torch.utils.data.DataLoader(stream.with_format("arrow"), batch_size=8, collate_fn=collate)
    (batch,) = loader
    expected = [decode(row) for row in rows]
    np.testing.assert_array_equal(batch["masks"], np.concatenate([one["masks"] for one in expected]))
    np.testing.assert_array_equal(batch["image"], np.stack([one["image"] for one in expected]))


@pytest.mark.parametrize("batched", [False, True])
def test_map_of_an_arrow_stream_says_what_to_do(stream, rows, batched):
    """`datasets` wants tables from such a map, which arrays are not: the error names the ways out, and they work."""
    decode = DecodeMasks(size=48, max_masks=3)
    mapped = stream.with_format("arrow").map(decode, batched=batched)
    with pytest.raises(ConfigError, match=r"map over a stream in Arrow format.*attach.*collate_pad"):
        next(iter(mapped))
    assert_same(next(iter(decode.attach(stream.with_format("arrow")))), decode(rows[0]))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data here")
@pytest.mark.parametrize("path", sorted((REAL / "annotations").glob("*.json")), ids=lambda path: path.name)
def test_real_masks(path):
    """Masks of the real dataset: pycocotools' pixels, resized as OpenCV does, with Meta's areas and boxes."""
    document = json.loads(path.read_text())
    annotations = document["annotations"]
    height, width = annotations[0]["segmentation"]["size"]
    row = {"image_id": 1, "height": height, "width": width, "annotations": annotations}
    for size in (1024, None):
        example = DecodeMasks(size=size, max_masks=None, image=False)(row)
        expected = by_cv2(by_coco(annotations), tuple(example["size"].tolist()))
        np.testing.assert_array_equal(example["masks"], expected)
    measured = [{"segmentation": one["segmentation"]} for one in annotations]
    again = DecodeMasks(size=None, max_masks=None, image=False)({**row, "annotations": measured})
    np.testing.assert_array_equal(again["areas"], example["areas"])
    np.testing.assert_array_equal(again["boxes_xywh"], example["boxes_xywh"])


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data here")
@pytest.mark.parametrize("path", sorted((REAL / "images").glob("*.jpg")), ids=lambda path: path.name)
def test_real_images(path):
    """Real photographs decoded at 1024 look like the whole ones resized."""
    whole = Image.open(path)
    row = {"image_id": 1, "height": whole.height, "width": whole.width, "annotations": [], "image": path.read_bytes()}
    example = DecodeMasks()(row)
    height, width = example["size"].tolist()
    expected = np.asarray(whole.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
    assert max(height, width) == 1024
    assert np.abs(example["image"].astype(int) - expected).mean() < 4
