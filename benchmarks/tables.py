"""The results as markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from bars import BARS, MAX_RSS, Results, fastest, speedup
from measure import Sample
from readers import CONTENDERS
from shards import Shard

_HEADER = "| reader | images/s | MB/s | CPU s/GB | peak RSS MB | first example ms | x {} |"
_LEAST_PAIRS_FOR_RSS = 3000


def group_table(shard: Shard, samples: Mapping[str, Sequence[Sample]], baseline: str) -> Iterator[str]:
    """Give one table: medians over the rounds; MB and GB are those of the uncompressed tar."""
    yield _HEADER.format(CONTENDERS[baseline].label)
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for key, passes in samples.items():
        seconds = median(sample.seconds for sample in passes)
        cpu = median(sample.cpu_seconds for sample in passes)
        firsts = [sample.first_seconds for sample in passes if sample.first_seconds is not None]
        cells = (
            CONTENDERS[key].label,
            f"{shard.images / seconds:,.0f}",
            f"{shard.tar_bytes / 1e6 / seconds:,.0f}",
            f"{cpu / (shard.tar_bytes / 1e9):.2f}",
            f"{max(sample.peak_rss for sample in passes) / 1e6:,.0f}",
            f"{median(firsts) * 1e3:,.0f}" if firsts else "-",
            _times(speedup(samples, key, baseline)),
        )
        yield f"| {' | '.join(cells)} |"


def bars_table(results: Results, images_for_rss: int | None) -> Iterator[str]:
    """Give one line for each bar; a ratio of wall times decides, that of CPU times says how much is noise."""
    yield "| bar | required | measured | by CPU time | met |"
    yield "|---|--:|--:|--:|---|"
    for bar in BARS:
        samples = results.get(bar.group, {})
        peer = fastest(samples, bar.peers)
        wall, cpu = speedup(samples, bar.ours, peer), speedup(samples, bar.ours, peer, "cpu_seconds")
        met = "not measured" if wall is None else _met(wall >= bar.least)
        yield f"| {bar.text} | ≥ {bar.least:.2f} | {_times(wall)} | {_times(cpu)} | {met} |"
    yield _rss_line(results.get("memory", {}), images_for_rss)


def _rss_line(samples: Mapping[str, Sequence[Sample]], images: int | None) -> str:
    passes = samples.get("our-capped-batches")
    peak = max(sample.peak_rss for sample in passes) if passes else 0
    met = _met(peak < MAX_RSS) if passes else "not measured"
    if passes and images is not None and images < _LEAST_PAIRS_FOR_RSS:
        met += f" (but only {images:,} pairs)"
    found = f"{peak / 2**20:,.0f} MiB" if passes else "-"
    return f"| memory: peak RSS at ram_cap 256 MiB, random order | < {MAX_RSS >> 20:,} MiB | {found} | - | {met} |"


def first_example_line(shard: Shard, samples: Mapping[str, Sequence[Sample]]) -> str:
    """Say how much had to be read until the first pair, and how long that took."""
    passes = samples["our-capped-batches"]
    first = median(sample.first_seconds or 0.0 for sample in passes)
    seconds = median(sample.seconds for sample in passes)
    return (
        f"The first pair of this shard is complete after {shard.first_pair_bytes / 1e6:,.1f} of "
        f"{shard.tar_bytes / 1e6:,.1f} MB of tar ({shard.first_pair_bytes / shard.tar_bytes:.1%}); our first example "
        f"came after {first * 1e3:,.0f} ms of {seconds * 1e3:,.0f} ms ({first / seconds:.1%})."
    )


def _met(yes: bool) -> str:
    return "met" if yes else "NOT met"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
