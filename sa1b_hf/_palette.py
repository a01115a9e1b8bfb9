"""Colours that neighbours in a list, and neighbours in a picture, can be told apart by."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["NUM_COLOURS", "colours_of", "palette"]

NUM_COLOURS: Final = 255
"""Entries of the palette: what eight bits hold besides 0 for "no mask"."""

_GOLDEN_ANGLE: Final = 2.399963229728653  # radians; its multiples never come close to one another
_LIGHTNESS: Final = (0.72, 0.60, 0.82)
_CHROMA: Final = (0.17, 0.19, 0.14)
# OKLab to linear sRGB: B. Ottosson, "A perceptual color space for image processing", 2020.
_TO_CONE: Final = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_RGB: Final = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
_LINEAR_END: Final = 0.0031308  # where sRGB's curve turns from a line into a power, IEC 61966-2-1


@lru_cache(maxsize=1)
def palette() -> NDArray[np.uint8]:
    """Give the colours, always the same.

    Returns
    -------
    NDArray[np.uint8]
        Shape (255, 3), RGB, read-only. Hues are golden angles apart, lightness and chroma take turns, so that
        colours near in the list are far in hue and equally strong to the eye.

    """
    index = np.arange(NUM_COLOURS)
    lightness, chroma = np.take(_LIGHTNESS, index % 3), np.take(_CHROMA, index % 3)
    hue = index * _GOLDEN_ANGLE + 0.5
    lightness = lightness + 0.015 * (index // 3 % 5 - 2)  # the hues come round: no colour comes twice
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    linear = np.clip((lab @ _TO_CONE.T) ** 3 @ _TO_RGB.T, 0, 1)
    power = 1.055 * linear ** (1 / 2.4) - 0.055
    colours: NDArray[np.uint8] = np.round(255 * np.where(linear <= _LINEAR_END, 12.92 * linear, power)).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def colours_of(indices: ArrayLike) -> NDArray[np.uint8]:
    """Give the colour of each index; they repeat after `NUM_COLOURS`.

    Parameters
    ----------
    indices
        Integers, shape (N,), such as the positions of masks in their list, or label ids.

    Returns
    -------
    NDArray[np.uint8]
        Shape (N, 3), RGB.

    """
    colours: NDArray[np.uint8] = palette()[np.asarray(indices, np.int64) % NUM_COLOURS]
    return colours
