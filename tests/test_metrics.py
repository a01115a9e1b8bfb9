"""IoU, matches and recall between masks of every form, against NumPy and pycocotools."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pyarrow as pa
import pytest
from pycocotools import mask as coco

from sa1b_hf import rle
from sa1b_hf.errors import ConfigError, RLEError
from sa1b_hf.forms import as_rle
from sa1b_hf.metrics import DEFAULT_MIN_IOUS, iou_matrix, match_masks, recall

FORMS = ["bool", "uint8", "255", "int64", "float", "logits", "rle", "bytes", "annotations", "arrow", "list", "torch"]


def blobs(seed, count=5, shape=(24, 33)):
    """Smooth random masks."""
    rng = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(rng.random(shape).astype(np.float32), (0, 0), 2) for _ in range(count)]
    return np.stack([one > np.median(one) for one in noise])


def naive_iou(first, second):
    """Counted pixel by pixel."""
    shared = (first[:, None] & second[None]).sum(axis=(2, 3))
    united = (first[:, None] | second[None]).sum(axis=(2, 3))
    return np.divide(shared, united, out=np.zeros(shared.shape), where=united > 0)


def convert(masks, form):
    """The masks in a form, and the options that it needs."""
    if form == "torch":
        return pytest.importorskip("torch").from_numpy(masks.astype(np.float32))
    encoded = rle.encode(masks)
    return {
        "bool": lambda: masks,
        "uint8": lambda: masks.astype(np.uint8),
        "255": lambda: masks.astype(np.uint8) * 255,
        "int64": lambda: masks.astype(np.int64),
        "float": lambda: masks * np.float32(0.7),
        "logits": lambda: np.where(masks, 4.0, -4.0),
        "rle": lambda: encoded,
        "bytes": lambda: coco.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))),
        "annotations": lambda: [{"id": index, "segmentation": one} for index, one in enumerate(encoded)],
        "arrow": lambda: pa.array(encoded),
        "list": lambda: list(masks),
    }[form]()


@pytest.mark.parametrize(("first", "second"), list(itertools.product(FORMS, ["uint8", "rle", "arrow"])))
def test_iou_of_any_forms(first, second):
    """Any two forms give the IoU that counting pixels gives."""
    one, two = blobs(0), blobs(1, count=4)
    np.testing.assert_array_equal(iou_matrix(convert(one, first), convert(two, second)), naive_iou(one, two))


def test_label_maps():
    """A label map gives mask i for label i + 1, empty ones for labels that do not occur."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 5], (20, 30)).astype(np.uint16)
    masks = np.stack([labels == label for label in range(1, 6)])
    for form in ("auto", "label_map"):
        np.testing.assert_array_equal(iou_matrix(labels, masks[:1], form="auto"), naive_iou(masks, masks[:1]))
        assert len(as_rle(labels, form=form)) == 5
    assert len(as_rle(np.zeros((4, 4), np.uint8), form="label_map")) == 0
    assert len(as_rle(np.zeros((4, 4), np.uint8))) == 1


def test_single_masks():
    """One mask counts as a list of one: (h, w) arrays, a mapping, a map of 0 and 1."""
    mask = blobs(0)[0]
    for one in (
        mask,
        mask.astype(np.uint8),
        mask.astype(np.float64),
        rle.encode(mask),
        {"segmentation": rle.encode(mask)},
    ):
        np.testing.assert_array_equal(iou_matrix(one, mask[None]), [[1.0]])


def test_threshold():
    """Floating point masks are inside above the threshold, not at it."""
    soft = np.array([[0.2, 0.5, 0.8]])
    assert rle.decode(as_rle(soft)).tolist() == [[[0, 0, 1]]]
    assert rle.decode(as_rle(soft, threshold=0.1)).tolist() == [[[1, 1, 1]]]
    assert rle.decode(as_rle(soft.astype(np.float16), threshold=0.5)).tolist() == [[[0, 0, 1]]]


@pytest.mark.parametrize("form", ["uint8", "rle", "arrow", "annotations"])
def test_sizes(form):
    """Other resolutions are an error that says how, and with `size` are brought there as OpenCV does."""
    large, small = blobs(0, shape=(60, 90)), blobs(1, shape=(20, 30))
    with pytest.raises(ConfigError, match="size="):
        iou_matrix(convert(large, form), small)
    for size in ((20, 30), (31, 17)):
        resized = [
            np.stack([cv2.resize(one.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) for one in masks])
            > 0
            for masks in (large, small)
        ]
        np.testing.assert_array_equal(iou_matrix(convert(large, form), small, size=size), naive_iou(*resized))


