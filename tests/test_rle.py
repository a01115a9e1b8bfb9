"""The RLE codec against pycocotools and OpenCV, kernels of the extension and of NumPy alike."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from sa1b_hf import _rle_kernels, _rle_numpy, rle
from sa1b_hf._rle_text import compress
from sa1b_hf.errors import ConfigError, RLEError
from sa1b_hf.features import ANNOTATION_TYPE

try:
    from sa1b_hf import _rle_native
except ImportError:
    _rle_native = None

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
REAL = Path(__file__).parents[2] / "shared" / "data" / "real" / "annotations"
SHAPES = [(1, 1), (1, 7), (9, 1), (5, 64), (64, 65), (33, 130), (100, 63)]
BACKENDS = [
    pytest.param(_rle_numpy, id="numpy"),
    pytest.param(_rle_native, id="extension", marks=pytest.mark.skipif(_rle_native is None, reason="not built")),
]


@pytest.fixture(params=BACKENDS, autouse=True)
def kernels(request, monkeypatch):
    """Run every test once with each set of kernels."""
    monkeypatch.setattr(_rle_kernels, "kernels", request.param)
    return request.param


def random_mask(rng, height, width):
    """One mask of a random kind: empty, full, noise, a pixel, a box, a checkerboard, a blob."""
    mask = np.zeros((height, width), np.uint8)
    kind = rng.integers(7)
    y, x = np.sort(rng.integers(0, height + 1, 2)), np.sort(rng.integers(0, width + 1, 2))
    if kind == 1:
        mask[:] = 1
    elif kind == 2:
        mask[:] = rng.random((height, width)) < rng.random()
    elif kind == 3:
        mask[rng.integers(height), rng.integers(width)] = 1
    elif kind == 4:
        mask[y[0] : y[1], x[0] : x[1]] = 1
    elif kind == 5:
        mask[:] = np.add.outer(np.arange(height), np.arange(width)) & 1
    elif kind == 6:
        noise = rng.random((height, width)).astype(np.float32)
        mask[:] = cv2.GaussianBlur(noise, (0, 0), 3).reshape(height, width) > 0.5
    return mask


def random_runs(rng, height, width):
    """Runs that sum to the mask's size, with empty ones anywhere."""
    runs, left = [], height * width
    while left and len(runs) < 300:
        run = int(min(left, rng.integers(0, 2 * height + 1 if rng.random() < 0.8 else left + 1)))
        run *= rng.random() > 0.2
        runs.append(run)
        left -= run
    return [*runs, left]


def as_coco(runs, height, width):
    """The segmentation that pycocotools understands."""
    return {"size": [height, width], "counts": compress(np.array(runs))}


