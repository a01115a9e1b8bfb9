"""The masks of one call, packed: what every kernel takes, and how a mask is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ._rle_text import diagnose
from .errors import RLEError

__all__ = ["Packed", "refuse"]


def refuse(index: int | None, reason: str, message: str, annotation_id: Any = None) -> NoReturn:
    """Raise an `RLEError` that names the mask, and its annotation where known."""
    where: dict[str, Any] = {} if index is None else {"mask": index}
    name = "" if index is None else f"mask {index}"
    if annotation_id is not None:
        where["annotation_id"] = int(annotation_id) if isinstance(annotation_id, np.integer) else annotation_id
        name += f" (annotation {annotation_id})"
    raise RLEError(f"{name}: {message}" if name else message, reason=reason, **where) from None


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """The masks of a call, without a Python object per mask.

    Attributes
    ----------
    text
        uint8, every counts string one after another (possibly with other bytes around them).
    offsets
        int64, shape (n + 1,): mask i is ``text[offsets[i]:offsets[i + 1]]``.
    sizes
        int64, shape (n, 2): height and width in pixels, within the caps.
    ids
        Annotation ids, where known.
    size
        Height and width of every mask, where that is known without a look at them all.

    """

    text: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    ids: Sequence[Any] | None = None
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    def counts(self, index: int) -> bytes:
        """Give the characters of one mask."""
        return self.text[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def common_size(self, advice: str) -> tuple[int, int]:
        """Give the one size that all masks have; (0, 0) if there are none."""
        if self.size is not None or not len(self):
            return self.size or (0, 0)
        different = self.sizes != self.sizes[0]
        height, width = map(int, self.sizes[0])
        if different.any():
            index = int(different.any(axis=1).argmax())
            found = "x".join(map(str, self.sizes[index]))
            self.fail(index, "mixed_sizes", f"size: expected {height}x{width} as for mask 0, found {found}; {advice}")
        return height, width

    def fail(self, index: int, reason: str, message: str) -> NoReturn:
        """Raise the error of one mask."""
        refuse(index, reason, message, None if self.ids is None else self.ids[index])

    def check(self, index: int) -> None:
        """Raise the error of one mask if its runs are malformed."""
        height, width = map(int, self.sizes[index])
        fault = diagnose(self.counts(index), height, width)
        if fault:
            self.fail(index, fault[0], f"counts: {fault[1]}")

    def fail_malformed(self, index: int) -> NoReturn:
        """Raise the error of a mask that a kernel refused."""
        self.check(index)
        self.fail(index, "malformed", "counts: refused by the decoder, though no fault is found")
