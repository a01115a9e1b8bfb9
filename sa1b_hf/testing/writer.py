"""Write a tar stream to disk, compressed or not, so that nothing half-written has the final name."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .layout import Part

try:
    from zlib_ng.zlib_ng import compressobj
except ImportError:  # no wheel for this platform: slower, other bytes, the same content
    from zlib import compressobj  # type: ignore[assignment]

__all__ = ["renamed_when_done", "write_stream"]

_GZIP_WBITS = 31  # gzip framing, with a time of 0
_BUFFER = 1 << 20


def write_stream(path: Path, parts: Sequence[Part], compresslevel: int | None) -> list[int]:
    """Write parts one after the other, holding one of them at a time.

    Parameters
    ----------
    path
        File to write.
    parts
        The tar stream.
    compresslevel
        Of gzip, 0 to 9; None leaves the stream plain.

    Returns
    -------
    list[int]
        For each part the offset in the tar, in bytes, at which it ends.

    """
    ends, offset = [], 0
    with path.open("wb", buffering=_BUFFER) as file:
        compress, flush = _compressor(compresslevel)
        for part in parts:
            for chunk in part.chunks():
                file.write(compress(chunk))
                offset += len(chunk)
            ends.append(offset)
        file.write(flush())
    return ends


def _compressor(level: int | None) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    if level is None:
        return (lambda chunk: chunk), bytes
    deflater = compressobj(level, zlib.DEFLATED, _GZIP_WBITS)
    return deflater.compress, deflater.flush


@contextmanager
def renamed_when_done(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, which becomes `path` if all goes well and vanishes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
