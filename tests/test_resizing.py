"""Geometry of a resize, scaled decoding of images, and which masks are sampled."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from sa1b_hf import images
from sa1b_hf.errors import ConfigError, ImageError
from sa1b_hf.images import decode_image, image_size
from sa1b_hf.resizing import Geometry, pad_planes
from sa1b_hf.sampling import sample_masks

DECODERS = [
    pytest.param(None, id="pillow"),
    pytest.param(
        images._simplejpeg,
        id="simplejpeg",
        marks=pytest.mark.skipif(images._simplejpeg is None, reason="simplejpeg is not installed"),
    ),
]


@pytest.fixture(params=DECODERS)
def decoder(request, monkeypatch):
    """Run a test once with each decoder."""
    monkeypatch.setattr(images, "_simplejpeg", request.param)


def jpeg(height, width, seed=0):
    """A smooth picture, as bytes."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
    stored = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(stored, "JPEG", quality=95)
    return stored.getvalue()


@pytest.mark.parametrize(
    ("original", "target", "resize", "expected"),
    [
        ((1500, 2250), 1024, "longest", (683, 1024)),
        ((2250, 1500), 1024, "longest", (1024, 683)),
        ((1500, 2250), 1024, "shortest", (1024, 1536)),
        ((1500, 2250), 512, "exact", (512, 512)),
        ((1500, 2250), (300, 400), "exact", (300, 400)),
        ((1500, 2250), None, "longest", (1500, 2250)),
        ((20, 10), 1024, "longest", (1024, 512)),
        ((1, 5000), 100, "longest", (1, 100)),
        ((3, 2), 5, "longest", (5, 3)),
    ],
)
def test_fit(original, target, resize, expected):
    """The named side gets the target's length, the other keeps the shape, halves rounded up, never 0."""
    assert Geometry.fit(original, target, resize).size == expected


def test_corners_map_to_corners():
    """The corners of the image, as points and as a box, become those of the result."""
    geometry = Geometry((1500, 2250), (683, 1024))
    np.testing.assert_allclose(geometry.transform_points([[0, 0], [2250, 1500]]), [[0, 0], [1024, 683]])
    np.testing.assert_allclose(geometry.transform_boxes([[0, 0, 2250, 1500]]), [[0, 0, 1024, 683]])
    assert geometry.transform_points(np.zeros((0, 1, 2))).shape == (0, 1, 2)


def test_pad_planes():
    """Padding goes to the bottom and right, and what fits already is not copied."""
    planes = np.arange(1, 7, dtype=np.uint8).reshape(1, 2, 3)
    padded = pad_planes(planes, (3, 4), 9)
    np.testing.assert_array_equal(padded, [[[1, 2, 3, 9], [4, 5, 6, 9], [9, 9, 9, 9]]])
    assert pad_planes(planes, (2, 3)) is planes


@pytest.mark.parametrize("original", [(97, 211), (200, 133), (64, 64), (61, 500), (1, 1)])
@pytest.mark.parametrize("factor", [0.1, 0.3, 0.5, 0.51, 1.0, 1.7])
@pytest.mark.usefixtures("decoder")
def test_scaled_decoding_keeps_the_geometry(original, factor):
    """An image decoded at a size looks like the whole one resized: nothing shifts where eighths were rounded."""
    data = jpeg(*original)
    size = tuple(max(1, round(side * factor)) for side in original)
    result = decode_image(data, size, original_size=original)
    whole = Image.open(io.BytesIO(data))
    expected = np.asarray(whole.resize(size[::-1], Image.Resampling.BILINEAR))
    assert result.shape == (*size, 3)
    assert result.dtype == np.uint8
    assert np.abs(result.astype(int) - expected).mean() < 3
    assert image_size(data) == original


