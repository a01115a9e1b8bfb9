"""Pictures: masks over images, contact sheets, crops by label, distributions, and a widget for notebooks.

A row is what `datasets` gives, in any of its forms, or one row of an Arrow table. Masks that are chosen with ``keep=``
and ``labels=`` are drawn in the colours that they have among all: a filter changes no colour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from . import rle
from ._figures import plot_distributions
from ._id_map import describe_mask
from ._mask_columns import NO_LABEL, Keep, MaskColumns, choose_masks, read_example, read_mask_columns
from ._notebook import MaskWidget
from ._overlay import blend_masks, draw_boxes, draw_captions, draw_points
from ._palette import NUM_COLOURS, colours_of, palette
from ._sheets import arrange, cut_masks, sheet_of_crops, side_by_side
from ._statistics import Histogram, MaskStatistics, collect_statistics
from .errors import ConfigError
from .images import decode_image, image_size

__all__ = [
    "NO_LABEL",
    "NUM_COLOURS",
    "Histogram",
    "Keep",
    "LabelNames",
    "MaskStatistics",
    "MaskWidget",
    "class_sheet",
    "collect_statistics",
    "colours_of",
    "contact_sheet",
    "draw",
    "palette",
    "plot_distributions",
    "plot_masks",
    "show",
    "side_by_side",
]

LabelNames: TypeAlias = Sequence[str] | Mapping[int, str] | None
"""Names of label ids: by position, or by id."""

_MAX_EXAMPLES: Final = 10_000
_UNLABELLED: Final = NUM_COLOURS - 1  # the colour of masks without a label, far from those of the first labels


@dataclass(frozen=True, slots=True)
class _Scene:
    """One row, decoded at the size it is drawn at."""

    row: dict[str, Any]
    columns: MaskColumns
    chosen: NDArray[np.int64]
    image: Image.Image
    ids: NDArray[np.unsignedinteger]
    scale_xy: tuple[float, float]

    def colours(self, colour_by: Literal["mask", "label"]) -> NDArray[np.int64]:
        """Give the index of each chosen mask's colour."""
        if colour_by == "mask":
            return self.chosen
        labels = self.columns.label_ids[self.chosen]
        return np.where(labels == NO_LABEL, _UNLABELLED, labels)

    def boxes(self) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = self.columns.boxes_xywh[self.chosen] * np.array(self.scale_xy * 2)
        return scaled


def draw(
    example: Any,
    *,
    size: int | None = None,
    keep: Keep = None,
    labels: Collection[int] | None = None,
    masks: bool = True,
    boxes: bool = False,
    points: bool = False,
    captions: bool = False,
    label_names: LabelNames = None,
    colour_by: Literal["mask", "label"] = "mask",
    opacity: float = 0.5,
    outline: bool = True,
) -> Image.Image:
    """Draw the masks of a row over its image, small ones over large ones.

    Parameters
    ----------
    example
        A row with ``image`` and ``annotations``, and ``labels`` where labels are asked for.
    size
        Pixels of the longer side of the result; the image's own size by default.
    keep
        Masks to draw: an `AnnotationFilter`, positions, or a truth value for each.
    labels
        Label ids: draw only masks whose best label is one of them.
    masks, boxes, points
        What to draw of each mask.
    captions
        Write each mask's label, or else its predicted IoU.
    label_names
        Names of label ids.
    colour_by
        ``"mask"``: each mask has its own colour. ``"label"``: each label has.
    opacity
        Of the masks, 0 to 1.
    outline
        Draw the borders of masks in full colour.

    Returns
    -------
    PIL.Image.Image
        RGB.

    Raises
    ------
    ImageError, RLEError, AnnotationError
        The row is unusable.
    ConfigError
        An option makes no sense.

    """
    if not 0 <= opacity <= 1:
        raise ConfigError(f"opacity: expected 0 to 1, found {opacity!r}")
    if colour_by not in ("mask", "label"):
        raise ConfigError(f"colour_by: expected 'mask' or 'label', found {colour_by!r}")
    scene = _prepare(example, size, keep, labels)
    indices = scene.colours(colour_by)
    result = scene.image
    if masks and len(scene.chosen):
        result = blend_masks(result, scene.ids, indices, opacity=opacity, outline=outline)
    if boxes:
        draw_boxes(result, scene.boxes(), colours_of(indices))
    if points:
        draw_points(result, scene.columns.points_xy[scene.chosen] * scene.scale_xy, colours_of(indices))
    if captions:
        draw_captions(result, _captions(scene, names_of(label_names)), scene.boxes())
    return result


