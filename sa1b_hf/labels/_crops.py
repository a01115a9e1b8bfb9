"""Crops around masks, cut and resized on the device from an image that is uploaded once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa1b_hf import rle

from ._backend import functional, torch
from ._preprocess import Preprocess

__all__ = ["Cutter", "windows"]

_MIN_SIDE = 16.0  # pixels of a window: a mask of one pixel is looked at with what surrounds it
_BLUR = 16  # of this many cells a side is the blurred background


def windows(boxes_xywh: NDArray[np.int64], size: tuple[int, int], context: float) -> NDArray[np.float64]:
    """Place a square window around each mask.

    Parameters
    ----------
    boxes_xywh
        Shape (N, 4): tight boxes in whole pixels, w and h counting them.
    size
        (H, W) of the image.
    context
        What is added on each side of the box, as a share of its longer side.

    Returns
    -------
    NDArray[np.float64]
        Shape (N, 3): left, top, side, in pixels. Within the image where that is large enough, else centred on it.

    Examples
    --------
    >>> windows(np.array([[0, 40, 20, 10]]), (100, 100), 0.5).tolist()
    [[0.0, 25.0, 40.0]]

    """
    boxes = np.asarray(boxes_xywh, np.float64)
    side = np.maximum(boxes[:, 2:].max(axis=1) * (1 + 2 * context), _MIN_SIDE)
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    room = np.array([[size[1], size[0]]]) - side[:, None]
    corner = np.clip(centre - side[:, None] / 2, 0, np.maximum(room, 0))
    corner = np.where(room < 0, room / 2, corner)
    return np.concatenate([corner, side[:, None]], axis=1)


class Cutter:
    """The crops of one image.

    Parameters
    ----------
    pixels
        Shape (H, W, 3), uint8.
    masks
        Run lengths of its N masks.
    resolution
        Pixels of a crop's side.
    context
        See `windows`.
    fill
        What becomes of the background: ``"keep"``, ``"blur"`` or ``"mean"``, the colour that the model takes for
        zero.
    preprocess
        Of the model.
    device, dtype
        Where and in which precision the model is.

    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        masks: Any,
        *,
        resolution: int,
        context: float,
        fill: str,
        preprocess: Preprocess,
        device: Any,
        dtype: Any,
    ) -> None:
        self.resolution = resolution
        self.fill = fill
        self.preprocess = preprocess
        self.dtype = dtype
        # Geometry in float32: a half's steps are larger than a pixel at the right end of an image.
        cut = rle.crops(masks)
        frame = windows(cut.boxes_xywh, (pixels.shape[0], pixels.shape[1]), context)
        self._windows = torch.from_numpy(frame.astype(np.float32)).to(device)
        self._boxes = torch.from_numpy(cut.boxes_xywh).to(device)
        self._offsets = torch.from_numpy(cut.offsets[:-1]).to(device)
        # One byte more, so that an index of an empty mask points somewhere.
        self._data = torch.from_numpy(np.append(cut.data, np.uint8(0))).to(device)
        self._levels = torch.from_numpy(_levels(frame[:, 2], resolution))
        self._pyramid = _pyramid(_upload(pixels, device), int(self._levels.max()) if len(frame) else 0)

    def __len__(self) -> int:
        return len(self._windows)

    def cut(self, first: int, last: int) -> Any:
        """Give the crops of some masks, preprocessed: shape (n, 3, s, s) in `dtype`."""
        side = self.resolution
        steps = (torch.arange(side, device=self._windows.device) + 0.5) / side
        # Centres of the result's pixels, in pixels of the image.
        x, y = (self._windows[first:last, axis, None] + self._windows[first:last, 2:] * steps for axis in (0, 1))
        crops = self._sample(x, y, self._levels[first:last])
        if self.fill != "keep":
            inside = self._inside(x, y, slice(first, last))
            background = self.preprocess.neutral(crops) if self.fill == "mean" else _blur(crops)
            crops = torch.where(inside[:, None], crops, background)
        return self.preprocess.normalise(crops).to(self.dtype)

    def _sample(self, x: Any, y: Any, levels: Any) -> Any:
        """Read the image at (n, s) columns and rows, from the level of the pyramid that suits each crop."""
        side = self.resolution
        crops = torch.empty(len(x), 3, side, side, device=x.device)
        for level in levels.unique().tolist():
            chosen = (levels == level).nonzero()[:, 0].to(x.device)
            image, scale = self._pyramid[level], 2**level
            height, width = image.shape[-2] * scale, image.shape[-1] * scale
            columns = (x[chosen] * (2 / width) - 1)[:, None, :].expand(-1, side, -1)
            rows = (y[chosen] * (2 / height) - 1)[:, :, None].expand(-1, -1, side)
            # All crops in one tall picture: no copy of the image for each.
            grid = torch.stack([columns, rows], dim=-1).view(1, -1, side, 2)
            tall = functional.grid_sample(
                image, grid, mode=self.preprocess.resample, padding_mode="border", align_corners=False
            )
            crops[chosen] = tall.view(3, -1, side, side).transpose(0, 1)
        return crops.clamp_(0, 255)  # bicubic overshoots

    def _inside(self, x: Any, y: Any, part: slice) -> Any:
        """Tell which pixels of the crops are on their masks, from the masks' tight crops alone; (n, s, s)."""
        left, top, width, height = (self._boxes[part, index, None] for index in range(4))
        column, row = x.floor().long() - left, y.floor().long() - top
        across = (column >= 0) & (column < width)
        down = (row >= 0) & (row < height)
        start = self._offsets[part, None] + row.clamp(min=0).minimum((height - 1).clamp(min=0)) * width
        offset = column.clamp(min=0).minimum((width - 1).clamp(min=0))
        index = start[:, :, None] + offset[:, None, :]
        return self._data[index].bool() & down[:, :, None] & across[:, None, :]


def _upload(pixels: NDArray[np.uint8], device: Any) -> Any:
    """Bring an image to the device as bytes, and to (3, H, W) in floating point there."""
    image = torch.from_numpy(np.ascontiguousarray(pixels))
    if torch.device(device).type == "cuda":
        image = image.pin_memory()  # else the copy would wait for the forward pass that is under way
    on_device = image.to(device, non_blocking=True).permute(2, 0, 1)
    return on_device.to(torch.float32, memory_format=torch.contiguous_format)


def _levels(sides: NDArray[np.float64], resolution: int) -> NDArray[np.int64]:
    """Choose how often to halve the image for each window, so that sampling skips less than every other pixel."""
    return np.floor(np.log2(np.maximum(sides / resolution, 1))).astype(np.int64)


def _pyramid(image: Any, levels: int) -> list[Any]:
    """Halve an image again and again; an odd side is made even by its last pixels, so that coordinates stay true."""
    pyramid = [image[None]]
    for _ in range(levels):
        finer = pyramid[-1]
        odd = (0, finer.shape[-1] % 2, 0, finer.shape[-2] % 2)
        finer = functional.pad(finer, odd, mode="replicate") if any(odd) else finer
        pyramid.append(functional.avg_pool2d(finer, 2))
    return pyramid


def _blur(crops: Any) -> Any:
    """Keep the colours of the background and lose its shapes."""
    cells = functional.adaptive_avg_pool2d(crops, _BLUR)
    return functional.interpolate(cells, size=crops.shape[-2:], mode="bilinear", align_corners=False)
