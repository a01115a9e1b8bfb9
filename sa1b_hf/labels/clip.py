"""Labels from models that embed images and texts in one space: CLIP, SigLIP and their like, through transformers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa1b_hf import rle

from ._adaptive import AdaptiveBatch, iter_ahead
from ._backend import torch
from ._clip_options import DTYPES, ClipOptions, Fill, Mode
from ._crops import Cutter
from ._dense import embed_dense
from ._loading import load_model
from ._masked_cls import coverage, embed_masked
from ._preprocess import read_preprocess
from ._provenance import Provenance
from ._scores import relevance, score
from ._text import TextEncoder
from ._tower import Tower
from ._types import ImageMasks, MaskLabels
from ._vocabulary import Vocabulary

__all__ = ["DTYPES", "ClipLabeler", "ClipOptions", "Fill", "Mode"]

_MASKS_AT_ONCE = 256  # class tokens of one pass over an image; what an image has more goes into another pass
_IMAGES_AT_ONCE = 8


class ClipLabeler:
    """Names masks by the texts that their embeddings are closest to.

    Parameters
    ----------
    model
        Name on the Hub, a folder, or a model of transformers with ``get_image_features`` and ``get_text_features``.
    vocabulary
        Classes and sentences.
    revision
        Commit, branch or tag of a model on the Hub.
    tokenizer, image_processor
        Of a model that is not given by name. Without the latter the published figures of CLIP or SigLIP are used.
    text_cache
        Folder to keep embeddings of vocabularies in; they are remembered in memory anyway.
    options
        See `ClipOptions`.

    Attributes
    ----------
    provenance
        See `sa1b_hf.labels.base.Provenance`.

    Raises
    ------
    ConfigError
        The model cannot be loaded, or an option is out of range or does not suit the model.
    MissingExtraError
        torch or transformers is not installed.

    """

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        *,
        revision: str | None = None,
        tokenizer: Any = None,
        image_processor: Any = None,
        text_cache: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        self.options = ClipOptions(**options)
        given = {"revision": revision, "tokenizer": tokenizer, "image_processor": image_processor}
        self._recipe = (model, vocabulary, {**given, "text_cache": text_cache, **options})
        self.device, self.dtype = self.options.place()
        loaded = load_model(model, revision, tokenizer, image_processor)
        self.model = loaded.model.to(self.device, self.dtype).eval()
        self.preprocess = read_preprocess(loaded.image_processor, str(self.model.config.model_type))
        self.tower = Tower(self.model)
        self.resolution = self.options.resolution or self.tower.image_size
        self.tower.check(self.resolution, self.options.mode)
        self.provenance = self._describe(loaded.name, loaded.revision, vocabulary)
        identity = f"{loaded.name}@{loaded.revision} {self.provenance.dtype}"
        self.texts = TextEncoder(self.model, loaded.tokenizer, identity, text_cache)
        self._crops = AdaptiveBatch(self.options.batch_size, "crops")
        self._passes = AdaptiveBatch(_IMAGES_AT_ONCE, "passes over an image")
        backend = {} if isinstance(self.options.compile, bool) else {"backend": self.options.compile}
        compiled = self.options.compile is not False
        self._embed_crops = torch.compile(self.tower.embed, **backend) if compiled else self.tower.embed

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes as what it was made from: the model is loaded there, by name if it has one."""
        return _rebuild, self._recipe

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the labels."""
        return self.provenance.vocabulary

    def label(self, images: Sequence[ImageMasks]) -> list[MaskLabels]:
        """Label the masks of some images; see `sa1b_hf.labels.base.Labeler`.

        Empty masks are abstained from.

        Raises
        ------
        ImageError, RLEError
            An image or a mask cannot be decoded.
        ConfigError
            There is not even memory for one crop or image.

        """
        classes = self.texts.classes(self.vocabulary)
        results = []
        for image, embedded in zip(images, self.embed(images), strict=True):
            table = score(self.model, embedded, classes, self.provenance.scores)
            # Nothing can be said about nothing.
            table[rle.area(image.masks) == 0] = 0
            labels = MaskLabels.from_scores(
                table,
                top_k=self.options.top_k,
                num_names=len(self.vocabulary),
                min_score=max(self.options.min_score, np.finfo(np.float32).tiny),
                embeddings=np.nan_to_num(embedded) if self.options.embeddings else None,
            )
            results.append(labels)
        return results

    def relevance(self, images: Sequence[ImageMasks], texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Say how much each mask has to do with free texts.

        Parameters
        ----------
        images
            With N masks each.
        texts
            T sentences or words, embedded as they are.

        Returns
        -------
        list of NDArray[np.float32]
            For each image, shape (N, T), 0 to 1. With sigmoid scores the score of the text alone; with softmax its
            share against the best of a few words for anything, as in LERF (Kerr et al., 2023); 0 for empty masks.

        Raises
        ------
        ConfigError
            There are no texts, or one is empty.
        ImageError, RLEError
            An image or a mask cannot be decoded.

        """
        results = []
        for image, embedded in zip(images, self.embed(images), strict=True):
            table = relevance(self.model, self.texts, embedded, texts, self.provenance.scores)
            table[rle.area(image.masks) == 0] = 0
            results.append(table)
        return results

    def embed(self, images: Sequence[ImageMasks]) -> list[NDArray[np.float32]]:
        """Embed the masks of some images.

        Parameters
        ----------
        images
            Any number.

        Returns
        -------
        list of NDArray[np.float32]
            For each image, shape (N, D), rows of length one.

        """
        filled = [image for image in images if len(image)]
        with torch.inference_mode():
            embed = self._embed_by_crop if self.options.mode == "crop" else self._embed_by_pass
            rows = embed(filled) if filled else np.zeros((0, 0), np.float32)
        ends = np.cumsum([len(image) for image in images])
        return np.split(rows, ends[:-1]) if len(images) else []

    def _describe(self, name: str, revision: str | None, vocabulary: Vocabulary) -> Provenance:
        options, kind = self.options, str(self.model.config.model_type)
        crop = options.mode == "crop"
        details: dict[str, Any] = {"top_k": options.top_k, "min_score": options.min_score}
        return Provenance(
            name,
            vocabulary,
            revision=revision,
            mode=options.mode,
            fill=options.fill if crop else None,
            resolution=self.resolution,
            dtype=str(self.dtype).removeprefix("torch."),
            scores=options.scores or ("sigmoid" if kind.startswith("siglip") else "softmax"),
            embedding_dim=self._width() if options.embeddings else None,
            options=details | ({"context": options.context} if crop else {}),
        )

    def _width(self) -> int:
        side = self.tower.image_size
        with torch.inference_mode():
            return int(self.tower.embed(torch.zeros(1, 3, side, side, device=self.device, dtype=self.dtype)).shape[1])

    def _embed_by_crop(self, images: list[ImageMasks]) -> NDArray[np.float32]:
        """Embed crops in full batches, which begin in one image and end in another."""
        embedded, waiting, count = [], [], 0
        for crops in self._iter_crops(images):
            waiting.append(crops)
            count += len(crops)
            while count >= (size := self._crops.size):
                joined = torch.cat(waiting)
                embedded += self._forward(joined[:size])
                waiting, count = [joined[size:]], count - size
        embedded += self._forward(torch.cat(waiting))
        # Only now is the device waited for.
        return np.asarray(torch.cat(embedded).cpu().numpy())

    def _forward(self, crops: Any) -> list[Any]:
        return self._crops.run(lambda first, last: self._embed_crops(crops[first:last]), len(crops))

    def _iter_crops(self, images: list[ImageMasks]) -> Iterator[Any]:
        for image, pixels in zip(images, iter_ahead(ImageMasks.pixels, images, self.options.threads), strict=True):
            cutter = Cutter(
                pixels,
                image.masks,
                resolution=self.resolution,
                context=self.options.context,
                fill=self.options.fill,
                preprocess=self.preprocess,
                device=self.device,
                dtype=self.dtype,
            )
            yield from self._crops.run(cutter.cut, len(cutter))

    def _embed_by_pass(self, images: list[ImageMasks]) -> NDArray[np.float32]:
        """Embed all masks of an image, or as many as one pass takes, in one pass; some passes at a time."""
        side = (self.resolution, self.resolution)
        grid = self.resolution // self.tower.patch_size

        def read(image: ImageMasks) -> tuple[Any, NDArray[np.float32]]:
            pixels = image.pixels(side, self.preprocess.resample)
            return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), coverage(image.masks, grid)

        work: list[tuple[Any, NDArray[np.float32]]] = []
        for pixels, shares in iter_ahead(read, images, self.options.threads):
            work += [
                (pixels, shares[first : first + _MASKS_AT_ONCE]) for first in range(0, len(shares), _MASKS_AT_ONCE)
            ]
        embed = embed_masked if self.options.mode == "masked_cls" else embed_dense

        def forward(first: int, last: int) -> Any:
            stacked = torch.stack([pixels for pixels, _ in work[first:last]]).to(self.device)
            inputs = self.preprocess.normalise(stacked.float()).to(self.dtype)
            rows = embed(self.tower, inputs, [shares for _, shares in work[first:last]])
            return torch.cat(rows)

        return np.asarray(torch.cat(self._passes.run(forward, len(work))).cpu().numpy())


def _rebuild(model: Any, vocabulary: Vocabulary, options: dict[str, Any]) -> ClipLabeler:
    return ClipLabeler(model, vocabulary, **options)
