"""One embedding per mask from one forward pass over the whole image.

For CLIP each mask gets a class token of its own, which reads the patches of that mask and itself, in every layer. The
other tokens do not see it, so that masks influence neither each other nor the patches, and a mask of the whole image
gives the embedding of the image. For SigLIP, whose probe reads the patches after the last layer, each mask gets a
probe. The idea is that of MaskCLIP (Ding et al., 2023, "relative mask attention") without its training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa1b_hf import rle

from ._backend import functional, torch
from ._tower import Tower

__all__ = ["coverage", "embed_masked", "own_patches"]

_MOSTLY = 0.5


def coverage(masks: Any, grid: int) -> NDArray[np.float32]:
    """Give the share of each patch that each mask covers; (N, `grid` squared)."""
    if not len(masks):
        return np.zeros((0, grid * grid), np.float32)
    return rle.decode(masks, (grid, grid), mode="area").reshape(len(masks), grid * grid)


def own_patches(shares: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Choose the patches of each mask: those mostly covered or, of a small or thin one, those covered half as much
    as its best; never none.
    """  # noqa: D205 -- one sentence
    best = shares.max(axis=1, keepdims=True, initial=0)
    mine = np.asarray(shares >= np.minimum(_MOSTLY, best / 2))
    return np.asarray(mine & ((shares > 0) | (best == 0)))


def embed_masked(tower: Tower, pixels: Any, shares: Sequence[NDArray[np.float32]]) -> list[Any]:
    """Embed the masks of some images.

    Parameters
    ----------
    tower
        Of kind ``"clip"`` or ``"siglip"``.
    pixels
        Shape (B, 3, s, s), preprocessed.
    shares
        For each image, what `coverage` gives for its masks.

    Returns
    -------
    list of torch.Tensor
        For each image, shape (N, D), float32, of length one.

    """
    mine = _stack([own_patches(one) for one in shares], pixels.device)
    tokens = tower.tokens(pixels)
    states = _read_clip(tower, tokens, mine) if tower.kind == "clip" else _read_siglip(tower, tokens, mine)
    return [state[: len(one)] for state, one in zip(states, shares, strict=True)]


def _stack(mine: list[NDArray[np.bool_]], device: Any) -> Any:
    """Bring masks of several images to one length, (B, N, patches); those added read everything, and are dropped."""
    most = max(len(one) for one in mine)
    stacked = np.ones((len(mine), most, mine[0].shape[1]), np.bool_)
    for row, one in zip(stacked, mine, strict=True):
        row[: len(one)] = one
    return torch.from_numpy(stacked).to(device)


def _read_clip(tower: Tower, tokens: Any, mine: Any) -> Any:
    count, most, _ = mine.shape
    length = tokens.shape[1]
    extended = torch.cat([tokens, tokens[:, :1].expand(-1, most, -1)], dim=1)
    sees = torch.zeros(count, length + most, length + most, dtype=torch.bool, device=mine.device)
    sees[:, :length, :length] = True
    sees[:, length:, 1:length] = mine
    sees[:, length:, length:] = torch.eye(most, dtype=torch.bool, device=mine.device)
    bias = torch.zeros(sees.shape, dtype=tokens.dtype, device=tokens.device)
    bias.masked_fill_(~sees, torch.finfo(tokens.dtype).min)
    return tower.project(tower.encode(extended, bias[:, None])[:, length:])


def _read_siglip(tower: Tower, tokens: Any, mine: Any) -> Any:
    head = tower.vision.head
    states = tower.vision.post_layernorm(tower.encode(tokens))
    probes = head.probe.expand(len(states), mine.shape[1], -1)
    hidden = (~mine).repeat_interleave(head.attention.num_heads, dim=0)
    read = head.attention(probes, states, states, attn_mask=hidden, need_weights=False)[0]
    return functional.normalize((read + head.mlp(head.layernorm(read))).float(), dim=-1)
