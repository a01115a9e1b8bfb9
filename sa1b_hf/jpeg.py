"""Just enough of JPEG to tell a whole file from a torn one, and to read its size without decoding it."""

from __future__ import annotations

from typing import Final

from .errors import ImageError

__all__ = ["check_jpeg", "jpeg_size"]

_SOI: Final = b"\xff\xd8"
_EOI: Final = b"\xff\xd9"
# Start-of-frame markers of ITU-T T.81 table B.1; C4, C8 and CC are other things.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MAX_SEGMENTS: Final = 1000


def jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """Read the size from the frame header.

    Parameters
    ----------
    data
        The file's bytes, beginning with the SOI marker.

    Returns
    -------
    tuple of int, or None
        (width, height) in pixels; None if there is no frame header where one should be.

    """
    at = 2
    for _ in range(_MAX_SEGMENTS):
        if at + 9 > len(data) or data[at] != 0xFF:  # noqa: PLR2004 -- every marker begins with FF
            return None
        marker = data[at + 1]
        if marker in _FRAMES:
            return (data[at + 7] << 8 | data[at + 8], data[at + 5] << 8 | data[at + 6])
        # FF may be repeated as fill before a marker
        at += 1 if marker == 0xFF else 2 + (data[at + 2] << 8 | data[at + 3])  # noqa: PLR2004
    return None


def check_jpeg(data: memoryview, *, width: int, height: int, image_id: int, shard: str | None = None) -> None:
    """Check that a JPEG is whole and as large as its document says.

    Parameters
    ----------
    data
        The file's bytes.
    width, height
        Pixels, from the JSON document.
    image_id, shard
        Where it stands, for the message.

    Raises
    ------
    ImageError
        ``reason`` is ``"jpeg-signature"``, ``"jpeg-truncated"`` or ``"size-mismatch"``.

    """
    size = len(data)
    if size and data[:2] != _SOI[:size]:
        found = bytes(data[:4])
        raise _error("jpeg-signature", f"expected a JPEG (ff d8), found {found.hex(' ')}", image_id, shard)
    tail = bytes(data[-64:])
    if size < 4 or not (tail.endswith(_EOI) or tail.rstrip(b"\0").endswith(_EOI)):  # noqa: PLR2004 -- SOI and EOI
        raise _error("jpeg-truncated", f"the JPEG of {size:,} bytes has no end marker: it is cut off", image_id, shard)
    found_size = jpeg_size(data)
    if found_size != (width, height):
        found_text = "no frame header" if found_size is None else f"{found_size[0]}x{found_size[1]}"
        raise _error(
            "size-mismatch", f"expected a JPEG of {width}x{height} pixels, found {found_text}", image_id, shard
        )


def _error(reason: str, message: str, image_id: int, shard: str | None) -> ImageError:
    return ImageError(f"sa_{image_id}.jpg: {message}", reason=reason, shard=shard, image_id=image_id)
