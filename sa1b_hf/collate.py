"""Examples of `DecodeMasks` → one batch: padded to the most masks, or end to end with offsets."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._memory import recycled_zeros
from .errors import ConfigError, MissingExtraError

__all__ = ["PER_MASK", "collate_concat", "collate_pad"]

PER_MASK = (
    "masks",
    "crop_boxes_xywh",
    "boxes_xywh",
    "points_xy",
    "annotation_ids",
    "areas",
    "predicted_iou",
    "stability_score",
)
"""What an example has one of for each mask; a label map is the exception, one for all."""

# What to fill up with; 0 for the others.
_FILL = {"points_xy": np.nan, "predicted_iou": np.nan, "stability_score": np.nan, "annotation_ids": -1}
_LABEL_MAP_NDIM = 2

Tensors = Literal["np", "pt"]
Example = Mapping[str, Any]


def collate_pad(
    examples: Sequence[Any], *, decode: Callable[[Any], Any] | None = None, tensors: Tensors = "np"
) -> dict[str, Any]:
    """Make a batch in which every image has as many masks.

    Parameters
    ----------
    examples
        What `DecodeMasks` gives for one row each; or rows, or Arrow tables, with `decode`.
    decode
        A `DecodeMasks` to apply first: ``functools.partial(collate_pad, decode=DecodeMasks())`` as ``collate_fn`` of a
        DataLoader over rows, also of ``with_format("arrow")``.
    tensors
        ``"np"`` for arrays, ``"pt"`` for torch tensors (unsigned types of 16 and 32 bits become signed ones of twice
        the width, for which torch has all operations).

    Returns
    -------
    dict
        ``image`` (B, H, W, 3) and ``masks`` (B, N, H, W), (B, N, H, W / 8) or, of label maps, (B, H, W), padded with 0
        at the bottom and right to the largest of the batch; the other values of masks (B, N, ...), padded with NaN,
        -1 (ids) or 0; ``valid`` (B, N) bool, False for padding; values of images (B, ...), as a list where they are
        text. Crops are a list of lists.

    Raises
    ------
    ConfigError
        There are no examples, or they do not fit together.
    MissingExtraError
        torch is not installed.

    """
    rows = _decoded(examples, decode)
    counts = [_count(row) for row in rows]
    batch: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        batch[name] = _stack(name, values, max(counts)) if _is_per_mask(name, values) else _collect(name, values)
    batch["valid"] = np.arange(max(counts)) < np.array(counts)[:, None]
    return _convert(batch, tensors)


def collate_concat(
    examples: Sequence[Any], *, decode: Callable[[Any], Any] | None = None, tensors: Tensors = "np"
) -> dict[str, Any]:
    """Make a batch in which the masks of all images follow one another.

    Parameters
    ----------
    examples, decode, tensors
        As for `collate_pad`.

    Returns
    -------
    dict
        As from `collate_pad`, but for masks and their values (sum of N, ...), crops in one list; ``offsets`` (B + 1,)
        int64: those of image i are ``offsets[i]:offsets[i + 1]``; ``image_index`` (sum of N,) int64: the image of each.

    Raises
    ------
    ConfigError, MissingExtraError
        As for `collate_pad`.

    """
    rows = _decoded(examples, decode)
    counts = np.array([_count(row) for row in rows])
    batch: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        batch[name] = _concatenate(name, values) if _is_per_mask(name, values) else _collect(name, values)
    batch["offsets"] = np.concatenate([[0], np.cumsum(counts)])
    batch["image_index"] = np.repeat(np.arange(len(rows)), counts)
    return _convert(batch, tensors)


def _decoded(examples: Iterable[Any], decode: Callable[[Any], Any] | None) -> list[Example]:
    rows: list[Example] = []
    for example in examples:
        row = example if decode is None else decode(example)
        rows += _split(row) if decode is not None and _is_batch(row) else [row]
    if not rows:
        raise ConfigError("examples: expected at least one, found none")
    for row in rows:
        if not isinstance(row, Mapping) or "annotation_ids" not in row:
            expected = "expected what DecodeMasks gives for one row; give decode= to apply it here"
            raise ConfigError(f"examples: {expected}, found {type(row).__name__}")
        if row.keys() != rows[0].keys():
            raise ConfigError(f"examples: expected the keys {sorted(rows[0])} in all, found {sorted(row)}")
    return rows


def _is_batch(row: Any) -> bool:
    # a table, even of one row, decodes to lists
    return isinstance(row, Mapping) and isinstance(row.get("annotation_ids"), list)


def _split(batch: Mapping[str, list[Any]]) -> list[Example]:
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def _count(row: Example) -> int:
    return len(row["annotation_ids"])


def _is_per_mask(name: str, values: Sequence[Any]) -> bool:
    is_label_map = name == "masks" and getattr(values[0], "ndim", 0) == _LABEL_MAP_NDIM
    return name in PER_MASK and not is_label_map


def _stack(name: str, values: list[Any], count: int) -> Any:
    if isinstance(values[0], list):
        return values
    if len(values) == 1:
        return values[0][None]  # nothing to pad, nothing to copy
    return _padded(name, values, (count,))


def _concatenate(name: str, values: list[Any]) -> Any:
    if isinstance(values[0], list):
        return [crop for crops in values for crop in crops]
    if len(values) == 1:
        return values[0]
    if len({value.shape[1:] for value in values}) == 1:
        return np.concatenate(values)
    widest = _largest_shape(name, values)[1:]
    result = _filled(name, (sum(map(len, values)), *widest), values[0].dtype)
    start = 0
    for value in values:
        _corner(result[start : start + len(value)], value)[...] = value
        start += len(value)
    return result


def _collect(name: str, values: list[Any]) -> Any:
    if name in ("image", "masks") and isinstance(values[0], np.ndarray):
        return values[0][None] if len(values) == 1 else _padded(name, values, ())
    if isinstance(values[0], (str, bytes, list, Mapping)) or values[0] is None:
        return values
    try:
        return np.stack(values)
    except ValueError as error:
        raise ConfigError(f"{name}: expected values of one shape: {error}") from error


def _padded(name: str, values: list[NDArray[Any]], first: tuple[int, ...]) -> NDArray[Any]:
    shape = _largest_shape(name, values)
    result = _filled(name, (len(values), *first, *shape[len(first) :]), values[0].dtype)
    for row, value in zip(result, values, strict=True):
        _corner(row, value)[...] = value
    return result


def _largest_shape(name: str, values: list[NDArray[Any]]) -> tuple[int, ...]:
    if len({(value.ndim, value.dtype) for value in values}) != 1:
        found = ", ".join(f"{value.shape} of {value.dtype}" for value in values)
        raise ConfigError(f"{name}: expected arrays of one type and number of axes, found {found}")
    return tuple(np.max([value.shape for value in values], axis=0).tolist())


def _corner(row: NDArray[Any], value: NDArray[Any]) -> NDArray[Any]:
    return row[tuple(slice(length) for length in value.shape)]


def _filled(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    fill = _FILL.get(name, 0)
    return recycled_zeros(shape, dtype) if fill == 0 else np.full(shape, fill, dtype)


def _convert(batch: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    if tensors == "np":
        return batch
    if tensors != "pt":
        raise ConfigError(f"tensors: expected 'np' or 'pt', found {tensors!r}")
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise MissingExtraError("tensors='pt'", "torch") from error
    return {name: _to_torch(value, torch) for name, value in batch.items()}


def _to_torch(value: Any, torch: Any) -> Any:
    if isinstance(value, list):
        return [_to_torch(one, torch) for one in value]
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "u" and value.dtype.itemsize > 1:
        value = value.astype(f"i{2 * value.dtype.itemsize}")
    return torch.from_numpy(value if value.flags.writeable else value.copy())
