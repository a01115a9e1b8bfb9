"""Decoding with torch operations against the codec; on the CPU, and on a GPU where there is one."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings

import numpy as np
import pyarrow as pa
import pytest

from sa1b_hf import _rle_kernels, _rle_numpy, _rle_torch, rle, rle_torch
from sa1b_hf._rle_packed import Packed
from sa1b_hf.errors import ConfigError, MissingExtraError, RLEError
from sa1b_hf.features import ANNOTATION_TYPE

torch = pytest.importorskip("torch")

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]
SHAPES = [(1, 1), (1, 7), (1, 64), (9, 1), (300, 1), (5, 64), (64, 65), (33, 130), (100, 63)]
TARGETS = [None, (1, 1), (3, 200), (200, 3), (64, 64), (77, 40)]


@pytest.fixture(autouse=True)
def _warn_again():
    rle_torch._warn_once.cache_clear()


def segmentation(height, width, *runs):
    """A mask of exactly these runs, the last of which is computed."""
    return {"size": [height, width], "counts": [*runs, height * width - sum(runs)]}


def masks_of(rng, height, width):
    """One mask of every kind, most of them random."""
    total = height * width
    dense = [rng.random((height, width)) < part for part in (0.02, 0.5, 0.97)]
    checkerboard = np.add.outer(np.arange(height), np.arange(width)) & 1
    box = np.zeros((height, width), np.uint8)
    y, x = rng.integers(height), rng.integers(width)
    box[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)] = 1
    pixel = int(rng.integers(total))
    return [
        *(rle.encode(mask.astype(np.uint8)) for mask in (*dense, checkerboard, 1 - checkerboard, box)),
        segmentation(height, width),  # empty
        segmentation(height, width, 0),  # full
        segmentation(height, width, 0, 0, 0, 0),  # empty, with runs of no length
        segmentation(height, width, 0, total, 0, 0, 0),
        segmentation(height, width, pixel, 1),
        segmentation(height, width, 0, 1),
        segmentation(height, width, total - 1, 1),
        segmentation(height, width, pixel, 0, 0, 1, 0, 0),
        segmentation(height, width, *np.sort(rng.integers(0, 2, total // 2))),
    ]


def same(result, expected):
    """Tell whether a tensor holds exactly what an array does."""
    assert result.shape == expected.shape
    assert result.is_contiguous()
    return np.array_equal(result.cpu().numpy(), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_pixels(shape, target, device):
    """Every kind of mask is decoded as the codec does, in chunks of any size."""
    rng = np.random.default_rng([*shape, *(target or ())])
    masks = masks_of(rng, *shape)
    expected = rle.decode(masks, target)
    for max_bytes in (1, 30_000, 1 << 28):
        assert same(rle_torch.decode(masks, target, device=device, max_bytes=max_bytes), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_mixed_sizes(device):
    """Masks of different sizes and lengths are brought to one size."""
    rng = np.random.default_rng(1)
    masks = [mask for height, width in SHAPES for mask in masks_of(rng, height, width)]
    masks = [masks[index] for index in rng.permutation(len(masks))]
    assert same(rle_torch.decode(masks, (50, 48), device=device), rle.decode(masks, (50, 48)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(4))
def test_random_sizes(seed, device):
    """Random masks of random sizes are decoded as the codec does, at random target sizes."""
    rng = np.random.default_rng(seed)
    for _ in range(25):
        height, width = map(int, rng.integers(1, 120, 2))
        target = tuple(map(int, rng.integers(1, 120, 2)))
        masks = [rle.encode((rng.random((height, width)) < rng.random()).astype(np.uint8)) for _ in range(3)]
        for size in (None, target):
            assert same(rle_torch.decode(masks, size, device=device), rle.decode(masks, size))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("size", "target"), [((65535, 2), (3, 999)), ((1, 65535), (8, 8)), ((13_377, 13_377), (64, 50))]
)
def test_largest_sizes(size, target, device):
    """Sides and areas at their limits, with numbers of every length."""
    height, width = size
    total = height * width
    rng = np.random.default_rng(2)
    masks = [segmentation(height, width, *rng.multinomial(total, rng.dirichlet([0.1] * 200))[:-1]) for _ in range(4)]
    masks += [segmentation(height, width, 0), segmentation(height, width, total - 1, 1)]
    assert same(rle_torch.decode(masks, target, device=device), rle.decode(masks, target))


@pytest.mark.parametrize("device", DEVICES)
def test_label_map(device):
    """Masks are painted from the largest to the smallest, in chunks of any size."""
    rng = np.random.default_rng(3)
    masks = [mask for _ in range(20) for mask in masks_of(rng, 30, 37)]
    assert len(masks) == 300
    for chosen, kind in ((masks[:255], torch.uint8), (masks, torch.int32)):
        for size in (None, (41, 16)):
            for max_bytes in (1, 1 << 28):
                labels = rle_torch.label_map(chosen, size, device=device, max_bytes=max_bytes)
                assert labels.dtype == kind
                assert same(labels, rle.label_map(chosen, size))


def test_forms():
    """One mapping gives no leading axis; Arrow columns, iterators and no masks at all are taken; bool is given."""
    masks = masks_of(np.random.default_rng(4), 20, 30)[:6]
    expected = rle.decode(masks)
    assert same(rle_torch.decode(masks[1], device="cpu"), expected[1])
    assert same(rle_torch.decode(iter(masks), device=torch.device("cpu")), expected)
    flags = rle_torch.decode(masks, device="cpu", dtype=torch.bool)
    assert flags.dtype == torch.bool
    assert same(flags, expected.astype(bool))
    rows = [{"segmentation": mask, "id": index} for index, mask in enumerate(masks)]
    column = pa.array([None, *rows], ANNOTATION_TYPE)[1:]
    assert same(rle_torch.decode(column, device="cpu"), expected)
    assert rle_torch.decode([], (4, 5), device="cpu").shape == (0, 4, 5)
    assert not rle_torch.label_map([], (4, 5), device="cpu").any()


def test_chunks_are_bounded():
    """Masks go together as far as memory allows and while they have one size, each exactly once."""
    sizes = np.array([[8, 8]] * 5 + [[4, 8]] * 4, np.int64)
    packed = Packed(np.zeros(90, np.uint8), np.arange(10) * 10, sizes)
    one = 10 * 128 + 8 * 8 + 8 * 32
    for num_masks, expected in ((0, 1), (1, 1), (2, 2), (3, 3), (99, 5)):
        chunks = list(_rle_torch.iter_chunks(packed, (8, 8), max(1, num_masks * one)))
        assert max(last - first for first, last in chunks) == expected
        assert [i for first, last in chunks for i in range(first, last)] == list(range(9))
        assert not any(first < 5 < last for first, last in chunks)


def test_upscaled_noise_is_cheap():
    """A column shown many times over is decoded once: changes never outnumber the runs."""
    mask = segmentation(4000, 1, *[1] * 3999)
    assert same(rle_torch.decode(mask, (4000, 2000), device="cpu"), rle.decode(mask, (4000, 2000)))


def test_nothing_waits():
    """No operation needs a value from the device: all of them work where there are no values."""
    masks = masks_of(np.random.default_rng(5), 20, 30)
    for size in (None, (10, 16), (40, 60)):
        planes = rle_torch.decode(masks, size, device="meta")  # a fallback would warn, and so fail
        assert planes.is_meta
        assert planes.shape == rle.decode(masks, size).shape


@needs_cuda
def test_cuda_does_not_wait():
    """The CPU goes on while the GPU decodes."""
    masks = masks_of(np.random.default_rng(5), 20, 30)
    rle_torch.decode(masks, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        planes = rle_torch.decode(masks, (10, 16), device="cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert same(planes, rle.decode(masks, (10, 16)))


@pytest.mark.parametrize("kernels", [_rle_kernels.kernels, _rle_numpy])
@pytest.mark.parametrize("counts", ["", "0", "54", "55", "5 4", "~~", "T", "oooooooo0", [3, -1, 4], [7]])
def test_malformed(counts, kernels, monkeypatch):
    """A malformed mask is refused by name before anything is on a device."""
    monkeypatch.setattr(_rle_kernels, "kernels", kernels)
    monkeypatch.setattr(rle_torch, "fill", None)
    masks = [segmentation(2, 3, 1), {"size": [2, 3], "counts": counts}]
    for function in (rle_torch.decode, rle_torch.label_map):
        with pytest.raises(RLEError) as caught:
            function(masks, device="cpu")
        assert caught.value.where["mask"] == 1


def test_options():
    """Options that make no sense are named."""
    mask = segmentation(2, 3, 1)
    cases = [
        ({"dtype": torch.float32}, "torch.uint8 or torch.bool"),
        ({"device": "gpu"}, "torch.device"),
        ({"device": 1.5}, "torch.device"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"size": (0, 4)}, "size"),
    ]
    for options, message in cases:
        with pytest.raises(ConfigError, match=message):
            rle_torch.decode(mask, **{"device": "cpu", **options})
    with pytest.raises(ConfigError, match="at most"):
        rle_torch.decode([mask] * 9, (40_000, 40_000), device="cpu")
    with pytest.raises(RLEError, match="give size="):
        rle_torch.decode([mask, segmentation(3, 2)], device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_device_is_missing(recwarn):
    """Without the device the CPU's result is given, and one warning for all calls."""
    warnings.simplefilter("always")
    masks = masks_of(np.random.default_rng(6), 12, 10)
    for _ in range(2):
        assert same(rle_torch.decode(masks, (6, 7)), rle.decode(masks, (6, 7)))
        assert same(rle_torch.label_map(iter(masks)), rle.label_map(masks))
    (warning,) = recwarn.list
    assert "'cuda': not available" in str(warning.message)
    assert warning.filename == __file__


def test_operation_is_missing(recwarn, monkeypatch):
    """Where an operation is missing the codec's result is copied to the device, with one warning."""
    warnings.simplefilter("always")

    def fill(*_):
        raise NotImplementedError("no such kernel")

    monkeypatch.setattr(rle_torch, "fill", fill)
    masks = masks_of(np.random.default_rng(6), 12, 10)
    for _ in range(2):
        assert same(rle_torch.decode(masks, device="cpu"), rle.decode(masks))
        assert same(rle_torch.label_map(masks, device="cpu"), rle.label_map(masks))
    assert ["no such kernel" in str(warning.message) for warning in recwarn.list] == [True]


def test_torch_is_missing(monkeypatch):
    """Without torch the error says what to install."""

    def import_module(name, *rest):
        if name == "torch":
            raise ImportError(name)
        return original(name, *rest)

    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", import_module)
    for function in (rle_torch.decode, rle_torch.label_map):
        with pytest.raises(MissingExtraError, match=r"sa1b_hf\[torch\]"):
            function(segmentation(2, 3, 1))


def test_torch_is_imported_late():
    """Importing the module does not import torch."""
    code = "import sys, sa1b_hf.rle_torch; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False"]
