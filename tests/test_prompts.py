"""Prompts: points inside masks and shaken boxes."""

from __future__ import annotations

import numpy as np
import pytest

from sa1b_hf import rle
from sa1b_hf.errors import ConfigError, RLEError
from sa1b_hf.prompts import jitter_boxes, sample_points


@pytest.fixture
def masks():
    """Dense masks: noise, one pixel, full, empty, a corner."""
    rng = np.random.default_rng(0)
    masks = np.zeros((5, 20, 31), np.uint8)
    masks[0] = rng.random((20, 31)) < 0.2
    masks[1, 7, 30] = 1
    masks[2] = 1
    masks[4, 15:, 25:] = 1
    return masks


@pytest.mark.parametrize("form", ["dense", "bool", "float", "rle", "arrow"])
def test_points_lie_inside(masks, form):
    """Points are centres of pixels of their mask; an empty mask has none, and says so."""
    import pyarrow as pa

    given = {
        "dense": masks,
        "bool": masks.astype(bool),
        "float": masks.astype(np.float32),
        "rle": rle.encode(masks),
        "arrow": pa.array(rle.encode(masks)),
    }[form]
    points_xy, labels = sample_points(given, 9, np.random.default_rng(1))
    assert points_xy.shape == (5, 9, 2)
    assert points_xy.dtype == np.float32
    np.testing.assert_array_equal(labels, np.repeat([[1], [1], [1], [-1], [1]], 9, axis=1))
    np.testing.assert_array_equal(points_xy % 1, np.where(labels[..., None] > 0, [0.5, 0.5], 0))
    for mask, points, label in zip(masks, points_xy.astype(int), labels, strict=True):
        assert (mask[points[:, 1], points[:, 0]] == 1)[label > 0].all()
    assert (points_xy[3] == 0).all()
    assert (points_xy[1] == [30.5, 7.5]).all()


def test_points_are_uniform_and_reproducible(masks):
    """Every pixel of a mask is drawn about as often; dense masks and run lengths of a seed give the same points."""
    points_xy, _ = sample_points(masks[4:], 6000, np.random.default_rng(2))
    counts = np.unique(points_xy[0], axis=0, return_counts=True)[1]
    assert len(counts) == 30
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)
    again = [sample_points(form, 3, np.random.default_rng(3))[0] for form in (masks, rle.encode(masks))]
    np.testing.assert_array_equal(*again)


def test_bad_points(masks):
    """Wrong shapes, counts and masks are errors."""
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="num_points"):
        sample_points(masks, 0, rng)
    with pytest.raises(ConfigError, match="shape"):
        sample_points(masks[0], 1, rng)
    with pytest.raises(RLEError, match="mask 0"):
        sample_points([{"size": [2, 2], "counts": "~"}], 1, rng)
    assert sample_points([], 2, rng)[0].shape == (0, 2, 2)


def test_jitter():
    """Sides shift independently by a tenth of the box's length, at most 20 pixels, and stay in the image."""
    rng = np.random.default_rng(0)
    boxes = np.tile([[100.0, 200.0, 50.0, 80.0]], (4000, 1))
    moved = jitter_boxes(boxes, rng)
    sides = np.concatenate([moved[:, :2], moved[:, :2] + moved[:, 2:]], axis=1) - [100, 200, 150, 280]
    np.testing.assert_allclose(sides.std(axis=0), [5, 8, 5, 8], rtol=0.06)
    np.testing.assert_allclose(sides.mean(axis=0), 0, atol=0.5)
    assert np.abs(np.corrcoef(sides.T) - np.eye(4)).max() < 0.08
    large = jitter_boxes(np.array([[0.0, 0.0, 900.0, 900.0]] * 500), rng)
    assert np.abs(large[:, :2]).max() == 20
    inside = jitter_boxes(np.array([[0.0, 0.0, 900.0, 900.0]] * 500), rng, size=(890, 905))
    assert (inside[:, :2] >= 0).all()
    assert (inside[:, :2] + inside[:, 2:] <= [905, 890]).all()


def test_jitter_of_degenerate_boxes():
    """Boxes never turn inside out; none stay none; no shift leaves them."""
    rng = np.random.default_rng(0)
    boxes = np.array([[5.0, 5.0, 1.0, 0.0]] * 200)
    assert (jitter_boxes(boxes, rng, std=3)[:, 2:] >= 0).all()
    np.testing.assert_array_equal(jitter_boxes(boxes, rng, std=0), boxes)
    assert jitter_boxes(np.zeros((0, 4)), rng).shape == (0, 4)
    with pytest.raises(ConfigError, match="shape"):
        jitter_boxes([1, 2, 3, 4], rng)
    with pytest.raises(ConfigError, match="std"):
        jitter_boxes(boxes, rng, std=-1)
