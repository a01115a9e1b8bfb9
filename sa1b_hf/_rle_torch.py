"""Masks of one size → pixels, with torch operations on a device, none of which waits for it.

1. Every character is five bits of a number; numbers become run lengths, and those the pixels at which runs end.
2. An end adds 1 to its pixel (a foreground run begins) or takes 1 away (it is over), if the target shows its column.
3. The pixel at the top of each column gets the parity of the runs that end before it.
4. A running sum down the rows makes 0 and 1 of that. No partial sum leaves 0 and 1, so eight neighbours are summed as
   the bytes of one int64 word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._rle_grid import nearest
from ._rle_packed import Packed

__all__ = ["fill", "iter_chunks"]

_BYTES_PER_CHARACTER = 128  # of scratch memory: what the numbers and runs of one character take at most
_BYTES_PER_COLUMN = 32  # of scratch memory: a position to search for, its rank, its parity
_WORD = 8  # pixels of a row that are summed together
_MORE = 32
_SIGN = 16
_OFFSET = 48


def iter_chunks(packed: Packed, target: Sequence[int], max_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut the masks into ranges of one size each that take about ``max_bytes`` of scratch memory at most."""
    height, width = target
    plane = height * _words(width) * _WORD + _BYTES_PER_COLUMN * width
    cost = np.concatenate([[0], np.cumsum(np.diff(packed.offsets) * _BYTES_PER_CHARACTER + plane)])
    changes = np.flatnonzero((packed.sizes[1:] != packed.sizes[:-1]).any(axis=1)) + 1
    changes = np.append(changes, len(packed))
    first = 0
    while first < len(packed):
        affordable = int(np.searchsorted(cost, cost[first] + max_bytes, side="right")) - 1
        same_size = int(changes[np.searchsorted(changes, first, side="right")])
        last = min(max(affordable, first + 1), same_size)
        yield first, last
        first = last


def _words(width: int) -> int:
    return -(-width // _WORD)


def fill(torch: Any, packed: Packed, out: Any) -> None:
    """Decode masks of one size into planes, whatever those hold."""
    num_masks, height, width = out.shape
    source_height, source_width = map(int, packed.sizes[0])
    rows = _row_table(source_height, height)
    columns, shown, copies = _column_tables(source_width, width)
    text = packed.text[packed.offsets[0] : packed.offsets[-1]]
    first_run = _first_runs(text, packed.offsets)
    num_runs, num_columns = int(first_run[-1]), len(shown)
    rows, columns, shown, copies, first_run, text = _upload(torch, (rows, columns, shown, copies, first_run), text, out)

    mask = torch.repeat_interleave(first_run.diff(), output_size=num_runs)
    run = torch.arange(num_runs, device=out.device) - first_run[mask]
    ends = _run_lengths(torch, _numbers(torch, text, num_runs), run, first_run[mask]).cumsum(0)
    # Each mask's runs add up to its pixels, so that the ends of all masks are one sorted sequence.
    start = torch.arange(num_masks, device=out.device) * (source_height * source_width)

    in_place = num_columns == width and width % _WORD == 0
    stride = _words(num_columns) * _WORD
    pixels = out.zero_() if in_place else out.new_zeros((num_masks, height, stride))
    words = pixels.view(torch.int64)

    position = ends - start[mask]
    column = columns[position // source_height]
    row = rows[position % source_height]
    byte = torch.eye(_WORD, dtype=torch.uint8, device=out.device).view(torch.int64).view(-1)  # 1 at each byte of a word
    change = (1 - 2 * (run & 1)) * byte[column & (_WORD - 1)] * ((row > 0) & (column >= 0))
    word = (mask * height + row) * words.shape[2] + column.clamp(min=0) // _WORD
    words.view(-1).scatter_add_(0, word, change)

    top = torch.searchsorted(ends, start[:, None] + shown * source_height, right=True) - first_run[:-1, None]
    pixels[:, 0, :num_columns] = (top & 1).to(torch.uint8)
    words.cumsum_(1)
    if num_columns < width:
        torch.index_select(pixels, 2, copies, out=out)
    elif not in_place:
        out.copy_(pixels[:, :, :num_columns])


def _upload(torch: Any, tables: Sequence[NDArray[np.int64]], text: NDArray[np.uint8], like: Any) -> list[Any]:
    """Copy tables of int64 and the characters in one transfer that nobody waits for."""
    sizes = [*(table.nbytes for table in tables), len(text)]
    staging = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=like.is_cuda)
    np.concatenate([*(table.view(np.uint8) for table in tables), text], out=staging.numpy())
    *parts, characters = staging.to(like.device, non_blocking=True).split(sizes)
    return [*(part.view(torch.int64) for part in parts), characters]


def _row_table(source: int, target: int) -> NDArray[np.int64]:
    """Source row → the first target row at or after it; 0 where there is none, and for row 0, which is not summed."""
    at = np.searchsorted(nearest(source, target), np.arange(source))
    return np.where(at < target, at, 0)


def _column_tables(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Source column → its index among those that the target shows, or -1; these; target column → index among them."""
    shown, copies = np.unique(nearest(source, target), return_inverse=True)
    columns = np.full(source + 1, -1, np.int64)  # the last run ends in a column after the last
    columns[shown] = np.arange(len(shown))
    return columns, shown, copies.astype(np.int64)


def _first_runs(text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of each mask's first run, and the number of all runs; no mask is without characters."""
    runs = np.add.reduceat(text < _OFFSET + _MORE, offsets[:-1] - offsets[0], dtype=np.int64)
    return np.concatenate([[0], np.cumsum(runs)])


def _numbers(torch: Any, text: Any, num_numbers: int) -> Any:
    """Read the numbers that characters stand for, five bits each, the lowest first."""
    groups = text.to(torch.int64) - _OFFSET
    is_last = groups < _MORE
    number = is_last.cumsum(0) - is_last.to(torch.int64)
    zero = groups.new_zeros(num_numbers)
    length = zero.scatter_add(0, number, torch.ones_like(groups))
    digit = torch.arange(len(groups), device=text.device) - (length.cumsum(0) - length)[number]
    # The last group's highest bit is the sign of the whole number.
    signed = torch.where(is_last, (groups ^ _SIGN) - _SIGN, groups - _MORE)
    return zero.scatter_add_(0, number, signed * (1 << 5 * digit))


def _run_lengths(torch: Any, numbers: Any, run: Any, first: Any) -> Any:
    """Undo the differences: from the fourth on, a run is given relative to the one two before.

    ``run`` is each run's index in its mask, ``first`` the index of that mask's first run.
    """
    is_odd = (run & 1).bool()
    # The third run stands for itself: the first one is left out of the sums.
    later = numbers * (run > 0)
    sums = torch.stack([later * ~is_odd, later * is_odd]).cumsum(1)
    sums = sums - sums[:, first]
    return torch.where(run > 0, torch.where(is_odd, sums[1], sums[0]), numbers)
