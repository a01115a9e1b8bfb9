"""One embedding per mask as the mean of embeddings of its patches.

What a patch would say alone is read as MaskCLIP does (Zhou et al., 2022, "Extract Free Dense Labels from CLIP"): the
values of the last attention go through its output projection, without being mixed by it. For SigLIP the pooling head
does the same, with a probe that reads one patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._backend import functional, torch
from ._tower import Tower

__all__ = ["embed_dense"]


def embed_dense(tower: Tower, pixels: Any, shares: Sequence[NDArray[np.float32]]) -> list[Any]:
    """Embed the masks of some images; parameters and result as those of `_masked_cls.embed_masked`."""
    tokens = tower.tokens(pixels)
    patches = _clip_patches(tower, tokens) if tower.kind == "clip" else _siglip_patches(tower, tokens)
    pooled = []
    for features, share in zip(patches, shares, strict=True):
        weights = torch.from_numpy(share).to(features.device)
        pooled.append(functional.normalize(weights @ features, dim=-1))
    return pooled


def _clip_patches(tower: Tower, tokens: Any) -> Any:
    *layers, last = tower.vision.encoder.layers
    states = tokens
    for layer in layers:
        output = layer(states, None)
        # Before transformers 5 a layer returned a tuple.
        states = output[0] if isinstance(output, tuple) else output
    attention = last.self_attn
    values = attention.out_proj(attention.v_proj(last.layer_norm1(states[:, tower.prefix :])))
    return tower.project(values)


def _siglip_patches(tower: Tower, tokens: Any) -> Any:
    head, attention = tower.vision.head, tower.vision.head.attention
    states = tower.vision.post_layernorm(tower.encode(tokens))
    width = states.shape[-1]
    # Weights of queries, keys and values lie one after another.
    weight, bias = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
    read = attention.out_proj(functional.linear(states, weight, bias))
    return functional.normalize((read + head.mlp(head.layernorm(read))).float(), dim=-1)
