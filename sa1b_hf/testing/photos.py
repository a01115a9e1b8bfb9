"""Photograph-like pictures: light, texture and grain painted under the very masks that annotate them."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .masks import PlacedMask, smooth_noise

__all__ = ["encode_jpeg", "paint_photo", "tag_jpeg"]

_Plane = NDArray[np.float32]
_SOI_APP0 = 20  # bytes of SOI and Pillow's JFIF segment, which every file begins with
_MAX_COMMENT = 65_533
_EDGE = 0.6  # pixels over which a lens blurs an edge


def _blur(mask: NDArray[np.bool_], radius: float, pad: int) -> _Plane:
    """Soften a mask in a frame of `pad` pixels; values 0 to 1."""
    picture = Image.fromarray(np.pad(mask, pad).astype(np.uint8) * 255)
    soft: _Plane = np.array(picture.filter(ImageFilter.BoxBlur(radius)), np.float32)
    soft /= 255
    return soft


def _colour(rng: np.random.Generator, hue: float) -> _Plane:
    """Muted colour near a hue, as most things outdoors are; RGB, 0 to 255."""
    value = rng.uniform(0.25, 0.92)
    red, green, blue = colorsys.hsv_to_rgb((hue + rng.normal(0, 0.09)) % 1, float(rng.beta(2, 3)) * 0.75, value)
    return np.array([red, green, blue], np.float32) * 255


def _sky(rng: np.random.Generator, height: int, width: int) -> _Plane:
    """Gradient towards the horizon with clouds; shape (height, width, 3)."""
    zenith = np.array([70, 125, 195], np.float32) + rng.normal(0, 9, 3).astype(np.float32)
    horizon = np.array([225, 225, 220], np.float32) + rng.normal(0, 8, 3).astype(np.float32)
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** 0.8
    clouds = smooth_noise(rng, height, width, coarsest=width / 3, finest=max(1.0, width / 200), falloff=0.55)
    cover = np.clip(clouds * 0.45 - 0.15, 0, 0.85)[..., None]
    sky = zenith * (1 - down) + horizon * down
    return np.asarray(sky * (1 - cover) + 245 * cover, np.float32)


def _window(placed: PlacedMask, pad: int, height: int, width: int) -> tuple[slice, slice, slice, slice]:
    """Rows and columns of the padded patch: those in the image, then the same ones within the patch."""
    tall, wide = placed.patch.shape
    top, left = placed.top - pad, placed.left - pad
    bottom, right = placed.top + tall + pad, placed.left + wide + pad
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    return (
        rows,
        columns,
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )


def _light(rng: np.random.Generator, rows: int, columns: int) -> _Plane:
    """Slope of light across an object, about 0."""
    down, right = rng.normal(-0.3, 0.25), rng.normal(0, 0.25)
    y = np.linspace(-0.5, 0.5, rows, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, columns, dtype=np.float32)[None, :]
    return np.asarray(down * y + right * x, np.float32)


def _paint_object(rng: np.random.Generator, canvas: _Plane, placed: PlacedMask, texture: _Plane, hue: float) -> None:
    """Paint one mask in place: its shadow on what lies below, then its own colour, light and texture."""
    height, width = canvas.shape[:2]
    radius = max(1, round(min(placed.patch.shape) * 0.06))
    pad = 2 * radius + 2  # the shadow is the soft mask rolled down: its frame must not wrap around
    rows, columns, patch_rows, patch_columns = _window(placed, pad, height, width)
    soft = _blur(placed.patch, radius, pad)
    shadow = np.roll(soft, radius, 0)[patch_rows, patch_columns]
    inner = soft[patch_rows, patch_columns]
    alpha = _blur(placed.patch, _EDGE, pad)[patch_rows, patch_columns][..., None]
    shade = 0.72 + 0.28 * inner + _light(rng, *inner.shape)
    shade += rng.uniform(0.03, 0.16) * texture[rows, columns]
    view = canvas[rows, columns]
    view *= (1 - 0.4 * shadow)[..., None]
    view += alpha * (shade[..., None] * _colour(rng, hue) - view)


def _textures(rng: np.random.Generator, height: int, width: int) -> list[_Plane]:
    """Surfaces to choose from: grain, leaves, cloth across, cloth along."""
    unit = max(height, width) / 2250
    fine = smooth_noise(rng, height, width, coarsest=max(2.0, 6 * unit), finest=1.0, falloff=0.8)
    leaves = smooth_noise(rng, height, width, coarsest=max(4.0, 90 * unit), finest=max(1.0, 2 * unit), falloff=0.75)
    x = np.arange(width, dtype=np.float32)[None, :] / max(1.5, 7 * unit)
    y = np.arange(height, dtype=np.float32)[:, None] / max(1.5, 9 * unit)
    across = np.sin(x + 0.5 * leaves) + 0.4 * fine
    along = np.sin(y + 0.8 * leaves) + 0.4 * fine
    return [fine, leaves, leaves, np.asarray(across, np.float32), np.asarray(along, np.float32)]


def paint_photo(
    rng: np.random.Generator, masks: Sequence[PlacedMask], *, height: int, width: int, grain: float = 4.0
) -> NDArray[np.uint8]:
    """Paint a scene: sky, then each mask in order with its own colour, texture, light and shadow, then sensor grain.

    Parameters
    ----------
    rng
        Source of randomness.
    masks
        What to paint, back to front.
    height, width
        Size of the picture in pixels.
    grain
        Standard deviation of the sensor noise in grey levels; more of it makes a larger JPEG.

    Returns
    -------
    NDArray[np.uint8]
        Shape (height, width, 3), RGB.

    """
    canvas = _sky(rng, height, width)
    textures = _textures(rng, height, width)
    hues = rng.uniform(0, 1, 3)
    for placed in masks:
        texture = textures[int(rng.integers(len(textures)))]
        land = placed.patch.shape[1] == width
        hue = 0.27 if land else float(hues[int(rng.integers(hues.size))])
        _paint_object(rng, canvas, placed, texture, hue)
    canvas += grain * rng.standard_normal((height, width, 1), np.float32)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def encode_jpeg(pixels: NDArray[np.uint8], *, quality: int = 95) -> bytes:
    """Encode a picture as the dataset's are: baseline JFIF, 4:2:0, no EXIF.

    Parameters
    ----------
    pixels
        Shape (h, w, 3), RGB.
    quality
        Of libjpeg; the dataset's files have the tables of 75 and 95.

    Returns
    -------
    bytes
        The file, from SOI to EOI.

    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def tag_jpeg(jpeg: bytes, comment: bytes) -> bytes:
    """Make a JPEG unique without decoding it, by a comment segment after its JFIF segment.

    Parameters
    ----------
    jpeg
        A file from `encode_jpeg`.
    comment
        Up to 65,533 bytes.

    Returns
    -------
    bytes
        The same picture in other bytes.

    """
    segment = b"\xff\xfe" + (min(len(comment), _MAX_COMMENT) + 2).to_bytes(2, "big") + comment[:_MAX_COMMENT]
    return b"".join((jpeg[:_SOI_APP0], segment, jpeg[_SOI_APP0:]))
