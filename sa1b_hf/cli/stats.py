"""`sa1b stats`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click
import numpy as np
import pyarrow as pa
from datasets.utils import tqdm

from sa1b_hf._figures import merge_bins
from sa1b_hf._statistics import Histogram, collect_statistics
from sa1b_hf.places import find_place, iter_tables
from sa1b_hf.reports import PassReport

from ._common import Format, end, format_option, show

COLUMNS: Final = ("image_id", "width", "height", "annotations")
_BARS: Final = 16
_WIDTH: Final = 44
_BLOCKS: Final = " ▏▎▍▌▋▊▉█"


@click.command()
@click.argument("source", required=False)
@click.option("--limit", type=click.IntRange(1), help="Look at so many images at most.")
@click.option("--split", default="train", show_default=True, help="Of a repository.")
@format_option
def stats(source: str | None, limit: int | None, split: str, style: Format) -> None:
    """Count masks: how many an image has, their areas and scores, sizes of images. No pixel is decoded.

    SOURCE is a shard, a folder of shards, a links file, a converted directory or a repository; the embedded sample if
    left out.

    \b
    Example:
      sa1b stats shards/sa_000020.tar
      sa1b stats converted --format json
    """
    report = PassReport()
    tables = iter_tables(find_place(source, split=split), COLUMNS, report)
    statistics = collect_statistics(watch(limit_rows(tables, limit), style))
    lines = [f"{statistics.num_images:,} images, {statistics.num_masks:,} masks"]
    for name in ("masks_per_image", "area", "area_share", "predicted_iou", "stability_score"):
        lines += _bars(name, getattr(statistics, name))
    common = sorted(statistics.sizes.items(), key=lambda item: -item[1])[:5]
    lines += ["", "sizes", *(f"  {size[0]} x {size[1]}  {count:,} images" for size, count in common)]
    show(style, "\n".join(lines), statistics.to_dict())
    end_with(report)


def limit_rows(tables: Iterator[pa.Table], limit: int | None) -> Iterator[pa.Table]:
    """Give so many rows at most, and read no further."""
    left = limit
    for table in tables:
        yield table if left is None else table.slice(0, left)
        if left is not None:
            left -= table.num_rows
            if left <= 0:
                return


def watch(tables: Iterator[pa.Table], style: Format) -> Iterator[pa.Table]:
    """Show on standard error how many images went by."""
    disable = True if style != "human" else None  # None: no bar where nobody watches
    with tqdm(unit=" images", leave=False, disable=disable) as bar:
        for table in tables:
            yield table
            bar.update(table.num_rows)


def end_with(report: PassReport) -> None:
    """Say what could not be read, which also decides the exit status."""
    if report.skipped or report.broken:
        click.echo(f"Not everything could be read: {report}", err=True)
    end(len(report.broken) + report.skipped.total())


def _bars(name: str, histogram: Histogram) -> list[str]:
    if not histogram.num:
        return ["", name, "  no values"]
    edges, counts = merge_bins(histogram, _BARS)
    facts = f"{histogram.minimum:.4g} to {histogram.maximum:.4g}, mean {histogram.total / histogram.num:.4g}"
    lines = ["", f"{name}: median {histogram.percentile(50):.4g}, {facts}"]
    for low, count in zip(edges[:-1], counts, strict=True):
        eighths = int(np.ceil(8 * _WIDTH * count / counts.max()))
        bar = _BLOCKS[8] * (eighths // 8) + _BLOCKS[eighths % 8].strip()
        lines.append(f"  {low:>10.4g}  {bar:<{_WIDTH}}  {count:,}")
    return lines
