"""Distributions over any number of masks in bounded memory: counts in bins, filled from columns batch by batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["Histogram", "MaskStatistics", "collect_statistics"]

_PERCENTILES: Final = (1, 5, 25, 50, 75, 95, 99)


class Histogram:
    """Values counted in bins.

    Parameters
    ----------
    edges
        Ascending; values outside are counted in the first or the last bin, NaN not at all.

    Attributes
    ----------
    counts
        int64, one for each bin.
    num, total, minimum, maximum
        Number, sum and range of the values, exactly.

    """

    def __init__(self, edges: NDArray[np.float64]) -> None:
        self.edges = edges
        self.counts = np.zeros(len(edges) - 1, np.int64)
        self.num = 0
        self.total = 0.0
        self.minimum, self.maximum = np.inf, -np.inf

    def add(self, values: NDArray[Any]) -> None:
        """Count values."""
        values = np.asarray(values, np.float64)
        values = values[~np.isnan(values)]
        if not values.size:
            return
        self.num += values.size
        self.total += float(values.sum())
        self.minimum, self.maximum = min(self.minimum, values.min()), max(self.maximum, values.max())
        bins = np.searchsorted(self.edges, values, side="right") - 1
        self.counts += np.bincount(np.clip(bins, 0, len(self.counts) - 1), minlength=len(self.counts))

    def percentile(self, percent: float) -> float:
        """Estimate a percentile, to within the width of its bin; NaN if nothing was counted."""
        if not self.num:
            return float("nan")
        shares = np.concatenate([[0], np.cumsum(self.counts)]) / self.num
        return float(np.clip(np.interp(percent / 100, shares, self.edges), self.minimum, self.maximum))

    def to_dict(self) -> dict[str, Any]:
        """Give the summary and the bins that are not empty, ready for JSON."""
        if not self.num:
            return {"num": 0}
        used = np.flatnonzero(self.counts)
        return {
            "num": self.num,
            "mean": self.total / self.num,
            "min": float(self.minimum),
            "max": float(self.maximum),
            "percentiles": {str(percent): self.percentile(percent) for percent in _PERCENTILES},
            "bins": [[float(self.edges[i]), float(self.edges[i + 1]), int(self.counts[i])] for i in used.tolist()],
        }


def _logarithmic(low: float, high: float, num: int) -> NDArray[np.float64]:
    return np.geomspace(low, high, num + 1)


@dataclass(eq=False)
class MaskStatistics:
    """Distributions over images and their masks.

    Attributes
    ----------
    masks_per_image
        Number of masks.
    area
        Of a mask, in pixels.
    area_share
        The same as a share of its image.
    predicted_iou, stability_score
        Of a mask.
    width, height
        Of an image, in pixels.
    sizes
        Number of images of each (width, height).

    """

    masks_per_image: Histogram = field(default_factory=lambda: Histogram(np.arange(0, 2001, dtype=np.float64)))
    area: Histogram = field(default_factory=lambda: Histogram(_logarithmic(1, 2**28, 280)))
    area_share: Histogram = field(default_factory=lambda: Histogram(_logarithmic(1e-7, 1, 280)))
    predicted_iou: Histogram = field(default_factory=lambda: Histogram(np.linspace(0, 1.2, 601)))
    stability_score: Histogram = field(default_factory=lambda: Histogram(np.linspace(0, 1.2, 601)))
    width: Histogram = field(default_factory=lambda: Histogram(np.arange(0, 16385, 16, dtype=np.float64)))
    height: Histogram = field(default_factory=lambda: Histogram(np.arange(0, 16385, 16, dtype=np.float64)))
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def num_images(self) -> int:
        """Images counted."""
        return self.masks_per_image.num

    @property
    def num_masks(self) -> int:
        """Masks counted."""
        return self.area.num

    def histograms(self) -> dict[str, Histogram]:
        """Give all distributions by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Histogram)}

    def add(self, table: pa.Table | pa.RecordBatch) -> None:
        """Count the rows of a table with ``width``, ``height`` and ``annotations``; no pixel is decoded."""
        for name in ("width", "height"):
            getattr(self, name).add(_numbers(table.column(name)))
        lists = _whole(table.column("annotations"))
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        self.masks_per_image.add(lengths)
        masks = lists.flatten()
        area = _numbers(pc.struct_field(masks, "area"))
        width, height = (_numbers(table.column(name)) for name in ("width", "height"))
        self.area.add(area)
        self.area_share.add(area / np.repeat(width * height, lengths))
        for name in ("predicted_iou", "stability_score"):
            getattr(self, name).add(_numbers(pc.struct_field(masks, name)))
        for size in zip(width.tolist(), height.tolist(), strict=True):
            key = (int(size[0]), int(size[1]))
            self.sizes[key] = self.sizes.get(key, 0) + 1

    def to_dict(self) -> dict[str, Any]:
        """Give everything, ready for JSON."""
        common = sorted(self.sizes.items(), key=lambda item: -item[1])[:20]
        return {
            "num_images": self.num_images,
            "num_masks": self.num_masks,
            "common_sizes": [{"width": size[0], "height": size[1], "num_images": num} for size, num in common],
            **{name: histogram.to_dict() for name, histogram in self.histograms().items()},
        }


def collect_statistics(tables: Iterable[pa.Table | pa.RecordBatch]) -> MaskStatistics:
    """Count the masks of some tables.

    Parameters
    ----------
    tables
        With the columns ``width``, ``height`` and ``annotations`` of `sa1b_hf.features`.

    Returns
    -------
    MaskStatistics

    """
    statistics = MaskStatistics()
    for table in tables:
        statistics.add(table)
    return statistics


def _numbers(column: Any) -> NDArray[np.float64]:
    return np.asarray(pc.cast(_whole(column), pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _whole(column: Any) -> Any:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
