"""Distributions as matplotlib figures; matplotlib is imported when one is drawn."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ._statistics import Histogram, MaskStatistics
from .errors import MissingExtraError

__all__ = ["PANELS", "plot_distributions"]

PANELS: Final = {
    "masks_per_image": ("masks of an image", False),
    "area": ("area of a mask (pixels)", True),
    "area_share": ("area of a mask (share of the image)", True),
    "predicted_iou": ("predicted_iou", False),
    "stability_score": ("stability_score", False),
    "sizes": ("width and height of images (pixels)", False),
}
"""Each panel's title, and whether its axis is logarithmic."""

_BARS: Final = 48
_BLUE: Final = "#3b6fd4"
_SIZES_SHOWN: Final = 500


def plot_distributions(statistics: MaskStatistics, panels: tuple[str, ...] = tuple(PANELS)) -> Any:
    """Draw distributions.

    Parameters
    ----------
    statistics
        From `collect_statistics`.
    panels
        Which ones, names of `PANELS`.

    Returns
    -------
    matplotlib.figure.Figure
        Made without pyplot: it needs no display, and need not be closed.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.

    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 -- an extra
    except ImportError:
        raise MissingExtraError("drawing distributions", "plot") from None
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * rows), layout="constrained", dpi=110)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, name in zip(axes, panels, strict=False):
        title, is_logarithmic = PANELS[name]
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        if name == "sizes":
            _scatter_sizes(axis, statistics)
        else:
            _draw_bars(axis, getattr(statistics, name), is_logarithmic=is_logarithmic)
    for axis in axes[len(panels) :]:
        axis.remove()
    figure.suptitle(f"{statistics.num_images:,} images, {statistics.num_masks:,} masks", fontsize=11)
    return figure


def merge_bins(histogram: Histogram, most: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Give edges and counts of at most so many bins, over the range that holds values."""
    used = np.flatnonzero(histogram.counts)
    if not len(used):
        return histogram.edges[:1], histogram.counts[:0]
    first, last = int(used[0]), int(used[-1]) + 1
    step = -(-(last - first) // most)
    starts = np.arange(first, last, step)
    edges = np.append(histogram.edges[starts], histogram.edges[min(starts[-1] + step, len(histogram.edges) - 1)])
    return edges, np.add.reduceat(histogram.counts[:last], starts)


def _draw_bars(axis: Any, histogram: Histogram, *, is_logarithmic: bool) -> None:
    edges, counts = merge_bins(histogram, _BARS)
    if len(counts):
        axis.bar(edges[:-1], counts, np.diff(edges), align="edge", color=_BLUE, edgecolor="white", linewidth=0.3)
        axis.axvline(histogram.percentile(50), color="#d4573b", linewidth=1.2)
        axis.annotate(
            f"median {histogram.percentile(50):,.4g}", (0.98, 0.94), xycoords="axes fraction", ha="right", fontsize=8
        )
    if is_logarithmic:
        axis.set_xscale("log")


def _scatter_sizes(axis: Any, statistics: MaskStatistics) -> None:
    common = sorted(statistics.sizes.items(), key=lambda item: -item[1])[:_SIZES_SHOWN]
    if common:
        sizes = np.array([size for size, _ in common], np.float64)
        shares = np.array([count for _, count in common], np.float64) / common[0][1]
        axis.scatter(sizes[:, 0], sizes[:, 1], s=12 + 160 * shares, color=_BLUE, alpha=0.6, linewidths=0)
    axis.set_xlabel("width", fontsize=8)
    axis.set_ylabel("height", fontsize=8)
