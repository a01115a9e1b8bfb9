"""Synthetic SA-1B shards in the layout of the real ones, whole or damaged, for tests, benchmarks and demonstrations.

`sa1b_hf.testing.strategies` has Hypothesis strategies; it alone needs the extra ``testing``.
"""

from __future__ import annotations

from .documents import encode_document, make_document, make_jpeg
from .faults import FAULTS, FaultSpec, InjectedFault
from .presets import PRESETS, Preset
from .shards import ShardManifest, make_shard

__all__ = [
    "FAULTS",
    "PRESETS",
    "FaultSpec",
    "InjectedFault",
    "Preset",
    "ShardManifest",
    "encode_document",
    "make_document",
    "make_jpeg",
    "make_shard",
]
