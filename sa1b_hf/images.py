"""JPEG → pixels of the size to train on: decoded by scaled DCT as far as that goes, resized for the rest.

No EXIF rotation is applied, because masks are drawn on the stored pixels.
"""

from __future__ import annotations

import importlib
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import ImageError
from .jpeg import jpeg_size

__all__ = ["Resample", "decode_image", "image_size"]

Resample = Literal["bilinear", "bicubic", "box", "lanczos"]
"""Filters of Pillow, all of which average when they shrink."""

_DCT_STEPS = 8  # libjpeg decodes at eighths of the size
# Half of a 2000 pixel side is 1000: to enlarge that to 1024 loses nothing one can see, and is four times less work.
_MAX_ENLARGEMENT = 1.05
_RGB = (3,)

try:
    _simplejpeg: Any = importlib.import_module("simplejpeg")
except ImportError:
    _simplejpeg = None


def decode_image(
    image: Any,
    size: tuple[int, int] | None = None,
    *,
    original_size: tuple[int, int] | None = None,
    resample: Resample = "bilinear",
    image_id: int | None = None,
) -> NDArray[np.uint8]:
    """Decode an image at a size.

    Parameters
    ----------
    image
        JPEG bytes (or another format that Pillow reads), ``{"bytes": ..., "path": ...}`` as
        ``datasets.Image(decode=False)`` gives, a PIL image, or an (H, W, 3) uint8 array. Only bytes and paths profit
        from scaled decoding.
    size
        (h, w) in pixels to bring it to; its own size by default.
    original_size
        (h, w) in pixels that it must have.
    resample
        Filter of the resize.
    image_id
        For messages.

    Returns
    -------
    NDArray[np.uint8]
        Shape (h, w, 3), RGB.

    Raises
    ------
    ImageError
        It cannot be decoded, is cut off, or has another size than `original_size`. ``reason`` is ``"image-missing"``,
        ``"image-type"``, ``"image-decode"`` or ``"size-mismatch"``.

    Notes
    -----
    Bytes are decoded by Pillow, or `simplejpeg` if it is installed, at the smallest eighth (Pillow: half) of the size
    that is not smaller, by more than a twentieth, than asked for. Their results look the same, but are not
    equal: where bits matter, use one of them throughout.

    """
    try:
        opened, real_size = _open(image, size, original_size)
    except ImageError as error:
        raise _error(error.reason, error.message, image_id) from error.__cause__
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error …
        raise _error("image-decode", f"the image cannot be decoded: {error}", image_id) from error
    target = real_size if size is None else size
    return _resize(opened, real_size, target, resample)


def image_size(image: Any) -> tuple[int, int]:
    """Read the size of an image without decoding it.

    Parameters
    ----------
    image
        As for `decode_image`.

    Returns
    -------
    tuple of int
        (h, w) in pixels.

    Raises
    ------
    ImageError
        It is nothing that can be read.

    """
    if isinstance(image, Image.Image):
        return image.height, image.width
    if isinstance(image, np.ndarray):
        _check_array(image)
        return image.shape[0], image.shape[1]
    try:
        with Image.open(io.BytesIO(_read_bytes(image))) as opened:
            return opened.height, opened.width
    except ImageError:
        raise
    except Exception as error:
        raise _error("image-decode", f"the image cannot be read: {error}") from error


def _open(image: Any, size: tuple[int, int] | None, expected: tuple[int, int] | None) -> tuple[Any, tuple[int, int]]:
    """Give what is decoded so far, a PIL image or an array, and the size of the whole."""
    if isinstance(image, Image.Image):
        real_size = (image.height, image.width)
        _check_size(real_size, expected)
        return image if image.mode == "RGB" else image.convert("RGB"), real_size
    if isinstance(image, np.ndarray):
        _check_array(image)
        real_size = (image.shape[0], image.shape[1])
        _check_size(real_size, expected)
        return image, real_size
    data = _read_bytes(image)
    if _simplejpeg is not None and (found := _decode_simplejpeg(data, size, expected)):
        return found
    return _decode_pillow(data, size, expected)


