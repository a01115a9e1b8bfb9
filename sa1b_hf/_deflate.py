"""Where inflate can begin: stored deflate blocks that hide no history, and the proof that a decoder stands at one.

Format: RFC 1951, 3.2.4. A stored block is byte-aligned: ``LEN``, its complement ``NLEN``, then ``LEN`` bytes as they
are. After 32 KiB of such bytes a decoder's whole window is known without anything that came before.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from ._engines import Chunk, resolve_engine

__all__ = [
    "LOOK_AHEAD",
    "MAX_OUTPUT",
    "MAX_STORED",
    "iter_stored_runs",
    "resolve_copying_engine",
    "stands_at_stored",
    "start_at_stored",
]

_WINDOW: Final = 1 << 15
MAX_STORED: Final = 0xFFFF
MAX_OUTPUT: Final = 4 << 20
_BLOCK: Final = 1 << 16
_MIN_STORED: Final = 1 << 12  # shorter first blocks are too common by chance
LOOK_AHEAD: Final = _WINDOW + MAX_STORED + (_WINDOW // _MIN_STORED + 1) * 5
_HEADER: Final = 4  # LEN and NLEN
_RAW: Final = -15
_EMPTY_FINAL_BLOCK: Final = b"\x01\x00\x00\xff\xff"


def resolve_copying_engine(name: str = "auto") -> Any:
    """Give an engine whose decoders can be copied, which the proof needs: the one named, if it can."""
    module = resolve_engine(name)[1]
    return module if hasattr(module.decompressobj(), "copy") else resolve_engine("zlib")[1]


def start_at_stored(module: Any) -> Any:
    """Give a decoder that expects the ``LEN`` of a stored block next."""
    decoder = module.decompressobj(_RAW)
    decoder.decompress(b"\0")  # block header: stored, not the last; the other bits of the byte are padding
    return decoder


def stands_at_stored(decoder: Any) -> bool:
    """Prove that a raw decoder expects ``LEN`` next, in a block that is not the last.

    Notes
    -----
    A copy of it is fed a stored block of random bytes and an empty last one. In any other state (inside a Huffman
    block, a stored block, a header) it would give something else, or nothing, or fail.
    """
    payload = secrets.token_bytes(32)
    probe = decoder.copy()
    try:
        if probe.decompress(b"\x20\x00\xdf\xff") or probe.decompress(payload) != payload or probe.eof:
            return False
        return not probe.decompress(_EMPTY_FINAL_BLOCK) and bool(probe.eof) and not probe.unused_data
    except Exception:  # each engine has its own error, and any of them is a no
        return False


def iter_stored_runs(data: Chunk | memoryview, stop: int) -> Iterator[int]:
    """Find what looks like a run of stored blocks of at least 32 KiB.

    Parameters
    ----------
    data
        Compressed bytes; `LOOK_AHEAD` bytes after `stop` decide about the last runs.
    stop
        Only runs that begin before it are given.

    Yields
    ------
    int
        Positions of ``LEN`` fields, ascending. About one in 128 KiB is there by chance.

    """
    view = memoryview(data)
    stop = min(stop, len(view) - _HEADER + 1)
    for begin in range(0, stop, _BLOCK):  # most callers stop at the first run
        end = min(begin + _BLOCK, stop)
        found = [_candidates(view[at : end + _HEADER - 1]) + at for at in range(begin, min(begin + 2, end))]
        for at in np.sort(np.concatenate(found)).tolist():
            if _run_length(view, at) >= _WINDOW:
                yield at


def _candidates(data: memoryview) -> np.ndarray:
    """Give the even offsets at which a long ``LEN`` and its complement stand."""
    # copied, because arithmetic on words at odd addresses is slow
    words = np.frombuffer(bytes(data[: len(data) & ~1]), "<u2")
    places = np.flatnonzero((words[:-1] ^ words[1:]) == MAX_STORED)
    return places[words[places] >= _MIN_STORED] * 2


def _run_length(data: memoryview, at: int) -> int:
    """Payload bytes of the consecutive stored blocks whose first ``LEN`` is at `at`; counting ends at 32 KiB."""
    total = 0
    while at + _HEADER <= len(data):
        length = data[at] | data[at + 1] << 8
        if length ^ (data[at + 2] | data[at + 3] << 8) != MAX_STORED:
            break
        total += length
        at += _HEADER + length
        if total >= _WINDOW or at >= len(data) or data[at] & 7:
            break
        at += 1
    return total
