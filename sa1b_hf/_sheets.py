"""Many pictures on one: side by side, contact sheets, and the crops of masks sorted by label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

from . import rle
from ._mask_columns import NO_LABEL, MaskColumns, read_example, read_mask_columns
from ._overlay import blend_masks, text_font
from .errors import ConfigError
from .images import decode_image

__all__ = ["arrange", "cut_masks", "sheet_of_crops", "side_by_side"]

_GROUND: Final = (24, 25, 28)
_INK: Final = (226, 228, 233)
_GAP: Final = 8
_CAPTION: Final = 22
_MARGIN: Final = 0.2  # of a crop around its mask, as a share of the mask's larger side


def side_by_side(*pictures: Image.Image, gap: int = _GAP) -> Image.Image:
    """Put pictures next to one another, brought to the height of the lowest.

    Parameters
    ----------
    *pictures
        At least one.
    gap
        Pixels between them.

    Returns
    -------
    PIL.Image.Image
        RGB.

    """
    if not pictures:
        raise ConfigError("side_by_side: expected at least one picture, found none")
    height = min(picture.height for picture in pictures)
    scaled = [_scale(picture, height / picture.height) for picture in pictures]
    result = Image.new("RGB", (sum(one.width for one in scaled) + gap * (len(scaled) - 1), height), _GROUND)
    left = 0
    for one in scaled:
        result.paste(one, (left, 0))
        left += one.width + gap
    return result


def arrange(pictures: Iterable[tuple[Image.Image, str]], *, columns: int, tile: int) -> Image.Image:
    """Arrange pictures on a grid of square tiles, each with a caption under it.

    Parameters
    ----------
    pictures
        Pictures and their captions; they are scaled to fit.
    columns
        Tiles in a row.
    tile
        Side of a tile in pixels.

    Returns
    -------
    PIL.Image.Image
        RGB; as wide as the number of pictures needs.

    """
    if columns < 1 or tile < 1:
        raise ConfigError(f"expected columns= and tile= of 1 or more, found {columns} and {tile}")
    listed = [(_scale(picture, tile / max(picture.size)), caption) for picture, caption in pictures]
    caption_height = _CAPTION if any(caption for _, caption in listed) else 0
    across, down = min(columns, max(len(listed), 1)), max(-(-len(listed) // columns), 1)
    pitch = (tile + _GAP, tile + caption_height + _GAP)
    sheet = Image.new("RGB", (across * pitch[0] + _GAP, down * pitch[1] + _GAP), _GROUND)
    canvas, font = ImageDraw.Draw(sheet), text_font(13)
    for number, (picture, caption) in enumerate(listed):
        left, top = _GAP + number % columns * pitch[0], _GAP + number // columns * pitch[1]
        sheet.paste(picture, (left + (tile - picture.width) // 2, top + (tile - picture.height) // 2))
        canvas.text((left + tile // 2, top + tile + caption_height // 2), caption, _INK, font, anchor="mm")
    return sheet


def cut_masks(example: Any, tile: int) -> list[tuple[int, Image.Image]]:
    """Cut each mask of a row out of its image, with some of what surrounds it.

    Parameters
    ----------
    example
        A row with ``image`` and ``annotations``; of one with ``labels``, masks without a label are left out.
    tile
        Side in pixels that a crop fits into.

    Returns
    -------
    list of (int, PIL.Image.Image)
        Best label and crop, the mask outlined in its label's colour.

    """
    row = read_example(example)
    columns = read_mask_columns(row)
    wanted = np.flatnonzero(columns.label_ids != NO_LABEL) if columns.has_labels else np.arange(len(columns))
    if not len(wanted):
        return []
    image = Image.fromarray(decode_image(row.get("image"), image_id=row.get("image_id")))
    return [(int(columns.label_ids[position]), _cut(image, columns, int(position), tile)) for position in wanted]


def sheet_of_crops(
    crops: Mapping[int, Sequence[Image.Image]], names: Mapping[int, str], *, per_class: int, tile: int
) -> Image.Image:
    """Arrange crops, a line for each label, its name before it."""
    names_wide, font = max(tile, 120), text_font(14)
    width = names_wide + per_class * (tile + _GAP) + 2 * _GAP
    sheet = Image.new("RGB", (width, max(len(crops), 1) * (tile + _GAP) + _GAP), _GROUND)
    canvas = ImageDraw.Draw(sheet)
    for line, (label, pictures) in enumerate(crops.items()):
        top = _GAP + line * (tile + _GAP)
        text = names.get(label, f"label {label}" if label != NO_LABEL else "all masks")
        canvas.text((_GAP, top + tile // 2), text[:24], _INK, font, anchor="lm")
        for number, picture in enumerate(pictures[:per_class]):
            left = names_wide + _GAP + number * (tile + _GAP)
            sheet.paste(picture, (left + (tile - picture.width) // 2, top + (tile - picture.height) // 2))
    return sheet


def _cut(image: Image.Image, columns: MaskColumns, position: int, tile: int) -> Image.Image:
    x, y, w, h = columns.boxes_xywh[position]
    margin = max(w, h) * _MARGIN + 2
    window = (
        int(max(x - margin, 0)),
        int(max(y - margin, 0)),
        int(min(x + w + margin + 1, image.width)),
        int(min(y + h + margin + 1, image.height)),
    )
    mask = rle.decode([_one(columns.values, position)])[0]
    mask = np.ascontiguousarray(mask[window[1] : window[3], window[0] : window[2]])
    crop = image.crop(window)
    factor = tile / max(crop.size)
    crop = _scale(crop, factor)
    ids = np.asarray(Image.fromarray(mask).resize(crop.size, Image.Resampling.NEAREST))
    colour = columns.label_ids[position] if columns.has_labels else position
    return blend_masks(crop, ids, np.array([colour]), opacity=0.12)


def _one(values: Any, position: int) -> Any:
    value = values[position]
    return value.as_py() if hasattr(value, "as_py") else value


def _scale(picture: Image.Image, factor: float) -> Image.Image:
    size = tuple(max(1, round(side * factor)) for side in picture.size)
    return picture if size == picture.size else picture.resize((size[0], size[1]), Image.Resampling.BICUBIC)
