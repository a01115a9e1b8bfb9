"""Masks, boxes and points over an image: one id map, one palette, one blend, each in C and over each pixel once."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ._palette import NUM_COLOURS, palette

__all__ = ["blend_masks", "draw_boxes", "draw_captions", "draw_points", "find_edges"]

_OPAQUE: Final = 255
_PIXELS_PER_LINE: Final = 700  # of the shorter side, for one pixel of line width
_MIN_TEXT: Final = 10


def blend_masks(
    image: Image.Image,
    ids: NDArray[np.unsignedinteger],
    colours: NDArray[np.int64],
    *,
    opacity: float = 0.5,
    outline: bool = True,
) -> Image.Image:
    """Paint a map of masks over an image.

    Parameters
    ----------
    image
        RGB, (w, h) pixels; it is not changed.
    ids
        Shape (h, w): 0 for no mask, i + 1 for mask i, as `sa1b_hf.rle.label_map` gives.
    colours
        Shape (N,): the colour of each mask, an index of the palette, which repeats.
    opacity
        Of the masks, 0 to 1.
    outline
        Draw the border of each mask in its full colour.

    Returns
    -------
    PIL.Image.Image
        RGB, of the size of `image`.

    """
    table = np.zeros(max(len(colours) + 1, 1), np.uint8)
    table[1:] = 1 + colours % NUM_COLOURS
    # a map of bytes whose masks have the first colours in turn is its own picture
    is_plain = ids.dtype == np.uint8 and np.array_equal(table, np.arange(len(table)))
    index = ids.astype(np.uint8, copy=False) if is_plain else np.take(table, ids)
    paint = Image.fromarray(index)
    paint.putpalette(bytes(3) + palette().tobytes())
    weight = (index != 0).view(np.uint8) * np.uint8(round(opacity * _OPAQUE))
    if outline:
        edges = find_edges(ids, line_width(image.size)) & (index != 0)
        np.maximum(weight, edges.view(np.uint8) * np.uint8(_OPAQUE), out=weight)
    result = image.copy()
    result.paste(paint.convert("RGB"), mask=Image.fromarray(weight))
    return result


def find_edges(ids: NDArray[np.unsignedinteger], width: int = 1) -> NDArray[np.bool_]:
    """Find the pixels next to which another mask, or none, begins.

    Parameters
    ----------
    ids
        Shape (h, w).
    width
        Pixels of the line on either side of a border, at least 1.

    Returns
    -------
    NDArray[np.bool_]
        Shape (h, w).

    """
    edges = np.zeros(ids.shape, np.bool_)
    beside = ids[:, 1:] != ids[:, :-1]
    above = ids[1:] != ids[:-1]
    edges[:, 1:] |= beside
    edges[:, :-1] |= beside
    edges[1:] |= above
    edges[:-1] |= above
    for _ in range(width - 1):
        thin = edges.copy()
        edges[:, 1:] |= thin[:, :-1]
        edges[:, :-1] |= thin[:, 1:]
        edges[1:] |= thin[:-1]
        edges[:-1] |= thin[1:]
    return edges


def draw_boxes(image: Image.Image, boxes_xywh: NDArray[np.float64], colours: NDArray[np.uint8]) -> None:
    """Draw boxes into an image; a box spans x to x + w, as in SA-1B."""
    canvas, width = ImageDraw.Draw(image), line_width(image.size) + 1
    for (x, y, w, h), colour in zip(boxes_xywh.tolist(), colours.tolist(), strict=True):
        canvas.rectangle((x, y, x + w, y + h), outline=tuple(colour), width=width)


def draw_points(image: Image.Image, points_xy: NDArray[np.float64], colours: NDArray[np.uint8]) -> None:
    """Draw prompts into an image: shape (N, K, 2), x and y in pixels; those that are NaN are left out."""
    canvas, radius = ImageDraw.Draw(image), 2.0 + 2 * line_width(image.size)
    for points, colour in zip(points_xy, colours.tolist(), strict=True):
        for x, y in points[np.isfinite(points).all(axis=1)].tolist():
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(colour), outline="white")


def draw_captions(image: Image.Image, texts: list[str], boxes_xywh: NDArray[np.float64]) -> None:
    """Write a text in the middle of each box, on a dark ground."""
    canvas, font = ImageDraw.Draw(image), text_font(min(image.size) // 50)
    for text, (x, y, w, h) in zip(texts, boxes_xywh.tolist(), strict=True):
        if text:
            at: Any = (x + w / 2, y + h / 2)
            left, top, right, bottom = canvas.textbbox(at, text, font=font, anchor="mm")
            canvas.rounded_rectangle((left - 3, top - 2, right + 3, bottom + 2), radius=3, fill=(20, 20, 24))
            canvas.text(at, text, font=font, fill="white", anchor="mm")


def text_font(pixels: int) -> Any:
    """Give Pillow's own font, so that pictures are the same on every machine."""
    return ImageFont.load_default(max(pixels, _MIN_TEXT))


def line_width(size: tuple[int, int]) -> int:
    """Pixels of a line that is as visible in a large picture as in a small one."""
    return max(1, round(min(size) / _PIXELS_PER_LINE))