def random_masks(seed, height, width, count=6):
    """Segmentations in all accepted kinds of counts, and the dense masks by pycocotools."""
    rng = np.random.default_rng(seed)
    segmentations = []
    for _ in range(count):
        if rng.random() < 0.2:
            segmentations.append(as_coco(random_runs(rng, height, width), height, width))
        else:
            segmentations.append(coco.encode(np.asfortranarray(random_mask(rng, height, width))))
    dense = np.ascontiguousarray(coco.decode(segmentations).transpose(2, 0, 1))
    for segmentation in segmentations:
        if rng.random() < 0.5:
            segmentation["counts"] = segmentation["counts"].decode()
    return segmentations, dense


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(5))
def test_decode_equals_pycocotools(seed, shape):
    """Full size decoding gives pycocotools' pixels in (N, H, W) C order, with any number of threads."""
    segmentations, dense = random_masks(seed, *shape)
    result = rle.decode(segmentations, threads=1 + seed % 3)
    assert result.flags.c_contiguous
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, dense)
    np.testing.assert_array_equal(rle.decode(segmentations, dtype=bool), dense.astype(bool))
    np.testing.assert_array_equal(rle.decode(segmentations[0]), dense[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", [(1, 1), (7, 5), (40, 70), (64, 64), (129, 200)])
def test_resized_decode_equals_opencv(shape, target):
    """Decoding to a size gives the pixels of decoding in full and cv2.INTER_NEAREST, smaller and larger alike."""
    segmentations, dense = random_masks(sum(target), *shape)
    wanted = [cv2.resize(m, target[::-1], interpolation=cv2.INTER_NEAREST).reshape(target) for m in dense]
    np.testing.assert_array_equal(rle.decode(segmentations, target), wanted)
    for order in ("big", "little"):
        packed = rle.bits(segmentations, target, bitorder=order)
        np.testing.assert_array_equal(packed, np.packbits(wanted, axis=-1, bitorder=order))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", [(1, 1), (7, 5), (40, 70), (129, 200)])
def test_area_average_is_exact(shape, target):
    """Area mode gives the share of each target pixel that the mask covers, as float32 or rounded to 0 to 255."""
    segmentations, dense = random_masks(sum(target), *shape)

    def overlap(source, count):
        edges, cells = np.arange(count + 1) * source, np.arange(source + 1) * count
        low = np.maximum(edges[:-1, None], cells[None, :-1])
        return np.maximum(np.minimum(edges[1:, None], cells[None, 1:]) - low, 0).astype(float)

    rows, columns = overlap(shape[0], target[0]), overlap(shape[1], target[1])
    wanted = rows @ dense @ columns.T / (shape[0] * shape[1])
    result = rle.decode(segmentations, target, mode="area")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, wanted, atol=1e-6)
    rounded = rle.decode(segmentations, target, mode="area", dtype=np.uint8, threads=2)
    assert np.abs(rounded - wanted * 255).max() <= 0.5001


def test_area_average_of_a_shrunk_mask_equals_opencv():
    """On a downscale, area mode agrees with cv2.INTER_AREA to its own rounding."""
    mask = random_mask(np.random.default_rng(5), 120, 160) | 0
    mask[30:90, 20:100] = 1
    wanted = cv2.resize(mask.astype(np.float32), (61, 47), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(rle.decode(rle.encode(mask), (47, 61), mode="area"), wanted, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_measures_equal_pycocotools(seed, shape):
    """Area, box, overlap and union agree with pycocotools; boxes in Meta's convention are one less."""
    segmentations, dense = random_masks(seed, *shape)
    reference = [coco.encode(np.asfortranarray(mask)) for mask in dense]
    np.testing.assert_array_equal(rle.area(segmentations), coco.area(reference))
    boxes = coco.toBbox(reference)
    np.testing.assert_array_equal(rle.bbox(segmentations, convention="coco"), boxes)
    boxes[:, 2:] = np.maximum(boxes[:, 2:] - 1, 0)
    np.testing.assert_array_equal(rle.bbox(segmentations), boxes)
    for intersect in (False, True):
        merged = rle.merge(segmentations, intersect=intersect, text=False)
        assert merged == coco.encode(np.asfortranarray(dense.all(axis=0) if intersect else dense.any(axis=0)))
    crowd = [seed % 2, 1, 0, 0]
    with np.errstate(invalid="ignore"):
        wanted = np.nan_to_num(coco.iou(reference, reference[:4], crowd))
    np.testing.assert_array_equal(rle.iou(segmentations, segmentations[:4], crowd), wanted)
    with np.errstate(invalid="ignore"):
        wanted = np.nan_to_num(coco.iou(reference, reference, [0] * 6))
    np.testing.assert_array_equal(rle.iou(segmentations, segmentations), wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_crops_are_the_tight_boxes(shape):
    """Each crop is the dense mask inside its COCO box, also for masks of different sizes."""
    segmentations, dense = random_masks(11, *shape)
    crops = rle.crops([*segmentations, {"size": [2, 3], "counts": [1, 3, 2]}], dtype=bool)
    assert len(crops) == 7
    for crop, (x, y, w, h), mask in zip(crops, crops.boxes_xywh, dense, strict=False):
        np.testing.assert_array_equal(crop, mask[y : y + h, x : x + w])
        assert crop.sum() == mask.sum()
    assert crops[-1].tolist() == [[False, True], [True, True]]
    with pytest.raises(IndexError):
        crops[7]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", [None, (20, 31), (150, 140)])
@pytest.mark.parametrize("dtype", [None, np.uint16, np.uint32])
def test_label_map_paints_the_smallest_last(shape, target, dtype):
    """Where masks overlap the smallest is seen, and among equal ones the last."""
    segmentations, dense = random_masks(12, *shape)
    planes = rle.decode(segmentations, target)
    wanted = np.zeros(planes.shape[1:], int)
    for index in np.argsort(-dense.sum(axis=(1, 2)).astype(int), kind="stable"):
        wanted[planes[index] == 1] = index + 1
    labels = rle.label_map(segmentations, target, dtype=dtype)
    assert labels.dtype == (dtype or np.uint8)
    np.testing.assert_array_equal(labels, wanted)
    reversed_order = rle.label_map(segmentations, target, order=[1, 0])
    np.testing.assert_array_equal(reversed_order, np.where(planes[0], 1, 2 * planes[1]))


def test_label_map_widens_for_many_masks():
    """256 masks need uint16, and say so when uint8 is asked for."""
    pixels = [rle.encode(np.arange(300).reshape(15, 20) == index) for index in range(256)]
    assert rle.label_map(pixels[:255]).dtype == np.uint8
    labels = rle.label_map(pixels)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels.ravel(), np.where(np.arange(300) < 256, np.arange(300) + 1, 0))
    assert rle.encode(labels, labels=True) == pixels
    with pytest.raises(ConfigError, match="able to hold 256, found uint8"):
        rle.label_map(pixels, dtype=np.uint8)


def test_points_are_looked_up_in_the_runs():
    """A point is in a mask if its pixel is set, and outside of the image in none."""
    segmentations, dense = random_masks(13, 33, 130)
    rng = np.random.default_rng(0)
    points = rng.uniform([-3, -3], [133, 36], (200, 2))
    x, y = np.floor(points).astype(int).T
    within = (x >= 0) & (x < 130) & (y >= 0) & (y < 33)
    wanted = np.where(within, dense[:, np.clip(y, 0, 32), np.clip(x, 0, 129)], 0)
    np.testing.assert_array_equal(rle.point(segmentations, points), wanted)
    assert rle.point(segmentations[0], points[0]) == wanted[0, 0]
    with pytest.raises(ConfigError, match="finite"):
        rle.point(segmentations, [np.nan, 1])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_encode_equals_pycocotools(shape, dtype, order):
    """Dense masks of any type and memory order encode to pycocotools' characters."""
    _, dense = random_masks(14, *shape)
    wanted = [coco.encode(np.asfortranarray(mask)) for mask in dense]
    assert rle.encode(np.asarray(dense, dtype, order=order), text=False) == wanted
    assert rle.encode(dense[1].astype(dtype)) == {"size": list(shape), "counts": wanted[1]["counts"].decode()}
    assert rle.encode(np.asarray(dense)[:, ::-1, ::-1], text=False) == [
        coco.encode(np.asfortranarray(mask[::-1, ::-1])) for mask in dense
    ]


def test_encode_takes_any_byte_but_zero_for_foreground():
    """Masks of 255, and bytes of every value, are foreground; labels may be chosen."""
    values = np.arange(256, dtype=np.uint8).reshape(2, 128)
    assert rle.encode(values) == rle.encode(values > 0)
    assert rle.encode(values, labels=[7, 300]) == [rle.encode(values == 7), rle.encode(values == 300)]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((0, 4)), "found shape"),
        (np.zeros(4), "found shape"),
        (np.full((2, 2), 0.5), "threshold first"),
        (np.full((2, 2), "a"), "found <U1"),
        (np.broadcast_to(np.uint8(0), (1, 70_000)), "found shape"),
    ],
)
def test_encode_refuses_what_is_no_mask(masks, message):
    """What cannot be a mask is refused with the way out."""
    with pytest.raises(ConfigError, match=message):
        rle.encode(masks)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_any_runs_decode_as_in_pycocotools(data):
    """Arbitrary run lengths, empty ones included, decode to pycocotools' pixels and encode back to the same pixels."""
    height, width = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 90))
    cuts = sorted(data.draw(st.lists(st.integers(0, height * width), max_size=60)))
    runs = np.diff([0, *cuts, height * width])
    dense = coco.decode(as_coco(runs, height, width))
    np.testing.assert_array_equal(rle.decode({"size": (height, width), "counts": runs.tolist()}), dense)
    np.testing.assert_array_equal(rle.decode(as_coco(runs, height, width)), dense)
    assert rle.encode(dense, text=False) == coco.encode(dense)


