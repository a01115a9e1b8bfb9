"""What a labeler is given and what it gives back, an image at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa1b_hf.errors import ConfigError
from sa1b_hf.images import Resample, decode_image

from ._provenance import Provenance

__all__ = ["ABSTAINED", "ImageMasks", "Labeler", "MaskLabels"]

ABSTAINED = -1
"""The label id of a mask that no class was given to."""

_MATRIX = 2


@dataclass(frozen=True, eq=False)
class ImageMasks:
    """One image and its N masks.

    Attributes
    ----------
    image
        Bytes of a JPEG, ``{"bytes", "path"}``, a PIL image or an array (H, W, 3); None if the row has none.
    size
        (H, W) of the image in pixels.
    masks
        Run lengths as `sa1b_hf.rle` takes them, annotations included.
    boxes_xywh
        float64, shape (N, 4): XYWH in pixels, in SA-1B's convention, in which w is xmax - xmin.
    annotation_ids
        int64, shape (N,).
    image_id, file_name, shard
        Of the row, as far as it has them.

    """

    image: Any
    size: tuple[int, int]
    masks: Any
    boxes_xywh: NDArray[np.float64]
    annotation_ids: NDArray[np.int64]
    image_id: int | None = None
    file_name: str | None = None
    shard: str | None = None

    def __len__(self) -> int:
        return len(self.annotation_ids)

    def pixels(self, size: tuple[int, int] | None = None, resample: Resample = "bilinear") -> NDArray[np.uint8]:
        """Decode the image.

        Parameters
        ----------
        size
            (h, w) in pixels to bring it to, by scaled decoding as far as that goes; its own by default.
        resample
            Filter of the resize.

        Returns
        -------
        NDArray[np.uint8]
            Shape (h, w, 3), RGB.

        Raises
        ------
        ImageError
            There is none, it cannot be decoded, or it has another size than its masks.

        """
        return decode_image(self.image, size, original_size=self.size, resample=resample, image_id=self.image_id)


@dataclass(frozen=True, eq=False)
class MaskLabels:
    """Labels of the N masks of an image, best first.

    Attributes
    ----------
    label_ids
        int32, shape (N, K): places in the vocabulary's names; `ABSTAINED` where there are fewer than K, and in the
        first place for a mask that has no label.
    scores
        float32, shape (N, K); of an abstained mask the first one is what the background got, 0 if nothing was found
        at all, NaN if the model gave no number.
    margin
        float32, shape (N,): the best score less the next best of any class, background included; NaN if unknown.
    entropy
        float32, shape (N,): in nats, of all scores brought to a sum of one; NaN if unknown.
    embeddings
        float16, shape (N, D), of length one; None for none.

    Raises
    ------
    ConfigError
        The shapes do not fit each other.

    """

    label_ids: NDArray[np.int32]
    scores: NDArray[np.float32]
    margin: NDArray[np.float32]
    entropy: NDArray[np.float32]
    embeddings: NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        dtypes = {"label_ids": np.int32, "scores": np.float32, "margin": np.float32, "entropy": np.float32}
        for name, dtype in dtypes.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        if self.embeddings is not None:
            object.__setattr__(self, "embeddings", np.asarray(self.embeddings, np.float16))
        if self.label_ids.ndim != _MATRIX or not self.label_ids.shape[1] or self.scores.shape != self.label_ids.shape:
            found = f"{self.label_ids.shape} and {self.scores.shape}"
            raise ConfigError(f"label_ids, scores: expected one shape (N, K), K of 1 or more, found {found}")
        count = len(self.label_ids)
        if self.margin.shape != (count,) or self.entropy.shape != (count,):
            found = f"{self.margin.shape} and {self.entropy.shape}"
            raise ConfigError(f"margin, entropy: expected shape ({count},), found {found}")
        if self.embeddings is not None and (self.embeddings.ndim != _MATRIX or len(self.embeddings) != count):
            raise ConfigError(f"embeddings: expected shape ({count}, D), found {self.embeddings.shape}")

    def __len__(self) -> int:
        return len(self.label_ids)

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """Which masks have no label, shape (N,)."""
        return np.asarray(self.label_ids[:, 0] == ABSTAINED)

    @property
    def not_finite(self) -> NDArray[np.bool_]:
        """Which masks the model gave no number for, shape (N,)."""
        return self.abstained & np.isnan(self.scores[:, 0])

    @classmethod
    def nothing(cls, count: int, embedding_dim: int | None = None) -> MaskLabels:
        """Abstain from all of N masks."""
        embeddings = None if embedding_dim is None else np.zeros((count, embedding_dim), np.float16)
        unknown = np.full(count, np.nan, np.float32)
        ids = np.full((count, 1), ABSTAINED, np.int32)
        return cls(ids, np.zeros((count, 1), np.float32), unknown, unknown, embeddings)

    @classmethod
    def from_scores(
        cls,
        scores: ArrayLike,
        *,
        top_k: int = 5,
        num_names: int | None = None,
        min_score: float = 0.0,
        embeddings: NDArray[Any] | None = None,
    ) -> MaskLabels:
        """Choose the best classes from the scores of all of them.

        Parameters
        ----------
        scores
            Shape (N, C), 0 or more: probabilities, similarities …; the names' columns, then those of background words.
        top_k
            Most labels of a mask.
        num_names
            How many of the columns are names; all by default.
        min_score
            Masks whose best score is lower are abstained from.
        embeddings
            Shape (N, D), to keep with the labels.

        Returns
        -------
        MaskLabels
            Abstained where a background word is best, and where a score is NaN or infinite.

        Raises
        ------
        ConfigError
            `scores` has another shape or no names, or `top_k` is less than 1.

        """
        table = np.asarray(scores, np.float32)
        if table.ndim != _MATRIX or not table.shape[1]:
            raise ConfigError(f"scores: expected shape (N, C), C of 1 or more, found {table.shape}")
        names = table.shape[1] if num_names is None else num_names
        if not 1 <= names <= table.shape[1] or top_k < 1:
            raise ConfigError(f"num_names, top_k: expected 1 to {table.shape[1]}, and 1 or more: {names}, {top_k}")
        finite = np.asarray(np.isfinite(table).all(axis=1))
        table = np.where(finite[:, None], table, 0)
        order = np.argsort(-table[:, :names], axis=1, kind="stable")[:, :top_k].astype(np.int32)
        best = np.take_along_axis(table, order, axis=1)
        background = table[:, names:].max(axis=1, initial=-np.inf)
        drop = (background > best[:, 0]) | (best[:, 0] < min_score) | ~finite
        best[drop, 0] = np.maximum(best[:, 0], background)[drop]
        order[drop] = ABSTAINED
        best[~finite, 0] = np.nan
        margin, entropy = _margin(table), _entropy(table)
        margin[~finite] = entropy[~finite] = np.nan
        return cls(order, best, margin, entropy, None if embeddings is None else np.asarray(embeddings, np.float16))


def _margin(table: NDArray[np.float32]) -> NDArray[np.float32]:
    if table.shape[1] == 1:
        return np.array(table[:, 0])
    top = -np.partition(-table, 1, axis=1)[:, :2]
    return np.asarray(top[:, 0] - top[:, 1], np.float32)


def _entropy(table: NDArray[np.float32]) -> NDArray[np.float32]:
    share = table / np.maximum(table.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    logs = np.log(share, where=share > 0, out=np.zeros_like(share))
    return np.asarray(-(share * logs).sum(axis=1), np.float32)


@runtime_checkable
class Labeler(Protocol):
    """Anything that names masks.

    Attributes
    ----------
    provenance
        What decides about the labels. Its fingerprint tells labelers apart, also in caches.

    """

    @property
    def provenance(self) -> Provenance: ...

    def label(self, images: Sequence[ImageMasks]) -> Sequence[MaskLabels]:
        """Label the masks of a batch of images.

        Parameters
        ----------
        images
            Any number, some perhaps without masks.

        Returns
        -------
        Sequence[MaskLabels]
            One per image, in the same order, with one row per mask.

        """
        ...
