"""Organic mask shapes, as an interactive segmenter draws them: blobs with bays and capes, and ridges across a scene."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["PlacedMask", "dense_mask", "make_blob", "make_masks", "smooth_noise"]

_MASK_GRID = 256  # the segmenter predicts masks on a 256-cell grid over the long side and enlarges them
_MIN_PATCH = 8  # pixels: smaller patches have no shape


class PlacedMask(NamedTuple):
    """A mask as the smallest patch that holds it.

    Attributes
    ----------
    top, left
        Row and column of the patch's first pixel, in pixels of the image.
    patch
        Shape (h, w), bool; every edge has a set pixel.

    """

    top: int
    left: int
    patch: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Number of set pixels."""
        return int(np.count_nonzero(self.patch))


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, *, coarsest: float, finest: float = 1.0, falloff: float = 0.5
) -> NDArray[np.float32]:
    """Sum octaves of noise, each half as wide and `falloff` as strong as the one before.

    Parameters
    ----------
    rng
        Source of randomness.
    height, width
        Size of the result in pixels.
    coarsest, finest
        Cell size of the first and the last octave, in pixels.
    falloff
        Ratio of the strengths of neighbouring octaves; larger is rougher.

    Returns
    -------
    NDArray[np.float32]
        Shape (height, width); mean about 0, first octave of variance about 1.

    """
    field = np.zeros((height, width), np.float32)
    cell, strength = float(coarsest), 1.0
    while cell >= finest:
        grid = rng.standard_normal((math.ceil(height / cell) + 1, math.ceil(width / cell) + 1), np.float32)
        field += strength * _enlarge(grid, height, width, Image.Resampling.BICUBIC)
        cell, strength = cell / 2, strength * falloff
    return field


def _enlarge(
    grid: NDArray[np.float32], height: int, width: int, how: Image.Resampling = Image.Resampling.BILINEAR
) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(grid).resize((width, height), how))


def _connected(allowed: NDArray[np.bool_], row: int, column: int) -> NDArray[np.bool_]:
    """Part of `allowed` that hangs together with one of its cells, by repeated growth (grids are small)."""
    region: NDArray[np.bool_] = np.zeros(allowed.shape, np.bool_)
    region[row, column] = True
    size = 1
    while True:
        grown = region.copy()
        grown[1:] |= region[:-1]
        grown[:-1] |= region[1:]
        grown[:, 1:] |= region[:, :-1]
        grown[:, :-1] |= region[:, 1:]
        np.logical_and(grown, allowed, out=region)
        if (now := int(np.count_nonzero(region))) == size:
            return region
        size = now


def _ellipse(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Field that falls off from the middle along a rotated ellipse."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    angle, stretch = rng.uniform(0, math.pi), math.exp(rng.normal(0, 0.4))
    u = (x * math.cos(angle) + y * math.sin(angle)) * stretch
    v = (y * math.cos(angle) - x * math.sin(angle)) / stretch
    return np.asarray(-3.2 * (u * u + v * v), np.float32)


def _trim(mask: NDArray[np.bool_]) -> tuple[int, int, NDArray[np.bool_]]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    return top, left, mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]


def make_blob(rng: np.random.Generator, area: float, *, height: int, width: int) -> NDArray[np.bool_]:
    """Draw one connected shape.

    Parameters
    ----------
    rng
        Source of randomness.
    area
        Wanted area in pixels; the shape comes out between about half of it and all of it.
    height, width
        Size of the image in pixels, which the shape does not exceed.

    Returns
    -------
    NDArray[np.bool_]
        Shape (h, w), trimmed.

    """
    side, aspect = 2.7 * math.sqrt(area) + 4, math.exp(rng.normal(0, 0.35))
    tall = min(height, max(_MIN_PATCH, round(side * aspect)))
    wide = min(width, max(_MIN_PATCH, round(side / aspect)))
    # Small objects are segmented on enlarged crops, so that their grid is finer than the image's.
    cell = min(max(height, width) / _MASK_GRID, max(1.0, math.sqrt(area) / 16))
    rows, columns = max(6, round(tall / cell)), max(6, round(wide / cell))
    field = _ellipse(rng, rows, columns)
    field += rng.uniform(0.3, 0.75) * smooth_noise(rng, rows, columns, coarsest=max(rows, columns) / 2.5, falloff=0.48)
    threshold = float(np.quantile(field, 1 - min(area / (tall * wide), 0.9)))
    row, column = divmod(int(np.argmax(field)), columns)
    inside = _connected(field > threshold, row, column)
    # Other islands go below the threshold; the bilinear enlargement then smooths the shore of this one.
    field = np.where(inside, field, np.minimum(field, threshold - 0.02))
    mask: NDArray[np.bool_] = _enlarge(field.astype(np.float32), tall, wide) > threshold
    return _trim(mask if mask.any() else np.ones_like(mask))[2]