def test_many_random_masks(kernels):
    """Thousands of random masks (SA1B_HF_RLE_MASKS of them) are exact in full, resized, measured and encoded."""
    count, rng = int(os.environ.get("SA1B_HF_RLE_MASKS", "1500")), np.random.default_rng(1)
    for seed in range(count // 50):
        height, width = rng.integers(1, 90, 2).tolist()
        target = tuple(rng.integers(1, 120, 2).tolist())
        segmentations, dense = random_masks(seed + 1000, height, width, count=50)
        np.testing.assert_array_equal(rle.decode(segmentations), dense)
        wanted = [cv2.resize(m, target[::-1], interpolation=cv2.INTER_NEAREST).reshape(target) for m in dense]
        np.testing.assert_array_equal(rle.decode(segmentations, target), wanted)
        reference = [coco.encode(np.asfortranarray(mask)) for mask in dense]
        assert rle.encode(dense, text=False) == reference
        np.testing.assert_array_equal(rle.area(segmentations), coco.area(reference))
        np.testing.assert_array_equal(rle.bbox(segmentations, convention="coco"), coco.toBbox(reference))


MALFORMED = {
    "empty": ([2, 2], "", "too_short", "sum to 2\\*2 = 4, found 0 in 0 runs"),
    "low character": ([2, 2], "1/", "character", "found '/' at character 1"),
    "high character": ([2, 2], "1p2", "character", "found 'p' at character 1"),
    "not ascii": ([2, 2], "1\u00e92", "character", "found '\u00c3' at character 1"),
    "surrogate": ([2, 2], "1\ud8002", "character", "at character 1"),
    "truncated": ([2, 2], "11P", "truncated", "ends inside a number, after 3 characters"),
    "cut in a long mask": ([2, 2], "0" * 200 + "P", "truncated", "after 201 characters"),
    "overlong": ([2, 2], "1PPPPPPP0", "overlong", "at most 7 characters, found more at 1"),
    "negative": ([2, 2], "1O", "negative", "run 1: expected a length of 0 or more, found -1"),
    "negative first": ([2, 2], "O", "negative", "run 0"),
    "negative by difference": ([2, 2], "111J", "negative", "run 3: .* found -5"),
    "too long": ([2, 2], "113", "too_long", "found at least 5 by run 2"),
    "too short": ([2, 2], "111", "too_short", "found 3 in 3 runs"),
    "hidden by wrapping": ([2, 2], "oooooo0oooooo0", "too_long", "at least 1073741823 by run 0"),
    "height 0": ([0, 5], "0", "size", "1 to 65535 pixels"),
    "negative size": ([-2, -2], "4", "size", "found \\[-2, -2\\]"),
    "huge size": ([10**6, 10**6], "4", "size", "1 to 65535 pixels"),
    "too many pixels": ([65_535, 65_535], "4", "size", "at most 178956970 in all"),
    "beyond int64": ([10**30, 1], "4", "size", "two integers"),
    "size of one": ([4], "4", "size", "two integers"),
    "size of three": ([2, 2, 1], "4", "size", "two integers"),
    "fractional size": ([2.5, 2], "4", "size", "two integers"),
    "text size": ("22", "4", "size", "two integers"),
    "no size": (None, "4", "size", "two integers"),
    "no counts": ([2, 2], None, "counts", "found NoneType"),
    "fractional run": ([2, 2], [1.5, 2.5], "counts", "integer run lengths"),
    "negative run": ([2, 2], [-1, 5], "negative", "run 0"),
    "huge run": ([2, 2], [10**12], "too_long", "run 0"),
    "run beyond int64": ([2, 2], [10**30], "counts", "integer run lengths"),
    "runs too short": ([2, 2], [1, 2], "too_short", "found 3 in 2 runs"),
}
GOOD = {"size": [2, 2], "counts": "112"}


@pytest.mark.parametrize("call", ["validate", "decode", "bits", "label_map", "crops", "area", "bbox", "merge"])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_masks_are_named(name, call):
    """Every fault gives an RLEError that says which mask, which annotation and what is wrong, whatever is asked."""
    size, counts, reason, message = MALFORMED[name]
    annotations = [
        {"id": 70, "segmentation": GOOD},
        {"id": 71, "segmentation": {"size": size, "counts": counts}},
        {"id": 72, "segmentation": {"size": [2, 2], "counts": "bad"}},
    ]
    with pytest.raises(RLEError, match=message) as caught:
        getattr(rle, call)(annotations)
    assert caught.value.reason == reason
    assert caught.value.where == {"mask": 1, "annotation_id": 71}
    assert str(caught.value).startswith("mask 1 (annotation 71): ")


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_masks_are_named_in_queries_and_pairs(name):
    """Points and overlaps refuse malformed masks too, on either side."""
    size, counts, reason, _ = MALFORMED[name]
    bad = [GOOD, {"size": size, "counts": counts}]
    for call in (
        lambda: rle.point(bad, [0, 0]),
        lambda: rle.iou([GOOD], bad),
        lambda: rle.iou(bad, [GOOD]),
        lambda: rle.decode(bad, (3, 3), mode="area"),
    ):
        with pytest.raises(RLEError, match=r"^mask 1: ") as caught:
            call()
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    "bad", [None, 5, "112", b"112", [None], ["112"], [{}], [{"size": [2, 2]}], [[1, 2]], [{"counts": "4"}]]
)
def test_what_is_no_mask_is_refused(bad):
    """Things that are not masks at all are an RLEError, not a TypeError from deep inside."""
    with pytest.raises(RLEError, match="expected"):
        rle.decode(bad)


