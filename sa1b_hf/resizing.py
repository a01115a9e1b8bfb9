"""Where a pixel goes when an image is resized, and its masks, boxes and points with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._memory import recycled_zeros
from .errors import ConfigError

__all__ = ["MAX_SIDE", "Geometry", "Resize", "check_target", "pad_planes"]

Resize = Literal["longest", "shortest", "exact"]
"""Which side gets the length asked for; ``"exact"``: both, whatever that does to the shape."""

MAX_SIDE = 65_535
"""Longest side of a result in pixels."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A resize that maps the whole image onto the whole result: x' = x · w' / w, y' = y · h' / h.

    Attributes
    ----------
    original_size, size
        (h, w) in pixels, before and after.

    Examples
    --------
    >>> Geometry.fit((1500, 2250), 1024, "longest").size
    (683, 1024)

    """

    original_size: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def fit(
        cls, original_size: tuple[int, int], target: int | tuple[int, int] | None, resize: Resize = "longest"
    ) -> Geometry:
        """Plan a resize.

        Parameters
        ----------
        original_size
            (h, w) in pixels.
        target
            Pixels of the side that `resize` names, smaller images are enlarged; or (h, w) with ``"exact"``. None keeps
            the original size.
        resize
            See `Resize`. The other side keeps the shape of the image, rounded to the nearest pixel.

        Returns
        -------
        Geometry

        Raises
        ------
        ConfigError
            A side of the result would be longer than `MAX_SIDE`.

        """
        height, width = original_size
        if target is None:
            size = (height, width)
        elif resize == "exact":
            size = (target, target) if isinstance(target, int) else (target[0], target[1])
        else:
            side = max(height, width) if resize == "longest" else min(height, width)
            pixels = int(target if isinstance(target, int) else target[0])
            # halves up, as SAM's ResizeLongestSide does, and a line never vanishes
            size = (max(1, int(height * pixels / side + 0.5)), max(1, int(width * pixels / side + 0.5)))
        if max(size) > MAX_SIDE:
            advice = "use resize='longest' for images this narrow"
            raise ConfigError(f"size: expected a result of at most {MAX_SIDE} pixels a side, found {size}; {advice}")
        return cls((height, width), size)

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Factors of x and y."""
        (height, width), (new_height, new_width) = self.original_size, self.size
        return new_width / width, new_height / height

    def transform_points(self, points_xy: ArrayLike) -> NDArray[np.float64]:
        """Move points.

        Parameters
        ----------
        points_xy
            Shape (..., 2), x and y in pixels of the original image.

        Returns
        -------
        NDArray[np.float64]
            The same shape, in pixels of the result.

        """
        return np.multiply(points_xy, self.scale_xy, dtype=np.float64)

    def transform_boxes(self, boxes_xywh: ArrayLike) -> NDArray[np.float64]:
        """Move boxes.

        Parameters
        ----------
        boxes_xywh
            Shape (..., 4), XYWH in pixels of the original image, of any convention, which is kept.

        Returns
        -------
        NDArray[np.float64]
            The same shape, in pixels of the result.

        """
        return np.multiply(boxes_xywh, self.scale_xy * 2, dtype=np.float64)


def check_target(target: Any, resize: str, *, pad: bool) -> None:
    """Refuse sizes and modes that make no sense together.

    Raises
    ------
    ConfigError
        As the name says.

    """
    if resize not in get_args(Resize):
        raise ConfigError(f"resize: expected one of {list(get_args(Resize))}, found {resize!r}")
    sides = target if isinstance(target, tuple) and len(target) == 2 else (target,)  # noqa: PLR2004 (h and w)
    if target is not None and not all(_is_side(side) for side in sides):
        expected = f"None, pixels of 1 to {MAX_SIDE}, or (h, w)"
        raise ConfigError(f"size: expected {expected}, found {target!r}")
    if isinstance(target, tuple) and resize != "exact":
        raise ConfigError(f"size: expected one number with resize={resize!r}, found {target}; use resize='exact'")
    if pad and (target is None or resize != "longest"):
        raise ConfigError("pad: only a longest side of a given size fits into a square; set size= and resize='longest'")


def pad_planes(planes: NDArray[Any], size: tuple[int, int], value: int = 0) -> NDArray[Any]:
    """Pad at the bottom and at the right.

    Parameters
    ----------
    planes
        Shape (..., h, w).
    size
        (h, w) of the result, not smaller.
    value
        What to pad with.

    Returns
    -------
    NDArray
        Shape (..., *size); ``planes`` itself if that is its shape.

    """
    height, width = planes.shape[-2:]
    if (height, width) == size:
        return planes
    shape = (*planes.shape[:-2], *size)
    padded = recycled_zeros(shape, planes.dtype) if value == 0 else np.full(shape, value, planes.dtype)
    padded[..., :height, :width] = planes
    return padded


def _is_side(side: Any) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= MAX_SIDE
