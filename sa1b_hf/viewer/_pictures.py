"""The pictures of the page: thumbnails, images as they are, and maps of masks."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sa1b_hf import rle, viz
from sa1b_hf._id_map import encode_id_map, encode_picture
from sa1b_hf._mask_columns import read_mask_columns
from sa1b_hf.errors import ImageError

__all__ = ["image_bytes", "make_id_map", "make_thumbnail"]

_THUMBNAIL: Final = 320
_MAP: Final = 1400  # pixels of the longer side: more than most screens show, and drawn anew within a moment


def image_bytes(row: dict[str, Any]) -> bytes:
    """Give the file of a row's image, as it is.

    Raises
    ------
    ImageError
        The row has none.

    """
    image = row.get("image")
    data = image.get("bytes") if isinstance(image, dict) else None
    if data is None:
        raise ImageError("the row has no image", reason="image-missing", image_id=row.get("image_id"))
    return bytes(data)


def make_thumbnail(row: dict[str, Any], wanted: NDArray[np.bool_], *, masks: bool) -> bytes:
    """Draw a small picture, with the wanted masks or without any; JPEG."""
    keep = wanted if masks else np.zeros_like(wanted)
    return encode_picture(viz.draw(row, size=_THUMBNAIL, keep=keep), quality=84)


def make_id_map(row: dict[str, Any], wanted: NDArray[np.bool_]) -> bytes:
    """Draw the map of the wanted masks: i + 1 where mask i of the row is seen; PNG, see `encode_id_map`."""
    height, width = int(row["height"]), int(row["width"])
    factor = min(1.0, _MAP / max(height, width))
    target = (max(1, round(height * factor)), max(1, round(width * factor)))
    positions = np.flatnonzero(wanted)
    if not len(positions):
        return encode_id_map(np.zeros(target, np.uint8))
    # only the wanted ones are painted, and what they would have hidden is seen; ids stay those of the row
    columns = read_mask_columns(row)
    order = np.argsort(-columns.areas, kind="stable")
    ids = rle.label_map(columns.values, target, dtype=np.uint16, order=order[wanted[order]].tolist())
    return encode_id_map(ids)