def _ridge(rng: np.random.Generator, height: int, width: int, level: float) -> NDArray[np.bool_]:
    """Everything below a mountain line at about `level` (0 is the top row) of the image."""
    line = smooth_noise(rng, 1, width, coarsest=width / 2, finest=max(2.0, width / 300), falloff=0.45)[0]
    line = np.clip((level + 0.05 * line) * height, 1, height - 2)
    below: NDArray[np.bool_] = np.arange(height)[:, None] >= line[None, :]
    return below


def _place(
    rng: np.random.Generator, patch: NDArray[np.bool_], around: tuple[int, int] | None, height: int, width: int
) -> PlacedMask:
    """Put a patch around a point, or anywhere, and cut what hangs over the image's edge."""
    tall, wide = patch.shape
    if around is None:
        # Things stand on the ground more often than they fly.
        around = (int(height * rng.beta(2, 1.3)), int(rng.integers(width)))
    top = min(max(around[0] - tall // 2, -tall // 8), height - tall + tall // 8)
    left = min(max(around[1] - wide // 2, -wide // 8), width - wide + wide // 8)
    visible = patch[max(0, -top) : height - top, max(0, -left) : width - left]
    if not visible.any():
        visible, top, left = patch, min(max(top, 0), height - tall), min(max(left, 0), width - wide)
    down, right, trimmed = _trim(visible)
    return PlacedMask(max(top, 0) + down, max(left, 0) + right, trimmed)


def _point_in(rng: np.random.Generator, mask: PlacedMask) -> tuple[int, int]:
    flat = np.flatnonzero(mask.patch)
    row, column = divmod(int(flat[rng.integers(flat.size)]), mask.patch.shape[1])
    return mask.top + row, mask.left + column


def make_masks(
    rng: np.random.Generator, count: int, *, height: int, width: int, median_share: float = 0.005
) -> list[PlacedMask]:
    """Draw the masks of one scene, largest first, so that painting them in order keeps every one visible.

    Parameters
    ----------
    rng
        Source of randomness.
    count
        Number of masks, at least 1.
    height, width
        Size of the image in pixels.
    median_share
        Median area of the blobs as a share of the image's.

    Returns
    -------
    list[PlacedMask]
        Land and hills below one or two ridges if there are masks enough; then blobs whose areas are log-normal,
        a third of them parts of others.

    """
    pixels = height * width
    levels = sorted(rng.uniform(0.2, 0.75, min(2, count // 4)))
    masks = [PlacedMask(*_trim(_ridge(rng, height, width, level))) for level in levels]
    shares = median_share * np.exp(1.5 * rng.standard_normal(count - len(masks)))
    floor = max(12 / pixels, 3e-5)
    for share in sorted(np.clip(shares, floor, 0.25), reverse=True):
        patch = make_blob(rng, float(share) * pixels, height=height, width=width)
        whole = masks[int(rng.integers(len(masks)))] if masks and rng.random() < 1 / 3 else None
        masks.append(_place(rng, patch, _point_in(rng, whole) if whole else None, height, width))
    return masks


def dense_mask(mask: PlacedMask, *, height: int, width: int) -> NDArray[np.uint8]:
    """Lay a placed mask out at the image's size.

    Returns
    -------
    NDArray[np.uint8]
        Shape (height, width), Fortran order as pycocotools encodes it, values 0 and 1.

    """
    dense = np.zeros((height, width), np.uint8, order="F")
    tall, wide = mask.patch.shape
    dense[mask.top : mask.top + tall, mask.left : mask.left + wide] = mask.patch
    return dense
