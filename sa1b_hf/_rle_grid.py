"""One mask's runs on a pixel grid, in NumPy: where rows flip between background and foreground.

A column that flips at rows r0 and r1 is foreground from r0 up to r1. A run that goes on into the next column flips
that column's row 0 too. So a mask is the running XOR, down the rows, of a few flips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid", "coverage", "fill_box", "nearest"]

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The foreground runs of a mask that is not empty, and the box that holds them on the target grid.

    Attributes
    ----------
    start, stop
        Column-major source pixels, shape (runs,); no run is empty.
    height
        Of the source, in pixels.
    rows, columns
        Source row or column → first target row or column at or after it; None without resizing.
    box
        [x0, y0, x1, y1) on the target grid; tight without resizing.

    """

    start: _Ints
    stop: _Ints
    height: int
    rows: _Ints | None
    columns: _Ints | None
    box: tuple[int, int, int, int]

    @classmethod
    def of_mask(cls, ends: _Ints, size: _Ints, target: tuple[int, ...] | None = None) -> Grid | None:
        """Place a mask on its own or a target grid; None if nothing of it is there."""
        height, width = map(int, size)
        start, stop = _foreground(ends)
        if not len(start):
            return None
        first, last = int(start[0] // height), int((stop[-1] - 1) // height)
        crossing = start // height != (stop - 1) // height
        top, bottom = (0, height) if crossing.any() else (int((start % height).min()), _bottom(stop, height))
        if target is None or target == (height, width):
            return cls(start, stop, height, None, None, (first, top, last + 1, bottom))
        rows, columns = (_first_at_or_after(*sizes) for sizes in zip((height, width), target, strict=True))
        box = (int(columns[first]), int(rows[top]), int(columns[last + 1]), int(rows[bottom]))
        if box[0] >= box[2] or box[1] >= box[3]:
            return None
        return cls(start, stop, height, rows, columns, box)


def nearest(source: int, target: int) -> _Ints:
    """Index of the source pixel that each target pixel shows, as ``cv2.INTER_NEAREST`` computes it."""
    scale = 1.0 / (target / source)
    return np.asarray(np.minimum(np.floor(np.arange(target) * scale).astype(np.int64), source - 1))


def fill_box(grid: Grid) -> NDArray[np.uint8]:
    """Give the pixels inside the grid's box, shape (y1 - y0, x1 - x0), 0 and 1."""
    x0, y0, x1, y1 = grid.box
    stride = -(-(x1 - x0) // 8) * 8
    flips = np.zeros((y1 - y0 + 1, stride), np.uint8)
    start_column, start_row = np.divmod(grid.start, grid.height)
    stop_column, stop_row = np.divmod(grid.stop, grid.height)
    for column, row in ((start_column, start_row), (stop_column, stop_row)):
        at_row = row if grid.rows is None else grid.rows[row]
        at_column = column
        if grid.columns is not None:
            at_column, count = _expand(grid.columns[column], grid.columns[column + 1])
            at_row = np.repeat(at_row, count)
        # What leaves the box through its bottom or right side ends there anyway.
        inside = (at_row >= y0) & (at_row <= y1) & (at_column < x1)
        flat = (at_row - y0) * stride + at_column - x0
        np.bitwise_xor.at(flips.reshape(-1), flat[inside], 1)
    if (stop_column > start_column).any() and y0 == 0:
        flips[0, : x1 - x0] ^= _continued(grid, start_column, stop_column)
    # Eight pixels at a time: many times faster than one.
    eights = flips.view(np.uint64)
    np.bitwise_xor.accumulate(eights, axis=0, out=eights)
    return flips[:-1, : x1 - x0]


def coverage(ends: _Ints, height: int, width: int, target: tuple[int, ...]) -> _Ints:
    """Foreground under each target pixel, in units of 1 / (height * width) of that pixel: exact integers."""
    rows, columns = target
    steps = np.zeros((rows + 1) * columns)
    start, stop = _foreground(ends)
    opened = np.zeros(width + 1)
    for position, sign in ((start, 1), (stop, -1)):
        column, row = np.divmod(position, height)
        np.add.at(opened, column, -sign)
        inside = column < width
        at_column, weight, edge = _spread(column[inside], width, columns)
        at_row, rest = np.divmod(row[inside][edge] * rows, height)
        flat = at_row * columns + at_column
        steps += np.bincount(flat, sign * weight * (height - rest), len(steps))
        steps += np.bincount(flat + columns, sign * weight * rest, len(steps))
    # A run that is open at the end of a column starts the next one as foreground.
    is_open = np.flatnonzero(-np.cumsum(opened)[:-1] > 0) + 1
    at_column, weight, _ = _spread(is_open[is_open < width], width, columns)
    steps += np.bincount(at_column, weight * height, len(steps))
    covered = np.cumsum(steps.reshape(rows + 1, columns)[:-1], axis=0)
    return np.asarray(np.rint(covered).astype(np.int64))


def _foreground(ends: _Ints) -> tuple[_Ints, _Ints]:
    stop = ends[1::2]
    start = ends[0::2][: len(stop)]
    filled = stop > start
    return start[filled], stop[filled]


def _bottom(stop: _Ints, height: int) -> int:
    row = stop % height
    return int(np.where(row, row, height).max())


def _first_at_or_after(source: int, target: int) -> _Ints:
    # One more entry than source pixels and borders: a run may stop at the very end of the last column.
    return np.searchsorted(nearest(int(source), target), np.arange(int(source) + 2))


def _expand(begin: _Ints, end: _Ints) -> tuple[_Ints, _Ints]:
    """All integers of the ranges, and how many each range has."""
    count = end - begin
    inside_range = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(begin, count) + inside_range, count


def _continued(grid: Grid, start_column: _Ints, stop_column: _Ints) -> NDArray[np.uint8]:
    """Flips of row 0 in the columns of the box that a run enters from the column before."""
    x0, _, x1, _ = grid.box
    begin, end = start_column + 1, stop_column + 1
    if grid.columns is not None:
        begin, end = grid.columns[begin], grid.columns[end]
    edges = np.zeros(x1 + 2, np.int64)
    np.add.at(edges, np.minimum(begin, x1), 1)
    np.add.at(edges, np.minimum(end, x1), 1)
    return (np.cumsum(edges)[x0:x1] & 1).astype(np.uint8)


def _spread(column: _Ints, width: int, columns: int) -> tuple[_Ints, _Ints, _Ints]:
    """Target columns under each source column, the overlap in units of 1 / width, and the source column's index."""
    begin, end = column * columns, (column + 1) * columns
    at_column, count = _expand(begin // width, (end - 1) // width + 1)
    edge = np.repeat(np.arange(len(column)), count)
    overlap = np.minimum(end[edge], (at_column + 1) * width) - np.maximum(begin[edge], at_column * width)
    return at_column, overlap, edge