def _read_bytes(image: Any) -> bytes | memoryview:
    if image is None:
        raise _error("image-missing", "expected an image, found None")
    path = image if isinstance(image, (str, os.PathLike)) else None
    if isinstance(image, Mapping) and "bytes" in image:
        path, image = image.get("path"), image["bytes"]
    if isinstance(image, (bytes, bytearray, memoryview)):
        # as unsigned bytes: views of Arrow memory are of signed ones
        return image if isinstance(image, bytes) else memoryview(image).cast("B")
    if path is None:
        expected = "expected bytes, {'bytes', 'path'}, a PIL image or an (H, W, 3) uint8 array"
        advice = "; tensors come from a format: use the rows without one, and tensors= of the collate"
        found = f"found {type(image).__name__}"
        raise _error("image-type", f"{expected}, {found}{advice if hasattr(image, 'detach') else ''}")
    return Path(path).read_bytes()


def _decode_pillow(data: Any, size: Any, expected: Any) -> tuple[Any, tuple[int, int]]:
    with Image.open(io.BytesIO(data)) as opened:
        real_size = (opened.height, opened.width)
        _check_size(real_size, expected)
        if size is not None:
            opened.draft("RGB", (_least(size[1]), _least(size[0])))
        # `convert` would copy an image that is RGB already
        if opened.mode != "RGB":
            return opened.convert("RGB"), real_size
        opened.load()
        return opened, real_size


def _decode_simplejpeg(data: Any, size: Any, expected: Any) -> tuple[Any, tuple[int, int]] | None:
    """Decode as `_decode_pillow` does; None for what that one shall decide: no plain JPEG, a huge or a damaged one."""
    found = jpeg_size(memoryview(data)) if bytes(data[:2]) == b"\xff\xd8" else None
    if found is None or not 0 < found[0] * found[1] <= (Image.MAX_IMAGE_PIXELS or math.inf):
        return None
    real_size = (found[1], found[0])
    _check_size(real_size, expected)
    height, width = (
        real_size if size is None else (min(_least(size[0]), real_size[0]), min(_least(size[1]), real_size[1]))
    )
    try:
        pixels = _simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=height, min_width=width, min_factor=1)
    except ValueError:
        return None
    return pixels, real_size


def _resize(opened: Any, real_size: Any, target: tuple[int, int], resample: Resample) -> NDArray[np.uint8]:
    """Bring what is decoded to the target; its geometry is that of the whole image, also where eighths were rounded."""
    found = opened.shape[:2] if isinstance(opened, np.ndarray) else (opened.height, opened.width)
    if tuple(found) == target:
        return np.array(opened) if not isinstance(opened, np.ndarray) else opened
    picture = Image.fromarray(opened) if isinstance(opened, np.ndarray) else opened
    height, width = (_unrounded(part, whole) for part, whole in zip(found, real_size, strict=True))
    # what DCT scaling has not done, or could not do, is done by averages of whole pixels
    factors = (max(1, int(width / _least(target[1]))), max(1, int(height / _least(target[0]))))
    if factors != (1, 1):
        picture, width, height = picture.reduce(factors), width / factors[0], height / factors[1]
    filter_ = Image.Resampling[resample.upper()]
    return np.array(picture.resize((target[1], target[0]), filter_, box=(0, 0, width, height)))


def _least(side: int) -> int:
    """Fewest pixels that may be enlarged to a side."""
    return math.ceil(side / _MAX_ENLARGEMENT)


def _unrounded(part: int, whole: int) -> float:
    """Give the exact length of a scaled side, of which the decoder made the next whole number of pixels."""
    eighths = min(round(part * _DCT_STEPS / whole), _DCT_STEPS)
    exact = whole * max(eighths, 1) / _DCT_STEPS
    return exact if math.ceil(exact) == part else part


def _check_size(found: tuple[int, int], expected: tuple[int, int] | None) -> None:
    if expected is not None and found != tuple(expected):
        message = f"expected an image of {expected[1]}x{expected[0]} pixels (w x h), found {found[1]}x{found[0]}"
        if found == (expected[1], expected[0]):
            message += "; if it was turned by its EXIF tag, read the bytes: cast to datasets.Image(decode=False)"
        raise _error("size-mismatch", message)


def _check_array(image: NDArray[Any]) -> None:
    if image.ndim != 3 or image.shape[2:] != _RGB or image.dtype != np.uint8 or not image.size:  # noqa: PLR2004
        raise _error("image-type", f"expected an (H, W, 3) array of uint8, found {image.shape} of {image.dtype}")


def _error(reason: str, message: str, image_id: int | None = None) -> ImageError:
    if image_id is None:
        return ImageError(message, reason=reason)
    return ImageError(f"sa_{image_id}.jpg: {message}", reason=reason, image_id=image_id)