def test_a_bad_mask_leaves_its_neighbours_alone():
    """In a buffer that is used again, a failed call leaves no pixel behind for the next one."""
    buffer = rle.MaskBuffer()
    segmentations, dense = random_masks(15, 33, 130)
    rle.decode(segmentations, out=buffer)
    with pytest.raises(RLEError):
        rle.decode([*segmentations[:3], {"size": [33, 130], "counts": "1"}, *segmentations[3:]], out=buffer)
    np.testing.assert_array_equal(rle.decode(segmentations[:4], out=buffer), dense[:4])


def test_no_masks_give_empty_results():
    """An image without masks is not an error."""
    rle.validate([])
    assert rle.decode([]).shape == (0, 0, 0)
    assert rle.decode([], (4, 5)).shape == (0, 4, 5)
    assert rle.decode([], (4, 5), mode="area").shape == (0, 4, 5)
    assert rle.bits([], (4, 5)).shape == (0, 4, 1)
    assert rle.label_map([], (4, 5)).tolist() == [[0] * 5] * 4
    assert len(rle.crops([])) == 0
    assert rle.area([]).shape == (0,)
    assert rle.bbox([]).shape == (0, 4)
    assert rle.point([], [[1, 2]]).shape == (0, 1)
    assert rle.iou([], [GOOD]).shape == (0, 1)
    assert rle.iou([GOOD], []).shape == (1, 0)
    assert rle.encode(np.zeros((0, 2, 2), bool)) == []
    with pytest.raises(ConfigError, match="at least one"):
        rle.merge([])


