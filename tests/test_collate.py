"""Batches: padded and end to end, as arrays and as tensors."""

from __future__ import annotations

import importlib
import subprocess
import sys
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from sa1b_hf.collate import PER_MASK, collate_concat, collate_pad
from sa1b_hf.errors import ConfigError, MissingExtraError
from sa1b_hf.masks import DecodeMasks
from sa1b_hf.testing import make_document, make_jpeg

LAYOUTS = ["stack", "label_map", "bits", "crops"]


@pytest.fixture(scope="module")
def rows():
    """Three rows of different sizes and numbers of masks, and one without any."""
    rows = []
    for image_id in range(1, 5):
        document = make_document(image_id)
        image = document["image"]
        data = make_jpeg(image_id, width=image["width"], height=image["height"])
        rows.append({**image, "image": {"bytes": data, "path": None}, "annotations": document["annotations"]})
    rows[3]["annotations"] = []
    assert len({len(row["annotations"]) for row in rows}) > 2
    return rows


def corner(array, value):
    """The part of a padded array that holds the value, and whether all the rest is empty."""
    part = array[tuple(slice(length) for length in value.shape)]
    rest = array.copy()
    rest[tuple(slice(length) for length in value.shape)] = 0
    return part, not rest.any()


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pad(rows, layout, pad):
    """Every example is found again in its row of the batch, and `valid` says where."""
    decode = DecodeMasks(size=40, layout=layout, pad=pad)
    examples = [decode(row) for row in rows]
    batch = collate_pad(examples)
    counts = [len(example["annotation_ids"]) for example in examples]
    np.testing.assert_array_equal(batch["valid"].sum(axis=1), counts)
    assert batch["valid"].shape == (len(rows), max(counts))
    for index, example in enumerate(examples):
        valid = batch["valid"][index]
        assert valid[: counts[index]].all()
        part, is_rest_empty = corner(batch["image"][index], example["image"])
        np.testing.assert_array_equal(part, example["image"])
        assert is_rest_empty
        if layout == "crops":
            assert batch["masks"][index] is example["masks"]
        else:
            part, is_rest_empty = corner(batch["masks"][index], example["masks"])
            np.testing.assert_array_equal(part, example["masks"])
            assert is_rest_empty
        for name in set(PER_MASK) - {"masks"} & example.keys():
            if name in example:
                np.testing.assert_array_equal(batch[name][index][valid], example[name], err_msg=name)
        assert batch["image_id"][index] == example["image_id"]
        np.testing.assert_array_equal(batch["scale_xy"][index], example["scale_xy"])
    assert np.isnan(batch["predicted_iou"][~batch["valid"]]).all()
    assert (batch["annotation_ids"][~batch["valid"]] == -1).all()


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_concat(rows, layout, pad):
    """Every example is found again between its offsets."""
    decode = DecodeMasks(size=40, layout=layout, pad=pad)
    examples = [decode(row) for row in rows]
    batch = collate_concat(examples)
    counts = [len(example["annotation_ids"]) for example in examples]
    assert batch["offsets"].tolist() == [0, *np.cumsum(counts).tolist()]
    assert batch["image_index"].tolist() == [index for index, count in enumerate(counts) for _ in range(count)]
    for index, example in enumerate(examples):
        begin, end = batch["offsets"][index : index + 2]
        for name in set(PER_MASK) - {"masks"}:
            if name in example:
                np.testing.assert_array_equal(batch[name][begin:end], example[name], err_msg=name)
        if layout == "crops":
            assert all(one is two for one, two in zip(batch["masks"][begin:end], example["masks"], strict=True))
            continue
        found = batch["masks"][index] if layout == "label_map" else batch["masks"][begin:end]
        part, is_rest_empty = corner(found, example["masks"])
        np.testing.assert_array_equal(part, example["masks"])
        assert is_rest_empty


@pytest.mark.parametrize("collate", [collate_pad, collate_concat])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors(rows, layout, collate):
    """Tensors hold what arrays hold; 16 and 32 bit labels become signed."""
    torch = pytest.importorskip("torch")
    dtype = "uint16" if layout == "label_map" else None
    decode = DecodeMasks(size=40, layout=layout, dtype=dtype, keep=("file_name",))
    examples = [decode(row) for row in rows]
    arrays, tensors = collate(examples), collate(examples, tensors="pt")
    assert arrays.keys() == tensors.keys()
    assert tensors["file_name"] == [row["file_name"] for row in rows]
    for name, value in arrays.items():
        if isinstance(value, np.ndarray):
            assert isinstance(tensors[name], torch.Tensor)
            np.testing.assert_array_equal(tensors[name].numpy(), value)
    if layout == "label_map":
        assert tensors["masks"].dtype == torch.int32
    if layout == "stack":
        assert tensors["masks"].dtype == torch.uint8


@pytest.mark.parametrize("collate", [collate_pad, collate_concat])
def test_decode_in_the_collate(rows, collate):
    """Rows, and tables of several rows, are decoded by the collate itself."""
    decode = DecodeMasks(size=40, pad=True)
    expected = collate([decode(row) for row in rows])
    table = pa.Table.from_pylist(rows[:3])
    for examples in (rows, [table, table.slice(0, 0), rows[3]]):
        batch = partial(collate, decode=decode)(examples)
        assert batch.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(batch[name], value)


def test_one_example_is_not_copied(rows):
    """A batch of one is a view."""
    example = DecodeMasks(size=40)(rows[0])
    assert np.shares_memory(collate_pad([example])["masks"], example["masks"])
    assert np.shares_memory(collate_concat([example])["masks"], example["masks"])


def test_examples_that_do_not_fit(rows):
    """Nothing, rows that are not decoded, other keys, other types, an unknown kind of tensors: each is said."""
    stack, bits = DecodeMasks(size=40)(rows[0]), DecodeMasks(size=40, layout="label_map")(rows[0])
    crops = DecodeMasks(size=40, layout="crops")(rows[0])
    cases = [
        ([], "at least one"),
        ([rows[0]], "decode="),
        ([7], "found int"),
        ([stack, crops], "keys"),
        ([stack, bits], "number of axes"),
        ([stack, {**stack, "scale_xy": np.ones(3)}], "scale_xy"),
        ([stack, {**stack, "masks": stack["masks"].astype(float)}], "one type"),
    ]
    for examples, message in cases:
        with pytest.raises(ConfigError, match=message):
            collate_pad(examples)
    with pytest.raises(ConfigError, match="'np' or 'pt'"):
        collate_pad([stack], tensors="tf")


def test_torch_is_missing(rows, monkeypatch):
    """Without torch tensors are an error that says what to install."""

    def import_module(name, *rest):
        if name == "torch":
            raise ImportError(name)
        return original(name, *rest)

    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(MissingExtraError, match="pip install"):
        collate_pad([DecodeMasks(size=40)(rows[0])], tensors="pt")


def test_torch_is_imported_late():
    """Importing the modules does not import torch."""
    code = "import sys, sa1b_hf.masks, sa1b_hf.collate, sa1b_hf.metrics, sa1b_hf.prompts; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
