"""The kernels of the RLE codec in NumPy: what runs where the C extension could not be built, with the same results.

Every kernel raises `RLEError` for the first malformed mask of a call.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ._rle_grid import Grid, coverage, fill_box
from ._rle_packed import Packed
from ._rle_text import MAX_DIGITS, compress

__all__ = ["clear", "contains", "cut", "encode", "fill", "intersections", "pack_bits", "paint", "runs", "soft", "stats"]

_GROUP = 1 << 20  # characters parsed at a time: enough to amortise the calls, little enough to stay in cache


def stats(packed: Packed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Area in pixels, shape (n,), and the box [x0, y0, x1, y1) in pixels, shape (n, 4); zeros for an empty mask."""
    areas = np.zeros(len(packed), np.int64)
    boxes = np.zeros((len(packed), 4), np.int64)
    for index, ends in _iter_ends(packed):
        grid = Grid.of_mask(ends, packed.sizes[index])
        if grid is not None:
            areas[index] = (grid.stop - grid.start).sum()
            boxes[index] = grid.box
    return areas, boxes


def runs(packed: Packed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each run ends, in column-major pixels, masks one after another; and where each mask starts in that."""
    ends = [mask_ends for _, mask_ends in _iter_ends(packed)]
    first = np.zeros(len(ends) + 1, np.int64)
    np.cumsum([len(mask_ends) for mask_ends in ends], out=first[1:])
    return np.concatenate([np.zeros(0, np.int64), *ends]), first


def fill(
    packed: Packed,
    out: NDArray[np.uint8],
    notes: NDArray[np.int64] | None = None,
    threads: int = 1,
    *,
    dirty: bool = False,
) -> None:
    """Decode by nearest neighbour into ``out``, shape (n, H, W), zeroed but for what ``notes`` say, or ``dirty``.

    These say what a call before wrote, which is cleared, and become what this call wrote. Shape (n, `note_size` (H)),
    of each plane: [x0, y0, x1, y1) in bytes of a row and rows; then what of each band of rows, 0 for all of it.
    """
    del threads
    masks = list(_iter_ends(packed))
    if notes is not None:
        clear(out, notes)
    if dirty:
        out[...] = 0
    for index, ends in masks:
        grid = Grid.of_mask(ends, packed.sizes[index], out.shape[1:])
        if grid is not None:
            x0, y0, x1, y1 = grid.box
            if notes is not None:
                notes[index, :4] = grid.box
            out[index, y0:y1, x0:x1] = fill_box(grid)


def note_size(height: int) -> int:
    """Tell how many numbers say what was written to a plane: a box, and one for each 16 rows of it."""
    return 4 + -(-height // 16)


def clear(out: NDArray[np.uint8], notes: NDArray[np.int64]) -> None:
    """Zero what the notes say was written to the planes of ``out``, and the notes."""
    for plane, (x0, y0, x1, y1) in zip(out, notes[:, :4], strict=True):
        plane[y0:y1, x0:x1] = 0
    notes[:] = 0


def soft(packed: Packed, out: NDArray[np.float32] | NDArray[np.uint8], threads: int = 1) -> None:
    """Decode by area average into ``out``, shape (n, H, W): float32 in 0 to 1, or uint8 in 0 to 255."""
    del threads
    for index, ends in list(_iter_ends(packed)):
        height, width = packed.sizes[index]
        covered = coverage(ends, int(height), int(width), out.shape[1:])
        if out.dtype == np.uint8:
            # Twice the value, cut off, plus one, halved: rounding that no fused multiply-add can change.
            out[index] = ((covered * (510.0 / (height * width))).astype(np.int64) + 1) >> 1
        else:
            out[index] = covered * (1.0 / (height * width))


def pack_bits(
    packed: Packed,
    out: NDArray[np.uint8],
    width: int,
    notes: NDArray[np.int64] | None = None,
    *,
    little: bool,
    threads: int = 1,
) -> None:
    """Decode to ``width`` pixels, eight to a byte, into ``out``, shape (n, H, bytes); ``notes`` as for `fill`."""
    del threads
    order = "little" if little else "big"
    masks = list(_iter_ends(packed))
    if notes is not None:
        clear(out, notes)
    for index, ends in masks:
        grid = Grid.of_mask(ends, packed.sizes[index], (out.shape[1], width))
        if grid is not None:
            x0, y0, x1, y1 = grid.box
            rows = np.zeros((y1 - y0, x1 - (x0 & ~7)), np.uint8)
            rows[:, x0 & 7 :] = fill_box(grid)
            packed_rows = np.packbits(rows, axis=1, bitorder=order)  # type: ignore[call-overload]
            left, right = x0 >> 3, (x0 >> 3) + packed_rows.shape[1]
            out[index, y0:y1, left:right] = packed_rows
            if notes is not None:
                notes[index, :4] = left, y0, right, y1


def paint(packed: Packed, order: NDArray[np.int64], out: NDArray[np.unsignedinteger]) -> None:
    """Write i + 1 wherever mask i is, in the given order, into ``out``, zeroed, shape (H, W)."""
    ends_of = dict(_iter_ends(packed))
    for index in order.tolist():
        grid = Grid.of_mask(ends_of[index], packed.sizes[index], out.shape)
        if grid is not None:
            x0, y0, x1, y1 = grid.box
            out[y0:y1, x0:x1][fill_box(grid).view(bool)] = index + 1


def cut(packed: Packed, boxes: NDArray[np.int64], offsets: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """Decode mask i inside its own tight box into ``out[offsets[i]:offsets[i + 1]]``, row by row."""
    for index, ends in _iter_ends(packed):
        grid = Grid.of_mask(ends, packed.sizes[index])
        if grid is not None:
            x0, y0, x1, y1 = boxes[index]
            crop = out[offsets[index] : offsets[index + 1]].reshape(y1 - y0, x1 - x0)
            crop[...] = fill_box(grid)


def contains(packed: Packed, points: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which of the pixels (x, y), shape (p, 2), are in which mask, shape (n, p); outside the image: in none."""
    inside = np.zeros((len(packed), len(points)), bool)
    x, y = points[:, 0], points[:, 1]
    for index, ends in _iter_ends(packed):
        height, width = packed.sizes[index]
        within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        run = np.searchsorted(ends, x * height + y, side="right")
        inside[index] = within & (run & 1 == 1)
    return inside


def intersections(first: Packed, second: Packed) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Areas (n,) and (m,), and the pixels that masks i and j share, shape (n, m); all masks of one size."""
    shared = np.zeros((len(first), len(second)), np.int64)
    first_areas, _ = stats(first)
    second_areas, _ = stats(second)
    ends, starts = runs(second)
    mask_of_run = np.repeat(np.arange(len(second)), np.diff(starts))
    foreground = np.flatnonzero((np.arange(len(ends)) - starts[mask_of_run]) & 1)
    stop, start = ends[foreground], ends[foreground - 1]
    for index, mask_ends in _iter_ends(first):
        covered = _prefix_area(mask_ends, stop) - _prefix_area(mask_ends, start)
        shared[index] = np.bincount(mask_of_run[foreground], covered, len(second)).astype(np.int64)
    return first_areas, second_areas, shared


def encode(masks: NDArray[np.uint8]) -> list[bytes]:
    """Write dense masks, shape (n, H, W), non-zero is foreground, in the COCO string form."""
    texts = []
    for mask in masks:
        flat = mask.T.astype(bool).ravel()
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        ends = np.concatenate([np.zeros(int(flat[0]), np.int64), changes, [flat.size]])
        texts.append(compress(np.diff(ends, prepend=0)))
    return texts


def _prefix_area(ends: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Foreground pixels before each position."""
    run = np.searchsorted(ends, positions, side="right")
    lengths = np.diff(ends, prepend=0)
    lengths[::2] = 0
    before = np.concatenate([[0], np.cumsum(lengths)])
    begin = np.concatenate([[0], ends])
    return np.asarray(before[run] + np.where(run & 1, positions - begin[run], 0))


def _iter_ends(packed: Packed) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Give each mask's index and run ends; a group of masks is parsed together."""
    first, num_masks = 0, len(packed)
    while first < num_masks:
        limit = int(np.searchsorted(packed.offsets, packed.offsets[first] + _GROUP, side="right")) - 1
        last = min(max(limit, first + 1), num_masks)
        values, starts = _parse(packed, first, last)
        for index in range(first, last):
            ends = _undo_differences(values[starts[index - first] : starts[index - first + 1]])
            total = packed.sizes[index, 0] * packed.sizes[index, 1]
            if ends is None or not len(ends) or ends.max() > total:
                packed.fail_malformed(index)
            ends = np.cumsum(ends)
            if ends[-1] != total:
                packed.fail_malformed(index)
            yield index, ends
        first = last


def _parse(packed: Packed, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read all numbers of masks ``first`` to ``last``, and say where each mask's numbers start."""
    offsets = packed.offsets[first : last + 1] - packed.offsets[first]
    groups = packed.text[packed.offsets[first] : packed.offsets[last]].astype(np.int64) - 48
    final = groups < 32  # noqa: PLR2004 (the bit that says: more characters follow)
    stops = np.flatnonzero(final) + 1
    begins = np.concatenate([[0], stops[:-1]])[: len(stops)]
    lengths = stops - begins
    complete = offsets[1:][np.diff(offsets) > 0]
    if (
        (groups & ~63).any()
        or not final[complete - 1].all()
        or (lengths.max(initial=0) > MAX_DIGITS)
        or len(complete) < last - first
    ):
        for index in range(first, last):
            packed.check(index)
    digits = np.arange(len(groups)) - np.repeat(begins, lengths)
    values = np.add.reduceat((groups & 31) << (5 * digits), begins) if len(begins) else np.zeros(0, np.int64)
    values -= (groups[stops - 1] & 16 != 0).astype(np.int64) << (5 * lengths)
    return values, np.searchsorted(begins, offsets)


def _undo_differences(values: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Run lengths from numbers, each from the fourth on relative to the one two before; None if any is negative."""
    lengths = values.copy()
    lengths[1::2] = np.cumsum(values[1::2])
    lengths[2::2] = np.cumsum(values[2::2])
    return None if (lengths < 0).any() else lengths