def test_sizes_must_agree_where_one_array_holds_all():
    """Masks of two sizes are refused for one array, with the way out, and taken with a target size."""
    masks = [GOOD, {"size": [3, 2], "counts": [0, 6]}]
    with pytest.raises(RLEError, match=r"mask 1: size: expected 2x2 as for mask 0, found 3x2; give size="):
        rle.decode(masks)
    assert rle.decode(masks, (2, 2)).tolist() == [[[0, 0], [1, 0]], [[1, 1], [1, 1]]]
    with pytest.raises(RLEError, match="first list"):
        rle.iou(masks[:1], masks[1:])


def test_the_image_size_is_enforced():
    """`validate` with a size names the mask that is not of that size, and hints at swapped sides."""
    rle.validate([GOOD], (2, 2))
    with pytest.raises(RLEError, match=r"mask 1: size: expected the image's \[2, 3\], found \[3, 2\]; `fix`"):
        rle.validate([{"size": [2, 3], "counts": "6"}, {"size": [3, 2], "counts": "6"}], (2, 3))


def test_output_is_bounded_before_it_is_allocated(monkeypatch):
    """More output than the cap is refused with the ways out, before any of it is allocated."""
    masks = [{"size": [13_000, 13_000], "counts": [13_000 * 13_000]}] * 60
    with pytest.raises(
        ConfigError, match=r"at most 8589934592 bytes, found shape \(60, 13000, 13000\) .* smaller size="
    ):
        rle.decode(masks)
    with pytest.raises(ConfigError, match="at most"):
        rle.decode([GOOD], (65_535, 65_535), mode="area")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": np.int32}, "uint8 or bool, found int32"),
        ({"mode": "area", "dtype": bool}, "float32 or uint8"),
        ({"mode": "cubic"}, "'nearest' or 'area'"),
        ({"size": (0, 4)}, "1 to 65535"),
        ({"threads": 0}, "1 or more"),
        ({"out": np.zeros((1, 2, 3), np.uint8)}, r"\(1, 2, 2\) of uint8, found \(1, 2, 3\)"),
        ({"out": np.zeros((1, 2, 2), np.int8)}, "of uint8, found .* of int8"),
        ({"out": np.zeros((1, 2, 2), np.uint8, order="F")}, "not C-contiguous"),
        ({"out": [[0]]}, "found list"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    """Wrong options are a ConfigError that says what was expected."""
    with pytest.raises(ConfigError, match=message):
        rle.decode([GOOD], **options)


def test_out_is_written_whatever_it_holds():
    """An array given as `out` is returned, with nothing of its old content left."""
    segmentations, dense = random_masks(16, 33, 130)
    out = np.full(dense.shape, 7, np.uint8)
    assert rle.decode(segmentations, out=out) is out
    np.testing.assert_array_equal(out, dense)
    soft = np.full((6, 10, 10), np.nan, np.float32)
    assert rle.decode(segmentations, (10, 10), mode="area", out=soft) is soft
    assert np.isfinite(soft).all()


def test_buffer_is_used_again_for_any_shape():
    """A MaskBuffer gives right masks call after call, over shapes and sizes, and read-only views unless told."""
    buffer, writeable = rle.MaskBuffer(), rle.MaskBuffer(writeable=True)
    for seed in range(30):
        height, width = SHAPES[seed % len(SHAPES)]
        segmentations, dense = random_masks(seed, height, width, count=1 + seed % 5)
        result = rle.decode(segmentations, out=buffer, threads=1 + seed % 2)
        np.testing.assert_array_equal(result, dense)
        assert not result.flags.writeable
        result = rle.decode(segmentations, out=writeable, dtype=bool)
        np.testing.assert_array_equal(result, dense.astype(bool))
        result[:] = True
        writeable.reset()


def annotation_column(segmentations, rows=1):
    """An Arrow column of the package's schema with the given masks, split over rows."""
    annotations = [{"id": 1000 + i, "segmentation": s} for i, s in enumerate(segmentations)]
    for annotation in annotations:
        if isinstance(annotation["segmentation"]["counts"], bytes):
            text = annotation["segmentation"]["counts"].decode()
            annotation["segmentation"] = {**annotation["segmentation"], "counts": text}
    size = -(-len(annotations) // rows)
    return pa.array([annotations[i * size : (i + 1) * size] for i in range(rows)], pa.list_(ANNOTATION_TYPE))


def test_arrow_columns_decode_without_objects():
    """Lists of annotations, structs, slices, chunks, scalars and segmentations alone all give the same masks."""
    segmentations, dense = random_masks(17, 33, 130)
    column = annotation_column(segmentations, rows=3)
    structs = column.flatten()
    alone = structs.field("segmentation")
    large = alone.cast(pa.struct([("size", pa.list_(pa.int64(), 2)), ("counts", pa.large_binary())]))
    for form in (column, structs, alone, large, pa.chunked_array([column[:1], column[1:]]), structs.to_pylist()):
        np.testing.assert_array_equal(rle.decode(form), dense)
    np.testing.assert_array_equal(rle.decode(column[1:2]), dense[2:4])
    np.testing.assert_array_equal(rle.decode(structs[3:5]), dense[3:5])
    np.testing.assert_array_equal(rle.decode(alone[5:]), dense[5:])
    np.testing.assert_array_equal(rle.decode(column[1]), dense[2:4])
    np.testing.assert_array_equal(rle.decode(structs[4]), dense[4])
    np.testing.assert_array_equal(rle.area(column), dense.sum(axis=(1, 2)))
    assert len(rle.crops(column[:0])) == 0
    runs = pa.array([{"size": [2, 2], "counts": [1, 1, 2]}, {"size": [2, 2], "counts": [4]}])
    np.testing.assert_array_equal(rle.decode(runs), [[[0, 0], [1, 0]], [[0, 0], [0, 0]]])


def test_arrow_faults_are_named():
    """Malformed masks of a column are named by place and annotation; nulls and other types are refused."""
    column = annotation_column([GOOD, {"size": [2, 2], "counts": "1O"}])
    with pytest.raises(RLEError, match=r"mask 1 \(annotation 1001\): counts: run 1") as caught:
        rle.decode(column)
    assert caught.value.where == {"mask": 1, "annotation_id": 1001}
    segmentation = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
    for rows, reason in (
        ([GOOD, None], "type"),
        ([GOOD, {"size": [2, 2], "counts": None}], "type"),
        ([GOOD, {"size": None, "counts": "4"}], "type"),
        ([GOOD, {"size": [2], "counts": "4"}], "size"),
        ([GOOD, {"size": [2, None], "counts": "4"}], "size"),
        ([GOOD, {"size": [2, 0], "counts": "4"}], "size"),
        ([GOOD, {"size": [2, 2], "counts": "\u00e9"}], "character"),
    ):
        with pytest.raises(RLEError, match=r"^mask 1: ") as caught:
            rle.decode(pa.array(rows, segmentation))
        assert caught.value.reason == reason
    for other in (
        pa.array([1]),
        pa.array(["4"]),
        pa.array([{"size": 2, "counts": "4"}]),
        pa.array([{"size": [2, 2], "counts": 4}]),
    ):
        with pytest.raises(RLEError, match="expected structs with 'size' and 'counts'"):
            rle.decode(other)


@pytest.mark.parametrize(
    ("broken", "size", "fixed"),
    [
        (GOOD, None, GOOD),
        ({"size": [2, 2], "counts": b"112"}, None, GOOD),
        ({"size": [2, 2], "counts": "b'112'"}, None, GOOD),
        ({"size": [2, 2], "counts": ' b"112"\n'}, None, GOOD),
        ({"size": [2.0, 2.0], "counts": [1, 1, 2]}, None, GOOD),
        ({"size": [2, 2], "counts": "1012"}, None, {"size": [2, 2], "counts": "22"}),
        ({"size": [3, 2], "counts": "132"}, (2, 3), {"size": [2, 3], "counts": "132"}),
        ({"counts": "132"}, (2, 3), {"size": [2, 3], "counts": "132"}),
        ({"id": 3, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}, (4, 4), rle.encode(np.pad(np.ones((2, 2)), (0, 2)))),
        ([[0.0, 0, 2, 0, 2, 2, 0, 2]], (4, 4), [rle.encode(np.pad(np.ones((2, 2)), (0, 2)))]),
    ],
)
def test_fix_repairs_what_has_one_repair(broken, size, fixed):
    """Mix-ups with one possible meaning come out as plain COCO run lengths."""
    assert rle.fix(broken, size) == fixed


@pytest.mark.parametrize(
    ("broken", "size", "reason"),
    [
        ({"size": [2, 2], "counts": "11P"}, None, "truncated"),
        ({"size": [2, 2], "counts": "b'11"}, None, "counts"),
        ({"size": [5, 5], "counts": "4"}, (2, 2), "size_mismatch"),
        ({"counts": "4"}, None, "size"),
        ([[0, 0, 1, 1]], (4, 4), "polygon"),
        ([[0, 0, 1, 1, 1, 0, 1]], (4, 4), "polygon"),
        ([[0, 0, 1, 1, 1e9, 0]], (4, 4), "polygon"),
        ([[0, 0, 1, 1, float("nan"), 0]], (4, 4), "polygon"),
        ([["a", 0, 1, 1, 2, 0]], (4, 4), "polygon"),
        ([[0, 0, 1, 1, 1, 0]], None, "polygon"),
        ([[]], (4, 4), "polygon"),
        ([[0, 0, 1, 1, 1, 0]], (70_000, 4), "size"),
        ("4", (2, 2), "type"),
    ],
)
def test_fix_names_what_has_none(broken, size, reason):
    """What cannot be repaired is refused by its place in the list."""
    height, width = size or (2, 2)
    first = {"size": [height, width], "counts": [height * width]} if height < 100 else []
    with pytest.raises(RLEError, match=rf"^mask {int(bool(first))}( \(annotation 9\))?: ") as caught:
        rle.fix([*filter(None, [first]), {"id": 9, "segmentation": broken} if reason != "type" else broken], size)
    assert caught.value.reason == reason


@pytest.mark.skipif(not REAL.is_dir(), reason="real annotations are not here")
def test_real_masks_are_exact():
    """Real masks have the stated area and box, decode as pycocotools does, and encode back to the same characters."""
    annotations = [a for path in sorted(REAL.glob("*.json")) for a in json.loads(path.read_text())["annotations"]]
    assert annotations
    np.testing.assert_array_equal(rle.area(annotations), [a["area"] for a in annotations])
    np.testing.assert_array_equal(rle.bbox(annotations), [a["bbox"] for a in annotations])
    for annotation in annotations:
        mask = coco.decode(annotation["segmentation"])
        np.testing.assert_array_equal(rle.decode(annotation), mask)
        assert rle.encode(mask) == annotation["segmentation"]
        wanted = cv2.resize(mask, (1024, 700), interpolation=cv2.INTER_NEAREST)
        np.testing.assert_array_equal(rle.decode(annotation, (700, 1024)), wanted)


def test_errors_survive_pickling():
    """A worker's error arrives with its place."""
    import pickle

    with pytest.raises(RLEError) as caught:
        rle.decode([GOOD, {"size": [2, 2], "counts": "1"}])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.reason, again.where) == (str(caught.value), "too_short", {"mask": 1})
