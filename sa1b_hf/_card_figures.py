"""Histograms as small pictures, drawn with Pillow alone."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ._card_statistics import Figure, Statistics

__all__ = ["draw_figures"]

_WIDTH: Final = 640
_HEIGHT: Final = 200
_MARGIN: Final = 24
_INK: Final = (40, 44, 52)
_BAR: Final = (66, 120, 190)


def draw_figures(statistics: Statistics) -> dict[str, bytes]:
    """Draw the histograms that have anything to show.

    Returns
    -------
    dict of str to bytes
        PNG files by file name; the same statistics give the same bytes with the same Pillow.

    """
    return {f"{figure.name}.png": _draw(figure, statistics.histograms[figure.name]) for figure in statistics.figures()}


def _draw(figure: Figure, counts: NDArray[np.int64]) -> bytes:
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default()
    floor, tallest = _HEIGHT - _MARGIN, _HEIGHT - 2 * _MARGIN
    step = (_WIDTH - 2 * _MARGIN) / len(counts)
    for number, count in enumerate(counts.tolist()):
        left = round(_MARGIN + number * step)
        right = round(_MARGIN + (number + 1) * step) - 2
        if count:
            draw.rectangle([left, floor - max(1, round(tallest * count / counts.max())), right, floor - 1], fill=_BAR)
    draw.line([_MARGIN, floor, _WIDTH - _MARGIN, floor], fill=_INK)
    first, last = figure.labels
    draw.text((_MARGIN, 6), f"{figure.title}; highest bar {counts.max():,}", fill=_INK, font=font)
    draw.text((_MARGIN, floor + 6), first, fill=_INK, font=font)
    draw.text((_WIDTH - _MARGIN - draw.textlength(last, font=font), floor + 6), last, fill=_INK, font=font)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
