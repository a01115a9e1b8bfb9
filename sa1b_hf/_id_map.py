"""A map of masks as a picture that a browser can read back exactly."""

from __future__ import annotations

import base64
import io
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._mask_columns import MaskColumns
from .errors import ConfigError

__all__ = ["data_uri", "describe_mask", "encode_id_map", "encode_picture"]

_MAX_IDS: Final = 1 << 16


def encode_id_map(ids: NDArray[np.unsignedinteger]) -> bytes:
    """Write a map of masks as PNG.

    Parameters
    ----------
    ids
        Shape (h, w), 0 to 65535.

    Returns
    -------
    bytes
        RGB: red is the id's low byte, green its high byte. Without an alpha channel a browser gives back exactly what
        was written.

    Raises
    ------
    ConfigError
        There are more ids than two bytes hold.

    """
    if ids.size and int(ids.max()) >= _MAX_IDS:
        raise ConfigError(f"expected at most {_MAX_IDS - 1} masks in a map, found {int(ids.max())}")
    packed = np.zeros((*ids.shape, 3), np.uint8)
    packed[..., 0] = ids & 0xFF
    packed[..., 1] = ids >> 8
    return encode_picture(Image.fromarray(packed), "PNG", compress_level=1)


def encode_picture(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """Write a picture to bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def data_uri(data: bytes, kind: str) -> str:
    """Give bytes as an address that needs no file."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def describe_mask(columns: MaskColumns, position: int, names: dict[int, str]) -> str:
    """Say of a mask what one wants to know when pointing at it."""
    words = [f"mask {columns.ids[position]}"]
    if columns.has_labels:
        label, score = int(columns.label_ids[position]), columns.label_scores[position]
        text = "no label" if label < 0 else names.get(label, f"label {label}")
        words.append(text if np.isnan(score) or label < 0 else f"{text} {score:.2f}")
    words.append(f"{columns.areas[position]:,} px")
    for name, short in (("predicted_iou", "iou"), ("stability_score", "stability")):
        value = getattr(columns, name)[position]
        if not np.isnan(value):
            words.append(f"{short} {value:.3f}")
    return " · ".join(words)