def show(
    example: Any,
    *,
    size: int = 640,
    keep: Keep = None,
    labels: Collection[int] | None = None,
    label_names: LabelNames = None,
    colour_by: Literal["mask", "label"] = "mask",
    opacity: float = 0.5,
) -> MaskWidget:
    """Show a row in a notebook; pointing at a mask shows its id, label, area and scores.

    Parameters
    ----------
    example, keep, labels, label_names, colour_by, opacity
        As for `draw`.
    size
        Pixels of the longer side; large images make large notebooks.

    Returns
    -------
    MaskWidget
        Displays itself at the end of a cell. Without scripts, as on GitHub, it is a picture.

    """
    scene = _prepare(example, size, keep, labels)
    names, columns = names_of(label_names), scene.columns
    texts = [describe_mask(columns, position, names) for position in scene.chosen.tolist()]
    picture = blend_masks(scene.image, scene.ids, scene.colours(colour_by), opacity=opacity)
    return MaskWidget(picture, scene.ids, texts, str(scene.row.get("file_name") or "image"))


def plot_masks(example: Any, **options: Any) -> Image.Image:
    """Draw the image beside the same image with masks; options as for `draw`."""
    return side_by_side(draw(example, masks=False, size=options.get("size")), draw(example, **options))


def contact_sheet(examples: Iterable[Any], *, columns: int = 4, tile: int = 320, **options: Any) -> Image.Image:
    """Draw many rows on one sheet.

    Parameters
    ----------
    examples
        Rows.
    columns
        Pictures in a line.
    tile
        Pixels of each picture's longer side.
    **options
        As for `draw`.

    Returns
    -------
    PIL.Image.Image
        RGB; each picture has its file name and number of masks below it.

    """
    tiles = []
    for example in examples:
        row = read_example(example)
        count = len(choose_masks(read_mask_columns(row), options.get("keep"), options.get("labels"), row=row))
        caption = f"{row.get('file_name') or row.get('image_id')} · {count} masks"
        tiles.append((draw(row, size=tile, **options), caption))
        _check_count(len(tiles))
    return arrange(tiles, columns=columns, tile=tile)


def class_sheet(
    examples: Iterable[Any],
    *,
    label_names: LabelNames = None,
    labels: Sequence[int] | None = None,
    per_class: int = 8,
    tile: int = 112,
) -> Image.Image:
    """Draw the crops of masks, a line for each label.

    Parameters
    ----------
    examples
        Rows with ``labels``; of rows without, all masks are in one line.
    label_names
        Names of label ids.
    labels
        Label ids to show, in this order; by default all that occur, the most frequent first.
    per_class
        Crops in a line, the first that come.
    tile
        Pixels of a crop's longer side.

    Returns
    -------
    PIL.Image.Image
        RGB.

    """
    found: dict[int, list[Image.Image]] = {}
    counts: dict[int, int] = {}
    for example in examples:
        for label, crop in cut_masks(example, tile):
            counts[label] = counts.get(label, 0) + 1
            if len(found.setdefault(label, [])) < per_class:
                found[label].append(crop)
    order = sorted(found, key=lambda label: -counts[label]) if labels is None else labels
    lines = {label: found.get(label, []) for label in order}
    return sheet_of_crops(lines, names_of(label_names), per_class=per_class, tile=tile)


def names_of(label_names: LabelNames) -> dict[int, str]:
    """Give names by label id."""
    if label_names is None:
        return {}
    pairs = label_names.items() if isinstance(label_names, Mapping) else enumerate(label_names)
    return {int(label): str(name) for label, name in pairs}


def _prepare(example: Any, size: int | None, keep: Keep, labels: Collection[int] | None) -> _Scene:
    row = read_example(example)
    columns = read_mask_columns(row)
    chosen = choose_masks(columns, keep, labels, row=row)
    height, width = image_size(row.get("image")) if row.get("image") is not None else (row["height"], row["width"])
    target = _target(height, width, size)
    pixels = decode_image(row.get("image"), target, original_size=(height, width), image_id=row.get("image_id"))
    ids = rle.label_map(_take(columns.values, chosen), target) if len(chosen) else np.zeros(target, np.uint8)
    scale_xy = (target[1] / width, target[0] / height)
    return _Scene(row, columns, chosen, Image.fromarray(pixels), ids, scale_xy)


def _target(height: int, width: int, size: int | None) -> tuple[int, int]:
    if size is None:
        return height, width
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigError(f"size: expected pixels of the longer side, at least 1, found {size!r}")
    factor = size / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _take(values: Any, chosen: NDArray[np.int64]) -> Any:
    if len(chosen) == len(values):
        return values
    return values.take(pa.array(chosen)) if isinstance(values, pa.Array) else [values[i] for i in chosen.tolist()]


def _captions(scene: _Scene, names: dict[int, str]) -> list[str]:
    columns = scene.columns
    if not columns.has_labels:
        scores = columns.predicted_iou[scene.chosen].tolist()
        return ["" if np.isnan(score) else f"{score:.2f}" for score in scores]
    labels = columns.label_ids[scene.chosen].tolist()
    return ["" if label == NO_LABEL else names.get(label, f"label {label}") for label in labels]


def _check_count(count: int) -> None:
    if count > _MAX_EXAMPLES:
        raise ConfigError(f"examples: expected at most {_MAX_EXAMPLES:,} on one sheet; take some with itertools.islice")
