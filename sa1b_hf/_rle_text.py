"""The COCO string form of run lengths: what it may look like, how it is written, and what is wrong with a bad one.

Runs alternate background and foreground in column-major order, background first. From the fourth on, a run is written
as its difference from the run two before it. A number is cut into groups of five bits, lowest group first, in two's
complement; bit 32 of a character says that more groups follow, and 48 is added to make it printable. Source of the
format: ``rleToString`` and ``rleFrString`` in cocoapi, ``common/maskApi.c``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_DIGITS", "compress", "diagnose"]

MAX_DIGITS = 7
"""Characters of one number: six hold every difference between runs of the largest image."""

_CHUNK = 1 << 16  # numbers written at a time, so that scratch memory stays small
_OFFSET = 48
_MORE = 32
_SIGN = 16


def compress(runs: NDArray[np.int64]) -> bytes:
    """Write run lengths in the COCO string form.

    Parameters
    ----------
    runs
        Shape (n,), pixels, background first; below 2**33 in size, negative ones included.

    Returns
    -------
    bytes
        The same characters as ``pycocotools.mask.encode`` gives for these runs.

    """
    values = np.array(runs, np.int64)
    values[3:] -= runs[1:-2]
    return b"".join(_write(values[start : start + _CHUNK]) for start in range(0, len(values), _CHUNK))


def _write(values: NDArray[np.int64]) -> bytes:
    groups = values[:, None] >> (5 * np.arange(MAX_DIGITS))
    # A group is the last one if all bits above it, its own sign bit included, are copies of the sign.
    last = (groups >> 4 == 0) | (groups >> 4 == -1)
    length = last.argmax(axis=1) + 1
    position = np.arange(MAX_DIGITS)
    more = (position < length[:, None] - 1) * _MORE
    characters = ((groups & 31) | more) + _OFFSET
    kept: bytes = characters[position < length[:, None]].astype(np.uint8).tobytes()
    return kept


def diagnose(text: bytes, height: int, width: int) -> tuple[str, str] | None:
    """Find the first fault of a counts string, reading it as slowly and plainly as possible.

    Parameters
    ----------
    text
        The characters of ``counts``.
    height, width
        Size of the mask in pixels.

    Returns
    -------
    tuple of str, or None
        Reason slug and message; None if the string is good.

    """
    total = height * width
    runs = [0, 0, 0]
    position = num_runs = start = 0
    while start < len(text):
        value, stop, fault = _number(text, start)
        if fault:
            return fault
        if num_runs > 2:  # noqa: PLR2004 (the first three stand for themselves)
            value += runs[num_runs % 3 - 2]
        if value < 0:
            return "negative", f"run {num_runs}: expected a length of 0 or more, found {value}"
        position += value
        if position > total:
            found = f"at least {position} by run {num_runs}"
            return "too_long", f"expected runs that sum to {height}*{width} = {total}, found {found}"
        runs[num_runs % 3] = value
        num_runs += 1
        start = stop
    if position != total:
        return "too_short", f"expected runs that sum to {height}*{width} = {total}, found {position} in {num_runs} runs"
    return None


def _number(text: bytes, start: int) -> tuple[int, int, tuple[str, str] | None]:
    """Read one number: its value, where the next one starts, and what is wrong with it."""
    value = 0
    for digit in range(MAX_DIGITS):
        at = start + digit
        if at == len(text):
            return 0, at, ("truncated", f"the string ends inside a number, after {len(text)} characters")
        group = text[at] - _OFFSET
        if not 0 <= group < 2 * _MORE:
            expected = "expected characters chr(48) to chr(111)"
            return 0, at, ("character", f"{expected}, found {chr(text[at])!r} at character {at}")
        value |= (group & 31) << 5 * digit
        if not group & _MORE:
            if group & _SIGN:
                value -= 32 << 5 * digit
            return value, at + 1, None
    return 0, start, ("overlong", f"expected numbers of at most {MAX_DIGITS} characters, found more at {start}")
