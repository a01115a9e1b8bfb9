"""A mask of an image → a square picture of one size, with a bit of what is around."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa1b_hf import rle
from sa1b_hf.errors import ConfigError

__all__ = ["Background", "check_crop", "cut_crop"]

Background = Literal["keep", "grey"]
"""What is done with pixels outside of the mask."""

_GREY = 128
_WHOLE = 1.0


def check_crop(size: int, context: float, background: Background) -> None:
    """Refuse options that make no crop."""
    if not isinstance(size, int) or not 1 <= size <= 4096:  # noqa: PLR2004 (more than any classifier takes)
        raise ConfigError(f"size: expected an int of 1 to 4096 pixels, found {size!r}")
    if not 0 <= context <= 10:  # noqa: PLR2004 (a mask would be a speck)
        raise ConfigError(f"context: expected 0 to 10, found {context!r}")
    if background not in get_args(Background):
        raise ConfigError(f"background: expected one of {list(get_args(Background))}, found {background!r}")


def cut_crop(
    pixels: NDArray[np.uint8], mask: Any, *, size: int, context: float = 0.1, background: Background = "keep"
) -> NDArray[np.uint8]:
    """Cut a square around a mask.

    Parameters
    ----------
    pixels
        Shape (H, W, 3), the whole image.
    mask
        Run lengths of one mask of (H, W).
    size
        Side of the result in pixels.
    context
        What is added on each side, as a share of the longer side of the mask's box.
    background
        ``"keep"``, or ``"grey"`` for pixels outside of the mask. What lies outside of the image is grey always.

    Returns
    -------
    NDArray[np.uint8]
        Shape (size, size, 3); all grey for an empty mask.

    Raises
    ------
    RLEError
        The mask is malformed.
    ConfigError
        The mask has another size than the image.

    """
    crops = rle.crops([mask], dtype=np.uint8)
    x, y, w, h = crops.boxes_xywh[0].tolist()
    canvas = np.full((size, size, 3), _GREY, np.uint8)
    if not w:
        return canvas
    height, width = pixels.shape[:2]
    found = tuple(mask["segmentation"]["size"] if "segmentation" in mask else mask["size"])
    if found != (height, width):
        raise ConfigError(f"mask: expected the size {(height, width)} of the image, found {found}")
    side = max(w, h) * (_WHOLE + 2 * context)
    left, top = x + w / 2 - side / 2, y + h / 2 - side / 2
    visible = (max(left, 0.0), max(top, 0.0), min(left + side, float(width)), min(top + side, float(height)))
    place = _Place(left, top, size / side, size)
    target = place.pixels(visible)
    rows, columns = slice(target[1], target[3]), slice(target[0], target[2])
    canvas[rows, columns] = _resize_part(pixels, visible, _extent(target))
    if background == "keep":
        return canvas
    return _blend(canvas, crops[0], place.pixels((x, y, x + w, y + h)))


class _Place:
    """Where coordinates of the image are in the crop."""

    def __init__(self, left: float, top: float, scale: float, size: int) -> None:
        self._left, self._top, self._scale, self._size = left, top, scale, size

    def pixels(self, box_xyxy: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
        """Whole pixels of a box, at least one each way."""
        x0, y0, x1, y1 = box_xyxy
        left, right = self._span(x0 - self._left, x1 - self._left)
        top, bottom = self._span(y0 - self._top, y1 - self._top)
        return left, top, right, bottom

    def _span(self, start: float, stop: float) -> tuple[int, int]:
        low = min(max(math.floor(start * self._scale + 0.5), 0), self._size - 1)
        high = min(max(math.floor(stop * self._scale + 0.5), low + 1), self._size)
        return low, high


def _resize_part(
    pixels: NDArray[np.uint8], box_xyxy: tuple[float, float, float, float], extent: tuple[int, int]
) -> NDArray[np.uint8]:
    """Resize a part of an image; only that part is handed over, for Pillow copies what it is given."""
    left, top = math.floor(box_xyxy[0]), math.floor(box_xyxy[1])
    part = pixels[top : math.ceil(box_xyxy[3]), left : math.ceil(box_xyxy[2])]
    box = (box_xyxy[0] - left, box_xyxy[1] - top, box_xyxy[2] - left, box_xyxy[3] - top)
    picture = Image.fromarray(np.ascontiguousarray(part))
    return np.asarray(picture.resize(extent, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0))


def _extent(box_xyxy: tuple[int, int, int, int]) -> tuple[int, int]:
    return box_xyxy[2] - box_xyxy[0], box_xyxy[3] - box_xyxy[1]


def _blend(canvas: NDArray[np.uint8], tight: NDArray[np.uint8], target: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Fade everything outside of the mask to grey, its edge softly where it was made smaller."""
    share = np.zeros(canvas.shape[:2], np.float32)
    resized = Image.fromarray(tight * np.uint8(255)).resize(_extent(target), Image.Resampling.BILINEAR)
    share[target[1] : target[3], target[0] : target[2]] = np.asarray(resized, np.float32) / 255
    faded = _GREY + (canvas.astype(np.float32) - _GREY) * share[:, :, None]
    return np.asarray(faded + 0.5, np.uint8)