@pytest.mark.parametrize("form", ["bytes", "PIL"])
@pytest.mark.parametrize("original", [(203, 151), (1501, 2251)])
@pytest.mark.usefixtures("decoder")
def test_a_ramp_is_not_shifted(original, form):
    """A horizontal ramp keeps its value at every column to a grey level, though scaled sizes are rounded up."""
    height, width = original
    ramp = np.broadcast_to(np.linspace(0, 255, width)[None, :, None], (height, width, 3)).astype(np.uint8)
    stored = io.BytesIO()
    Image.fromarray(ramp).save(stored, "JPEG", quality=98)
    target = (height // 2 - 3, width // 2 - 3)
    image = stored.getvalue() if form == "bytes" else Image.open(stored)
    row = decode_image(image, target)[target[0] // 2, :, 0].astype(float)
    expected = np.linspace(0, 255, width)[
        np.clip(((np.arange(target[1]) + 0.5) * width / target[1] - 0.5).round().astype(int), 0, width - 1)
    ]
    assert np.abs(row - expected)[2:-2].max() <= 3.5
    assert abs((row - expected)[2:-2].mean()) < 1


@pytest.mark.parametrize(
    ("original", "target", "decoded"),
    [
        ((400, 600), (100, 150), (100, 150)),
        ((1500, 2000), (768, 1024), (750, 1000)),
        ((1500, 2000), (800, 1067), (1500, 2000)),
    ],
)
def test_decoding_is_scaled(monkeypatch, original, target, decoded):
    """A JPEG is decoded no larger than needed; half of 2000 pixels will do for 1024, but not for 1067."""
    monkeypatch.setattr(images, "_simplejpeg", None)
    seen = []
    resize = images._resize
    monkeypatch.setattr(
        images, "_resize", lambda opened, *rest: seen.append(opened.size[::-1]) or resize(opened, *rest)
    )
    assert decode_image(jpeg(*original), target).shape == (*target, 3)
    assert seen == [decoded]


@pytest.mark.usefixtures("decoder")
def test_other_formats_and_small_files():
    """PNGs with transparency and images of one pixel decode to RGB."""
    stored = io.BytesIO()
    Image.new("RGBA", (6, 4), (10, 20, 30, 40)).save(stored, "PNG")
    result = decode_image(stored.getvalue(), (2, 3))
    np.testing.assert_array_equal(result, np.broadcast_to([10, 20, 30], (2, 3, 3)))
    assert decode_image(jpeg(1, 1)).shape == (1, 1, 3)


@pytest.mark.parametrize("keep", [2, 3, 20, 400, 0.5, 0.99])
@pytest.mark.usefixtures("decoder")
def test_torn_images_are_errors(keep):
    """A JPEG that is cut off anywhere is an error, never a grey image."""
    data = jpeg(90, 120)
    torn = data[: keep if isinstance(keep, int) else int(len(data) * keep)]
    with pytest.raises(ImageError) as caught:
        decode_image(torn, (30, 40), image_id=5)
    assert caught.value.reason == "image-decode"
    assert "sa_5" in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.usefixtures("decoder")
def test_a_header_of_a_huge_image_is_refused():
    """A header that claims more pixels than Pillow's cap costs no memory."""
    data = bytearray(jpeg(16, 16))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(ImageError, match="cannot be decoded"):
        decode_image(bytes(data), (16, 16))
    with pytest.raises(ImageError, match="cannot be read"):
        image_size(bytes(data))


def test_wrong_image_types():
    """Tensors and other things are refused with advice."""
    torch = pytest.importorskip("torch")
    with pytest.raises(ImageError, match="without one"):
        decode_image(torch.zeros(3, 4, 4))
    with pytest.raises(ImageError, match="found float"):
        decode_image(1.5)
    with pytest.raises(ImageError, match="uint8"):
        image_size(np.zeros((4, 4, 3)))
    assert image_size(np.zeros((4, 5, 3), np.uint8)) == image_size(Image.new("L", (5, 4))) == (4, 5)


@pytest.mark.parametrize("select", ["random", "area", "predicted_iou", "stratified"])
@pytest.mark.parametrize("num_masks", [0, 1, 3, 4, 5, 37])
def test_sample_sizes(select, num_masks):
    """Any number of masks is chosen exactly, without repeats, in ascending order."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, num_masks)
    for max_masks in range(1, num_masks + 2):
        for _ in range(5):
            chosen = sample_masks(num_masks, max_masks, select, rng, values)
            assert len(chosen) == min(num_masks, max_masks)
            assert (np.diff(chosen) > 0).all()
            assert ((chosen >= 0) & (chosen < num_masks)).all()
    np.testing.assert_array_equal(sample_masks(num_masks, None, select, rng, values), np.arange(num_masks))


def test_stratified_covers_quarters():
    """Each quarter by area gives a quarter of the masks, and a remainder goes to different quarters."""
    rng = np.random.default_rng(1)
    areas = rng.permutation(40)
    extra = np.zeros(4)
    for _ in range(200):
        chosen = areas[sample_masks(40, 13, "stratified", rng, areas)]
        counts = np.bincount(chosen // 10, minlength=4)
        assert sorted(counts) == [3, 3, 3, 4]
        extra += counts - 3
    assert (extra > 20).all()


def test_random_is_uniform():
    """Every mask is as likely as every other."""
    rng = np.random.default_rng(2)
    counts = np.zeros(10)
    for _ in range(4000):
        counts[sample_masks(10, 3, "random", rng)] += 1
    deviation = np.abs(counts - 1200) / math.sqrt(4000 * 0.3 * 0.7)
    assert deviation.max() < 4


def test_highest_ignores_nan():
    """NaN is never preferred, and of equal scores the earlier wins."""
    values = np.array([np.nan, 0.9, 0.9, 0.9, 0.1])
    assert sample_masks(5, 2, "predicted_iou", np.random.default_rng(0), values).tolist() == [1, 2]


def test_too_long_a_side():
    """A result beyond the cap is refused."""
    with pytest.raises(ConfigError, match="65535"):
        Geometry.fit((1, 1000), 1000, "shortest")
