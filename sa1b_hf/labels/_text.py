"""Embeddings of words, made once for a vocabulary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa1b_hf.errors import ConfigError

from ._backend import functional, torch
from ._tower import pooled
from ._vocabulary import Vocabulary, sha256_of

__all__ = ["TextEncoder"]

_BATCH = 256
_CLIP_LENGTH = 77
_MAX_TOKENS = 4096  # a tokenizer that knows no limit says 10^30


class TextEncoder:
    """The text half of a model.

    Parameters
    ----------
    model
        With ``get_text_features``.
    tokenizer
        Of the model.
    identity
        Of the model: what embeddings are remembered under, with the digest of the vocabulary.
    folder
        Where to keep them between runs; None for memory alone.

    """

    def __init__(self, model: Any, tokenizer: Any, identity: str, folder: str | os.PathLike[str] | None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.identity = identity
        self.folder = None if folder is None else Path(folder)
        self._known: dict[str, NDArray[np.float32]] = {}
        self._padded = str(model.config.model_type).startswith("siglip")

    def classes(self, vocabulary: Vocabulary) -> NDArray[np.float32]:
        """Embed each class, names before background words, as the average over its sentences.

        Parameters
        ----------
        vocabulary
            Of C classes.

        Returns
        -------
        NDArray[np.float32]
            Shape (C, D), rows of length one.

        """
        key = sha256_of([self.identity, vocabulary.digest])
        if key not in self._known:
            stored = self._load(key)
            self._known[key] = self._average(vocabulary) if stored is None else stored
            if stored is None:
                self._save(key, self._known[key])
        return self._known[key]

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences as they are; shape (T, D), rows of length one."""
        parts = [self._embed(list(texts[first : first + _BATCH])) for first in range(0, len(texts), _BATCH)]
        return np.concatenate(parts)

    def _average(self, vocabulary: Vocabulary) -> NDArray[np.float32]:
        prompts = [vocabulary.prompts(index) for index in range(len(vocabulary) + len(vocabulary.background))]
        single = self.texts([prompt for group in prompts for prompt in group])
        starts = np.cumsum([0, *map(len, prompts)])[:-1]
        summed = np.add.reduceat(single, starts, axis=0)
        return np.asarray(summed / np.linalg.norm(summed, axis=1, keepdims=True), np.float32)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        config = getattr(self.model.config, "text_config", self.model.config)
        limits = (getattr(config, "max_position_embeddings", _CLIP_LENGTH), self.tokenizer.model_max_length)
        length = min(*map(int, limits), _MAX_TOKENS)
        # SigLIP reads the last token, and was trained on texts padded to the full length, without a mask.
        options = {"padding": "max_length", "return_attention_mask": False} if self._padded else {"padding": True}
        tokens = self.tokenizer(texts, truncation=True, max_length=length, return_tensors="pt", **options)
        device = next(self.model.parameters()).device
        accepted = {name: tokens[name].to(device) for name in ("input_ids", "attention_mask") if name in tokens}
        with torch.inference_mode():
            embedded = functional.normalize(pooled(self.model.get_text_features(**accepted)).float(), dim=-1)
        array: NDArray[np.float32] = embedded.cpu().numpy()
        if not np.isfinite(array).all():
            word = texts[int(np.isfinite(array).all(axis=1).argmin())]
            advice = "use dtype='float32' or 'bfloat16'"
            raise ConfigError(f"vocabulary: expected finite embeddings, found NaN or infinity for {word!r}; {advice}")
        return array

    def _load(self, key: str) -> NDArray[np.float32] | None:
        path = None if self.folder is None else self.folder / f"{key}.npy"
        if path is None or not path.exists():
            return None
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None  # cut off by something: made anew
        return array if array.dtype == np.float32 and array.ndim == 2 else None  # noqa: PLR2004

    def _save(self, key: str, array: NDArray[np.float32]) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{key}.{os.getpid()}.tmp"
        with temporary.open("wb") as file:
            np.save(file, array)
        temporary.replace(self.folder / f"{key}.npy")
