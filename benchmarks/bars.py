"""What the reader has to reach, as ratios against peers that were measured in the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from measure import Sample
from readers import INFLATERS

__all__ = ["BARS", "MAX_RSS", "Bar", "Results", "fastest", "speedup"]

# samples of a group's contenders, one a round
Results = Mapping[str, Mapping[str, Sequence[Sample]]]

MAX_RSS = 1 << 30


@dataclass(frozen=True)
class Bar:
    """A least speed.

    Attributes
    ----------
    text
        What is compared.
    group
        The shard: ``"real"`` or ``"plain"``.
    ours, peers
        Keys of contenders; of several peers the fastest counts.
    least
        How many times as fast as the peer.

    """

    text: str
    group: str
    ours: str
    peers: tuple[str, ...]
    least: float


BARS = (
    Bar("real: Arrow batches / tarfile + json.loads + pa.array", "real", "our-batches", ("tarfile-batches",), 1.7),
    Bar("real: Arrow batches / iter_archive builder through datasets", "real", "our-batches", ("naive-rows",), 2.0),
    Bar("real: Arrow batches / inflate only, fastest engine", "real", "our-batches", INFLATERS, 0.75),
    Bar("real: Python rows / iter_archive builder through datasets", "real", "our-rows", ("naive-rows",), 1.3),
    Bar("real: preparing / iter_archive builder, preparing", "real", "our-prepared", ("naive-prepared",), 2.3),
    Bar("real: annotations only / Arrow batches", "real", "our-annotations", ("our-batches",), 1.2),
    Bar("plain: Arrow batches / datasets' webdataset, streamed", "plain", "our-batches", ("stock-webdataset",), 5.0),
    Bar("plain: Arrow batches / webdataset, bytes in memory", "plain", "our-batches", ("webdataset",), 4.0),
    Bar("plain: annotations only / Arrow batches", "plain", "our-annotations", ("our-batches",), 3.0),
)


def fastest(samples: Mapping[str, Sequence[Sample]], keys: Sequence[str]) -> str | None:
    """Give the key of the contender with the least wall time, None if none of them was measured."""
    measured = [key for key in keys if samples.get(key)]
    return min(measured, key=lambda key: median(sample.seconds for sample in samples[key]), default=None)


def speedup(
    samples: Mapping[str, Sequence[Sample]],
    ours: str,
    peer: str | None,
    by: Literal["seconds", "cpu_seconds"] = "seconds",
) -> float | None:
    """Give the median over rounds of how many times as fast one contender was, None if one was not measured."""
    if peer is None or not samples.get(peer) or not samples.get(ours):
        return None
    rounds = zip(samples[ours], samples[peer], strict=True)
    return median(getattr(theirs, by) / max(getattr(mine, by), 1e-9) for mine, theirs in rounds)
