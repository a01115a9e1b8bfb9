"""The RLE codec against pycocotools and OpenCV, kernels of the extension and of NumPy alike."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from sa1b_hf import _rle_kernels, _rle_numpy, rle
from sa1b_hf._rle_text import compress

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
