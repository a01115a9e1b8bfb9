"""What the parts of an example for vision-language training must be, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from sa1b_hf.errors import RecordError

__all__ = ["Check"]

_IMAGE, _MASKS = 3, 3
_CHANNELS = 3


class Check:
    """The checks of each stage, whose errors name the image.

    Parameters
    ----------
    image_id
        Of the image; None if unknown.

    """

    def __init__(self, image_id: Any) -> None:
        self._image_id = image_id

    def fail(self, stage: str, message: str) -> NoReturn:
        """Raise the error of a stage."""
        place = "" if self._image_id is None else f"sa_{self._image_id}: "
        raise RecordError(f"{place}{stage}: {message}", reason=stage, image_id=self._image_id)

    def image(self, image: Any) -> None:
        """Refuse what is no RGB image."""
        shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
        if dtype != np.uint8 or len(shape or ()) != _IMAGE or image.shape[2] != _CHANNELS or not image.size:
            self.fail("image", f"expected uint8 of shape (h, w, 3), found {_found(image)}")

    def masks(self, masks: Any, image: NDArray[np.uint8]) -> None:
        """Refuse masks that are not of the image's size, or not binary."""
        size = image.shape[:2]
        if not isinstance(masks, np.ndarray) or masks.ndim != _MASKS or masks.shape[1:] != size:
            self.fail("masks", f"expected shape (N, {size[0]}, {size[1]}) as the image has it, found {_found(masks)}")
        if masks.dtype not in (np.bool_, np.uint8) or (masks.size and masks.max() > 1):
            self.fail("masks", f"expected bool, or uint8 of 0 and 1, found {masks.dtype}, up to {masks.max()}")

    def text(self, text: Any) -> None:
        """Refuse texts that are none, or empty."""
        if isinstance(text, str) or not isinstance(text, Sequence):
            self.fail("text", f"expected a list of str, found {type(text).__name__}")
        if not text:
            self.fail("text", "expected at least one, found none")
        for index, one in enumerate(text):
            if not isinstance(one, str) or not one.strip():
                self.fail("text", f"expected str that are not empty, found {one!r} at {index}")

    def relevance(self, relevance: Any, num_masks: int, num_texts: int) -> NDArray[np.float32]:
        """Refuse relevance of another shape or range; give it as float32."""
        table = np.asarray(relevance)
        if table.shape != (num_masks, num_texts) or table.dtype.kind not in "fiub":
            expected = f"expected numbers of shape ({num_masks}, {num_texts}), masks by texts"
            self.fail("relevance", f"{expected}, found {_found(table)}")
        table = table.astype(np.float32)
        # negated, so that NaN fails
        if table.size and not (table.min() >= 0 and table.max() <= 1):
            index = np.unravel_index(int(np.argmax(~((table >= 0) & (table <= 1)))), table.shape)
            place = f"mask {index[0]} and text {index[1]}"
            self.fail("relevance", f"expected 0 to 1, found {table[index]} for {place}")
        return table

    def features(self, features: Mapping[str, Any], num_masks: int, num_texts: int) -> None:
        """Refuse features that are not one row for each mask or text, or not of one length."""
        leading = {"masks": (num_masks,), "text": (num_texts,), "image": ()}
        if unknown := sorted(set(features) - set(leading)):
            self.fail("features", f"expected names of {sorted(leading)}, found {unknown}")
        arrays = {name: np.asarray(value) for name, value in features.items()}
        for name, array in arrays.items():
            if array.ndim != len(leading[name]) + 1 or array.shape[:-1] != leading[name]:
                expected = f"({', '.join([*map(str, leading[name]), 'D'])})"
                self.fail("features", f"expected {name!r} of shape {expected}, found {_found(array)}")
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                self.fail("features", f"expected finite floating point in {name!r}, found {_found(array)}")
        if len({array.shape[-1] for array in arrays.values()}) > 1:
            lengths = {name: array.shape[-1] for name, array in arrays.items()}
            self.fail("features", f"expected one length D for all, found {lengths}")


def _found(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{tuple(value.shape)} of {value.dtype}"
    return type(value).__name__
