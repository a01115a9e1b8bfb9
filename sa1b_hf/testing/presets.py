"""How large and how crowded synthetic images are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType

from sa1b_hf.errors import ConfigError

__all__ = ["PRESETS", "Preset", "get_preset", "nearest_preset"]


@dataclass(frozen=True)
class Preset:
    """Statistics of a family of synthetic images.

    Attributes
    ----------
    name
        Key in `PRESETS`.
    sizes
        (width, height) in pixels; images take turns.
    median_masks, spread, max_masks
        The number of masks of an image is log-normal, at most `max_masks`.
    min_masks
        Least number of masks drawn; an image may annotate fewer of them.
    median_share
        Median area of a mask as a share of the image's.
    pool
        Number of distinct pictures; the images of a shard are variations on them.
    max_comment
        Most bytes that are added to a JPEG to make it unique, which also lets the file sizes vary.
    grain
        Sensor noise in grey levels.
    sparse
        Share of images of which only a handful of objects is annotated.

    """

    name: str
    sizes: tuple[tuple[int, int], ...]
    median_masks: float
    spread: float
    min_masks: int
    max_masks: int
    median_share: float
    pool: int
    max_comment: int
    grain: float
    sparse: float

    def num_masks(self, variant: int) -> int:
        """Number of masks that picture `variant` of the pool shows: that quantile of the distribution."""
        quantile = (variant * 5 % self.pool + 0.5) / self.pool  # 5: neighbours in the pool differ
        count = self.median_masks * math.exp(self.spread * NormalDist().inv_cdf(quantile))
        return min(max(round(count), self.min_masks), self.max_masks)

    def size(self, variant: int) -> tuple[int, int]:
        """Width and height of picture `variant` of the pool, in pixels."""
        return self.sizes[variant % len(self.sizes)]


# "full" has the sizes of the released images (short side 1500) and their mean bytes: 1.0 MB a JPEG, 63 KB a document.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "full": Preset(
            name="full",
            sizes=((2250, 1500), (1500, 2060), (2000, 1500), (2250, 1500), (1500, 2250)),
            median_masks=92,
            spread=0.65,
            min_masks=2,
            max_masks=320,
            median_share=0.0017,
            pool=8,
            max_comment=32_768,
            grain=1.6,
            sparse=0.02,
        ),
        "demo": Preset(
            name="demo",
            sizes=((640, 480), (480, 640), (720, 480)),
            median_masks=30,
            spread=0.3,
            min_masks=8,
            max_masks=60,
            median_share=0.007,
            pool=24,
            max_comment=64,
            grain=1.5,
            sparse=0.0,
        ),
        "small": Preset(
            name="small",
            sizes=((96, 72), (72, 100), (96, 64)),
            median_masks=5,
            spread=0.35,
            min_masks=3,
            max_masks=8,
            median_share=0.03,
            pool=16,
            max_comment=256,
            grain=1.5,
            sparse=0.02,
        ),
    }
)
"""The presets by name: ``"full"`` as released, ``"demo"`` to look at, ``"small"`` for tests."""


def get_preset(name: str) -> Preset:
    """Look a preset up.

    Raises
    ------
    ConfigError
        There is none of that name.

    """
    if name not in PRESETS:
        raise ConfigError(f"preset: expected one of {sorted(PRESETS)}, found {name!r}")
    return PRESETS[name]


def nearest_preset(width: int, height: int) -> Preset:
    """Preset whose first size is nearest to a size in pixels."""
    return min(PRESETS.values(), key=lambda preset: abs(math.log(min(preset.sizes[0]) / min(width, height))))
