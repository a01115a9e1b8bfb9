"""Hypothesis strategies for masks, their RLE, and whole documents."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from sa1b_hf.errors import MissingExtraError

from .masks import make_blob

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingExtraError("sa1b_hf.testing.strategies", "testing") from error

__all__ = ["documents", "masks", "rles"]

_BLOB_SIDE = 6  # pixels: a shorter image has no room for a blob
_INT64 = 2**63 - 1


def _noise(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    noise: NDArray[np.bool_] = rng.random((height, width)) < rng.random()
    return noise


def _rows(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return np.repeat(_noise(rng, height, 1), width, 1)


def _columns(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return np.repeat(_noise(rng, 1, width), height, 0)


def _pixel(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), np.bool_)
    mask[rng.integers(height), rng.integers(width)] = True
    return mask


def _blob(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    if min(height, width) < _BLOB_SIDE:
        return _noise(rng, height, width)
    mask = np.zeros((height, width), np.bool_)
    patch = make_blob(rng, height * width * rng.uniform(0.05, 0.5), height=height, width=width)[:height, :width]
    top, left = rng.integers(height - patch.shape[0] + 1), rng.integers(width - patch.shape[1] + 1)
    mask[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    return mask


def _empty(_rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return np.zeros((height, width), np.bool_)


def _full(_rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return np.ones((height, width), np.bool_)


_KINDS = (_empty, _full, _pixel, _rows, _columns, _noise, _blob)


@st.composite
def masks(
    draw: st.DrawFn,
    heights: st.SearchStrategy[int] | None = None,
    widths: st.SearchStrategy[int] | None = None,
) -> NDArray[np.bool_]:
    """Draw dense masks: empty, full, a pixel, rows, columns, noise or a blob.

    Parameters
    ----------
    draw
        Given by Hypothesis.
    heights, widths
        Sizes in pixels; 1 to 40 by default.

    Returns
    -------
    NDArray[np.bool_]
        Shape (height, width), C order.

    """
    height = draw(st.integers(1, 40) if heights is None else heights)
    width = draw(st.integers(1, 40) if widths is None else widths)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return draw(st.sampled_from(_KINDS))(rng, height, width)


def _encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


@st.composite
def rles(
    draw: st.DrawFn,
    heights: st.SearchStrategy[int] | None = None,
    widths: st.SearchStrategy[int] | None = None,
) -> dict[str, Any]:
    """Draw valid ``segmentation`` objects by pycocotools: ``size`` [h, w], and ``counts``, COCO RLE text."""
    return _encode(draw(masks(heights, widths)))


def _numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """Finite numbers, half of them exact in float32 as the real ones are, half with all digits of a float64."""
    narrow = st.floats(float(np.float32(low)), float(np.float32(high)), width=32)
    return st.one_of(narrow, st.floats(low, high))


def _box(mask: NDArray[np.bool_]) -> list[float]:
    """XYWH in pixels, w and h one less than COCO's; zeros for an empty mask."""
    if not mask.any():
        return [0.0, 0.0, 0.0, 0.0]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = float(rows[0]), float(columns[0])
    return [left, top, float(columns[-1]) - left, float(rows[-1]) - top]


@st.composite
def _annotations(draw: st.DrawFn, height: int, width: int) -> dict[str, Any]:
    mask = draw(masks(st.just(height), st.just(width)))
    return {
        "bbox": _box(mask),
        "area": int(mask.sum()),
        "segmentation": _encode(mask),
        "predicted_iou": draw(_numbers(0.0, 2.0)),
        "point_coords": [[draw(_numbers(0.0, width)), draw(_numbers(0.0, height))]],
        "crop_box": [0.0, 0.0, float(width), float(height)],
        "id": draw(st.integers(0, _INT64)),
        "stability_score": draw(_numbers(0.0, 1.0)),
    }


@st.composite
def documents(draw: st.DrawFn, max_annotations: int = 6, image_ids: st.SearchStrategy[int] | None = None) -> Any:
    """Draw whole documents in Meta's keys and key order, valid, but with odd numbers.

    Parameters
    ----------
    draw
        Given by Hypothesis.
    max_annotations
        Most annotations in a document; there may be none.
    image_ids
        1 to 2**31-1 by default.

    Returns
    -------
    dict
        ``image`` and ``annotations``; all text is ASCII; ids reach 2**63-1 and are unique; floats are those of float32
        or of float64, subnormal ones included.

    """
    image_id = draw(st.integers(1, 2**31 - 1) if image_ids is None else image_ids)
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    annotations = draw(
        st.lists(_annotations(height, width), max_size=max_annotations, unique_by=lambda annotation: annotation["id"])
    )
    image = {"image_id": image_id, "width": width, "height": height, "file_name": f"sa_{image_id}.jpg"}
    return {"image": image, "annotations": annotations}
