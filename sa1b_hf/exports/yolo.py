"""Ultralytics' YOLO segmentation format: a line for each mask, its class and its outline, normalised.

The outline is that of the mask's outer borders, through the centres of border pixels, to within a pixel. Parts of a
mask are joined by bridges without width, as the format has one outline a mask; holes are lost, as the format has none.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sa1b_hf import rle
from sa1b_hf._documents import iter_image_files
from sa1b_hf._parts import DraftFolder, Drafts, RowRange
from sa1b_hf.errors import MissingExtraError, RecordError

from .categories import Categories

__all__ = ["YoloParts", "mask_to_polygon"]

_LEAST_POINTS: Final = 3
_TOLERANCE: Final = 1.0  # pixels; outlines of every pixel are five times as long as the run lengths
_MOST_COMPARED: Final = 1000  # points of each of two outlines, to find where they are near


class YoloParts:
    """Writes ``labels/train/<shard>/sa_1.txt``, JPEGs to ``images/train/<shard>/``, and ``data.yaml``.

    Parameters
    ----------
    drafts
        Where to.
    shard
        Name.
    provenance
        See `Categories`; class 0 is "object".
    lose
        Told of images whose masks are malformed, and of how many annotations they have.

    Raises
    ------
    MissingExtraError
        OpenCV, which finds outlines, is not installed.

    """

    def __init__(
        self, drafts: Drafts, shard: str, provenance: Mapping[str, Any], lose: Callable[[RecordError, int], None]
    ) -> None:
        self._cv2 = _import_cv2()
        self._drafts = drafts
        self._shard = shard
        self._lose = lose
        self._categories = Categories(provenance)
        self._labels = drafts.folder(f"labels/train/{shard}")
        self._images: DraftFolder | None = None
        self._rows = RowRange()

    def write(self, group: pa.Table) -> None:
        """Write images."""
        for number, image in enumerate(iter_image_files(group, documents=False)):
            try:
                lines = self._lines(group["annotations"][number], image.row)
            except RecordError as error:
                self._lose(error, len(image.row["annotations"]))
                continue
            if image.jpeg is not None:
                if self._images is None:
                    self._images = self._drafts.folder(f"images/train/{self._shard}")
                self._images.write(f"{image.name}.jpg", image.jpeg)
            self._labels.write(f"{image.name}.txt", "".join(lines).encode())
            self._rows = self._rows.add(group["image_id"].slice(number, 1))

    def _lines(self, annotations: Any, row: Mapping[str, Any]) -> list[str]:
        crops = rle.crops(annotations)
        size = np.array([row["width"], row["height"]], np.float64)
        lines = []
        for number, category in enumerate(self._categories.of_row(row)):
            polygon = mask_to_polygon(crops[number], self._cv2)
            if len(polygon) >= _LEAST_POINTS:
                numbers = ((polygon + crops.boxes_xywh[number, :2]) / size).ravel()
                lines.append(f"{category} {' '.join(f'{number:.6g}' for number in numbers)}\n")
        return lines

    def finish(self) -> None:
        """Complete the folders."""
        self._labels.finish(self._rows)
        if self._images is not None:
            self._images.finish(self._rows)
        names = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(self._categories.names))
        # of all shards, and the same whichever of them comes last
        self._drafts.share("data.yaml", f"path: .\ntrain: images/train\nval: images/train\nnames:\n{names}")


def mask_to_polygon(mask: NDArray[np.uint8], cv2: Any = None) -> NDArray[np.float64]:
    """Give one outline for a mask.

    Parameters
    ----------
    mask
        Shape (h, w), 0 outside.
    cv2
        The module, if it was imported already.

    Returns
    -------
    NDArray[np.float64]
        Shape (n, 2), x and y of pixel centres in pixels; empty for an empty mask.

    """
    if not mask.size:
        return np.empty((0, 2))
    cv2 = cv2 or _import_cv2()
    contours, _ = cv2.findContours(np.ascontiguousarray(mask, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = sorted((_simplify(contour, cv2) for contour in contours), key=len, reverse=True)
    if not parts:
        return np.empty((0, 2))
    outline: NDArray[np.float64] = parts[0]
    for part in parts[1:]:
        outline = _bridge(outline, part)
    return outline


def _simplify(contour: Any, cv2: Any) -> NDArray[np.float64]:
    shorter = cv2.approxPolyDP(contour, _TOLERANCE, closed=True)
    points: NDArray[Any] = shorter if len(shorter) >= _LEAST_POINTS else contour
    return points.reshape(-1, 2).astype(np.float64)


def _bridge(outline: NDArray[np.float64], part: NDArray[np.float64]) -> NDArray[np.float64]:
    """Go from a near point of an outline to a part, around it, and back."""
    steps = [-(-len(points) // _MOST_COMPARED) for points in (outline, part)]
    squares = ((outline[:: steps[0], None] - part[None, :: steps[1]]) ** 2).sum(axis=2)
    at, to = (
        int(index) * step for index, step in zip(np.unravel_index(squares.argmin(), squares.shape), steps, strict=True)
    )
    return np.concatenate([outline[: at + 1], part[to:], part[: to + 1], outline[at:]])


def _import_cv2() -> Any:
    try:
        return importlib.import_module("cv2")
    except ImportError:
        raise MissingExtraError("the format 'yolo'", "yolo") from None
