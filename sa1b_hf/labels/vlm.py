"""Examples to train vision-language models with: image, masks, texts, and how much each mask has to do with each text.

Every stage is checked before the next one runs, and an error says which one went wrong, in which image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa1b_hf._rows import split_rows
from sa1b_hf.errors import ConfigError, RecordError
from sa1b_hf.masks import DecodeMasks

from ._batching import read_images
from ._vlm_checks import Check
from .base import ABSTAINED, ImageMasks

__all__ = ["FromLabels", "VLMBuilder", "VLMExample"]

_COLUMNS = ("image", "image_id", "width", "height", "file_name", "shard", "annotations")


@dataclass(frozen=True, eq=False)
class VLMExample:
    """One image with N masks and T texts; it cannot be made of parts that do not fit each other.

    Attributes
    ----------
    image
        uint8, shape (h, w, 3), RGB.
    masks
        bool or uint8 of 0 and 1, shape (N, h, w).
    text
        T strings, none empty.
    relevance
        float32, shape (N, T), 0 to 1.
    metadata
        What is known besides; ``"image_id"`` is named in errors.
    features
        Arrays of one length D: ``"masks"`` (N, D), ``"text"`` (T, D), ``"image"`` (D,), each if there are such.

    Raises
    ------
    RecordError
        ``reason`` is the stage: ``"image"``, ``"masks"``, ``"text"``, ``"relevance"`` or ``"features"``.

    """

    image: NDArray[np.uint8]
    masks: NDArray[Any]
    text: Sequence[str]
    relevance: NDArray[np.float32]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check = Check(self.metadata.get("image_id"))
        check.image(self.image)
        check.masks(self.masks, self.image)
        check.text(self.text)
        object.__setattr__(self, "text", tuple(self.text))
        relevance = check.relevance(self.relevance, len(self.masks), len(self.text))
        object.__setattr__(self, "relevance", relevance)
        check.features(self.features, len(self.masks), len(self.text))

    def to_dict(self) -> dict[str, Any]:
        """Give the attributes as a flat mapping, features as ``"features_masks"`` and so on."""
        parts = {name: value for name, value in vars(self).items() if name != "features"}
        return parts | {f"features_{name}": value for name, value in self.features.items()}


@dataclass(frozen=True)
class FromLabels:
    """Texts and relevance from a column of labels: a text for each class of the image, the scores for relevance.

    Attributes
    ----------
    names
        Of label ids.
    template
        Sentence with one ``{}`` for the name.
    column
        Of the labels.

    """

    names: Sequence[str]
    template: str = "{}"
    column: str = "labels"

    def texts(self, row: Mapping[str, Any]) -> list[str]:
        """Give a text for each class of a row, in the order of their ids."""
        found = {label for one in self._labels(row).values() for label in one}
        return [self.template.format(self.names[label]) for label in sorted(found)]

    def relevance(self, row: Mapping[str, Any], image: ImageMasks, texts: Sequence[str]) -> NDArray[np.float32]:
        """Give the score of each mask for each text, 0 for classes that it was not given; shape (N, T)."""
        labels = self._labels(row)
        table = np.zeros((len(image), len(texts)), np.float32)
        place = {text: index for index, text in enumerate(texts)}
        for mask, annotation_id in enumerate(image.annotation_ids.tolist()):
            for label, value in labels.get(annotation_id, {}).items():
                if (index := place.get(self.template.format(self.names[label]))) is not None:
                    table[mask, index] = value
        return table

    def _labels(self, row: Mapping[str, Any]) -> dict[int, dict[int, float]]:
        """Scores of each label of each mask."""
        if self.column not in row:
            raise ConfigError(f"expected a column {self.column!r} of labels, found {sorted(row)}")
        value = row[self.column]
        labels = value.as_py() if hasattr(value, "as_py") else value
        found = {}
        for one in labels:
            pairs = zip(one["label_ids"], one["scores"], strict=True)
            found[one["annotation_id"]] = {label: value for label, value in pairs if label != ABSTAINED}
        return found


class VLMBuilder:
    """Makes examples of rows; a hook for `map` and `with_transform`.

    Parameters
    ----------
    text
        Column of a text or of several; or a function that takes a row and gives texts; or fixed texts; or `FromLabels`.
    relevance
        A labeler with a method ``relevance(images, texts)``, such as `ClipLabeler`; or a function that takes the same,
        a list of one `ImageMasks` and the texts, and gives a list of one array (N, T). Not with `FromLabels`.
    decode
        How image and masks are decoded; in the layout ``"stack"``, without padding.
    features
        Function that takes an `ImageMasks` and the texts and gives arrays, see `VLMExample`.
    metadata
        Further columns to pass on.

    Raises
    ------
    ConfigError
        The options do not go together.

    """

    def __init__(
        self,
        text: str | Sequence[str] | Callable[[Mapping[str, Any]], Sequence[str]] | FromLabels,
        relevance: Any = None,
        *,
        decode: DecodeMasks | None = None,
        features: Callable[[ImageMasks, Sequence[str]], Mapping[str, NDArray[Any]]] | None = None,
        metadata: Sequence[str] = ("file_name", "shard"),
    ) -> None:
        if (relevance is None) != isinstance(text, FromLabels):
            expected = "expected a labeler or a function, or none and text=FromLabels(...)"
            raise ConfigError(f"relevance: {expected}, found {type(relevance).__name__}")
        self._decode = DecodeMasks() if decode is None else decode
        if (
            not self._decode.image
            or self._decode.layout != "stack"
            or self._decode.pad
            or self._decode.mode != "nearest"
        ):
            raise ConfigError("decode: expected image=True, layout='stack', mode='nearest' and pad=False, found others")
        self._text, self._features, self._metadata = text, features, tuple(metadata)
        self._relevance = getattr(relevance, "relevance", relevance)

    def __call__(self, data: Any) -> dict[str, Any]:
        """Make examples.

        Parameters
        ----------
        data
            A row, a batch of `datasets` or an Arrow table.

        Returns
        -------
        dict
            `VLMExample.to_dict` of a row; of several rows a list of them under each name.

        Raises
        ------
        RecordError
            An image, mask or text is unusable, or a function gave what does not fit; ``reason`` tells the stage.
        ConfigError
            A column is missing.

        """
        rows = split_rows(data, (*_COLUMNS, *self._columns()))
        if rows is None:
            return self.build(data).to_dict()
        examples = [self.build(row).to_dict() for row in rows]
        return {name: [one[name] for one in examples] for name in (examples[0] if examples else ())}

    def build(self, row: Mapping[str, Any]) -> VLMExample:
        """Make one example; see `__call__`."""
        decoded = self._decode(row)
        (whole,) = read_images({name: row[name] for name in _COLUMNS if name in row})
        image = _take(whole, decoded["annotation_ids"])
        check = Check(image.image_id)
        check.image(decoded["image"])
        check.masks(decoded["masks"], decoded["image"])
        texts = self._texts(row)
        check.text(texts)
        relevance = self._relate(row, image, texts, check)
        features = {} if self._features is None else dict(self._features(image, texts))
        known = ("image_id", "annotation_ids", "boxes_xywh", "original_size", "scale_xy")
        metadata = {name: decoded[name] for name in known} | {name: row.get(name) for name in self._metadata}
        return VLMExample(decoded["image"], decoded["masks"], texts, relevance, metadata, features)

    def _columns(self) -> tuple[str, ...]:
        named = (self._text,) if isinstance(self._text, str) else ()
        labels = (self._text.column,) if isinstance(self._text, FromLabels) else ()
        return (*named, *labels, *(name for name in self._metadata if name not in _COLUMNS))

    def _texts(self, row: Mapping[str, Any]) -> list[str]:
        if isinstance(self._text, FromLabels):
            return self._text.texts(row)
        if callable(self._text):
            found: Any = self._text(row)
        elif isinstance(self._text, str):
            if self._text not in row:
                raise ConfigError(f"text: expected a column {self._text!r}, found {sorted(row)}")
            found = row[self._text]
            found = found.as_py() if hasattr(found, "as_py") else found
        else:
            found = self._text
        return [found] if isinstance(found, str) else list(found or ())

    def _relate(self, row: Mapping[str, Any], image: ImageMasks, texts: Sequence[str], check: Check) -> Any:
        if isinstance(self._text, FromLabels):
            return self._text.relevance(row, image, texts)
        tables = list(self._relevance([image], texts))
        if len(tables) != 1:
            check.fail("relevance", f"expected one array for one image, found {len(tables)}")
        return check.relevance(tables[0], len(image), len(texts))


def _take(image: ImageMasks, annotation_ids: NDArray[np.int64]) -> ImageMasks:
    """Keep the masks that were decoded."""
    places = {one: index for index, one in enumerate(image.annotation_ids.tolist())}
    if len(places) != len(image):
        message = f"sa_{image.image_id}: annotations: expected an id of its own for each, found repeated ones"
        raise RecordError(message, reason="masks", image_id=image.image_id)
    index = np.array([places[one] for one in annotation_ids.tolist()], np.int64)
    masks = image.masks.take(index) if hasattr(image.masks, "take") else [image.masks[one] for one in index.tolist()]
    rest = (image.image_id, image.file_name, image.shard)
    return ImageMasks(image.image, image.size, masks, image.boxes_xywh[index], image.annotation_ids[index], *rest)
