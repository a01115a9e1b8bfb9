"""CRC-32 by the fastest engine there is, and of a whole from its parts for engines that cannot join them themselves."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from ._engines import resolve_engine

__all__ = ["crc32", "crc32_combine"]

crc32: Final = resolve_engine()[1].crc32
"""As `zlib.crc32`, up to five times as fast."""

_POLYNOMIAL: Final = 0xEDB88320  # of RFC 1952, bits reversed: the highest bit is the coefficient of x^0
_ONE: Final = 1 << 31
_X8: Final = _ONE >> 8


def crc32_combine(first: int, second: int, length: int) -> int:
    """Give the CRC-32 of two pieces of data one after the other.

    Parameters
    ----------
    first, second
        CRC-32 of each piece, as `zlib.crc32` gives them.
    length
        Bytes of the second piece.

    Returns
    -------
    int
        CRC-32 of both together.

    Notes
    -----
    Appending n bytes multiplies a CRC, as a polynomial over GF(2), by x^(8n) modulo the CRC's own polynomial.

    """
    return _multiply(_power_of_x8(length), first) ^ second


@lru_cache(maxsize=64)
def _square(step: int) -> int:
    """x^(8·2^step) modulo the polynomial."""
    return _X8 if not step else _multiply(_square(step - 1), _square(step - 1))


def _power_of_x8(exponent: int) -> int:
    result, step = _ONE, 0
    while exponent:
        if exponent & 1:
            result = _multiply(result, _square(step))
        exponent >>= 1
        step += 1
    return result


def _multiply(left: int, right: int) -> int:
    product, bit = 0, _ONE
    while bit:
        if left & bit:
            product ^= right
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
        bit >>= 1
    return product
