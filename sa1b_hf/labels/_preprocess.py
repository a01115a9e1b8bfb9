"""What a model wants its pixels to look like: the figures of its image processor, applied on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sa1b_hf.errors import ConfigError

from ._backend import torch

__all__ = ["Preprocess", "read_preprocess"]

_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_FILTERS: dict[int, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}
_CHANNELS = 3


@dataclass(frozen=True)
class Preprocess:
    """How pixels become a model's input.

    Attributes
    ----------
    mean, std
        Of red, green and blue, on a scale of 0 to 1.
    scale
        What bytes are multiplied by first.
    resample
        Filter of the resize.

    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1 / 255
    resample: Literal["bilinear", "bicubic"] = "bicubic"

    def normalise(self, pixels: Any) -> Any:
        """Bring pixels of 0 to 255, shape (B, 3, h, w) in floating point, to what the model wants."""
        mean, std = (torch.tensor(one, device=pixels.device).view(1, 3, 1, 1) for one in (self.mean, self.std))
        # One multiplication and one addition, with factors of full precision.
        return pixels * (self.scale / std).to(pixels.dtype) - (mean / std).to(pixels.dtype)

    def neutral(self, pixels: Any) -> Any:
        """Give the colour that becomes zero, shape (1, 3, 1, 1), on the device of some pixels."""
        return torch.tensor(self.mean, device=pixels.device, dtype=pixels.dtype).view(1, 3, 1, 1) / self.scale


def read_preprocess(processor: Any, model_type: str) -> Preprocess:
    """Read the figures of an image processor of transformers.

    Parameters
    ----------
    processor
        The image processor, or a mapping with its attributes; None for the figures that models of this type were
        published with.
    model_type
        Of the model's configuration, such as ``"siglip"``.

    Returns
    -------
    Preprocess

    Raises
    ------
    ConfigError
        A figure is missing, or it uses a filter other than bilinear and bicubic.

    """
    if processor is None:
        return Preprocess(*(_HALF if model_type.startswith("siglip") else _CLIP))
    names = ("image_mean", "image_std", "rescale_factor", "resample")
    figures = processor if isinstance(processor, Mapping) else {name: getattr(processor, name, None) for name in names}
    mean, std = (tuple(map(float, figures.get(name) or ())) for name in names[:2])
    scale = float(figures.get("rescale_factor") or 1 / 255)
    if len(mean) != _CHANNELS or len(std) != _CHANNELS or not all(std):
        raise ConfigError(f"image_processor: expected three numbers for mean and std, found {mean} and {std}")
    resample = int(figures.get("resample") or 3)
    if resample not in _FILTERS:
        raise ConfigError(f"image_processor: expected bilinear (2) or bicubic (3) resampling, found {resample}")
    return Preprocess(mean, std, scale, _FILTERS[resample])