@pytest.mark.parametrize(
    ("masks", "options", "message"),
    [
        (np.full((4, 4), 255, np.uint8), {}, "form="),
        (np.array([[0, 255]], np.uint8), {}, "form="),
        (np.array([[0, -1]]), {}, "0 or more"),
        (np.array([[0.0, np.nan]]), {}, "NaN"),
        (np.array([[0, 70_000]]), {}, "65536"),
        (np.zeros(4), {}, "found \\(4,\\)"),
        (np.zeros((2, 3, 4, 5)), {}, "found"),
        (np.array([["a"]]), {}, "found"),
        (np.zeros((1, 2), complex), {}, "complex"),
        ([np.zeros((1, 2)), np.zeros((2, 2))], {}, "one shape"),
        (np.zeros((2, 3, 4), np.uint8), {"form": "label_map"}, "label map"),
        (np.zeros((3, 4), bool), {"form": "label_map"}, "label map"),
        (np.zeros((3, 4), np.uint8), {"form": "rle"}, "form='rle'"),
        ([{"size": [1, 1], "counts": [1]}], {"form": "dense"}, "run lengths"),
        (np.zeros((3, 4), np.uint8), {"form": "mask"}, "form"),
    ],
)
def test_unclear_masks_are_refused(masks, options, message):
    """What cannot be told, or is not what it is said to be, is an error and never a guess."""
    with pytest.raises(ConfigError, match=message):
        as_rle(masks, **options)


def test_forms_that_are_told():
    """Values 0 and 255 are a mask or 255 labels, as told."""
    array = np.array([[0, 255]], np.uint8)
    assert rle.decode(as_rle(array, form="dense")).tolist() == [[[0, 1]]]
    assert len(as_rle(array, form="label_map")) == 255
    assert rle.decode(as_rle(np.array([[0, 3]]), form="dense")).tolist() == [[[0, 1]]]


def test_malformed_masks_are_named():
    """A malformed mask is an error that names it, also on the way through a resize."""
    masks = [rle.encode(blobs(0)[0]), {"size": [24, 33], "counts": "~"}]
    for size in (None, (5, 5)):
        with pytest.raises(RLEError, match="mask 1"):
            iou_matrix(masks, blobs(0), size=size)
    with pytest.raises(RLEError):
        iou_matrix([{"size": None, "counts": ""}], blobs(0))


@pytest.mark.parametrize(
    "nothing",
    [
        [],
        np.zeros((0, 24, 33), np.uint8),
        pa.array([], pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])),
    ],
)
def test_no_masks(nothing):
    """No masks give empty results, and a recall of nothing is NaN."""
    some = blobs(0)
    assert iou_matrix(nothing, some).shape == (0, 5)
    assert iou_matrix(some, nothing, size=(4, 4)).shape == (5, 0)
    assert len(match_masks(nothing, some)) == 0
    assert np.isnan(recall(some, nothing)).all()
    assert (recall(nothing, some) == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_matches_are_greedy(seed):
    """Pairs are those of a plain greedy search, no mask in two of them."""
    one, two = blobs(seed, count=7), blobs(seed + 50, count=6)
    two[:4] = one[[2, 0, 6, 3]] ^ (np.random.default_rng(seed).random(two[:4].shape) < 0.1)
    left = naive_iou(one, two)
    expected = []
    while left.max() >= 0.3:
        pair = np.unravel_index(left.argmax(), left.shape)
        expected.append((*map(int, pair), left[pair]))
        left[pair[0]] = left[:, pair[1]] = -1
    matches = match_masks(one, two, min_iou=0.3)
    assert list(zip(matches.first.tolist(), matches.second.tolist(), matches.iou.tolist(), strict=True)) == expected


def test_recall():
    """Recall counts true masks that are matched at each threshold, each prediction once."""
    truth = np.zeros((3, 10, 10), bool)
    truth[0, :, :5], truth[1, :, 5:], truth[2, :2, :2] = True, True, True
    predicted = np.zeros((3, 10, 10), bool)
    predicted[0, :, :4], predicted[1, :, 5:] = True, True
    predicted[2, :, :4] = True
    np.testing.assert_allclose(
        recall(predicted, truth, min_ious=[0.0, 0.05, 0.5, 0.8, 0.85, 1.0]), np.array([3, 3, 2, 2, 1, 1]) / 3
    )
    assert len(recall(predicted, truth)) == len(DEFAULT_MIN_IOUS) == 10
    for name, call in (
        ("min_iou", lambda: match_masks(truth, truth, min_iou=2)),
        ("min_ious", lambda: recall(truth, truth, min_ious=[-1])),
    ):
        with pytest.raises(ConfigError, match=name):
            call()
