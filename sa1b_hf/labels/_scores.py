"""Embeddings of masks and of texts → scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa1b_hf.errors import ConfigError

from ._text import TextEncoder

__all__ = ["relevance", "score"]

_ANYTHING = ("object", "things", "stuff", "texture")  # of LERF
_CLIP_SCALE = 100.0  # what CLIP's temperature is trained to, and clipped at


def score(model: Any, masks: NDArray[np.float32], texts: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Compare embeddings.

    Parameters
    ----------
    model
        With ``logit_scale`` and perhaps ``logit_bias``.
    masks, texts
        Shapes (N, D) and (C, D), rows of length one.
    kind
        ``"softmax"`` or ``"sigmoid"``.

    Returns
    -------
    NDArray[np.float32]
        Shape (N, C), 0 to 1.

    """
    logits = _logits(model, masks, texts)
    if kind == "sigmoid":
        return _sigmoid(logits)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def relevance(
    model: Any, encoder: TextEncoder, masks: NDArray[np.float32], texts: Sequence[str], kind: str
) -> NDArray[np.float32]:
    """Compare masks with free texts; see `sa1b_hf.labels.clip.ClipLabeler.relevance`."""
    if isinstance(texts, str) or not len(texts) or not all(isinstance(one, str) and one.strip() for one in texts):
        raise ConfigError(f"texts: expected a list of texts that are not empty, found {texts!r:.80}")
    wanted = _logits(model, masks, encoder.texts(texts))
    if kind == "sigmoid":
        return _sigmoid(wanted)
    others = _logits(model, masks, encoder.texts(_ANYTHING)).max(axis=1, keepdims=True, initial=-np.inf)
    return _sigmoid(wanted - others)


def _logits(model: Any, masks: NDArray[np.float32], texts: NDArray[np.float32]) -> NDArray[np.float32]:
    scale, bias = getattr(model, "logit_scale", None), getattr(model, "logit_bias", None)
    factor = _CLIP_SCALE if scale is None else float(np.exp(scale.float().item()))
    shift = 0.0 if bias is None else float(bias.float().item())
    if not len(masks):
        return np.zeros((0, len(texts)), np.float32)
    return np.asarray(masks @ texts.T * factor + shift, np.float32)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    # The form that neither overflows nor loses the small scores that SigLIP gives.
    return np.asarray(np.exp(-np.logaddexp(0, -logits)), np.float32)
