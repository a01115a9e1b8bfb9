"""`sa1b plot`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sa1b_hf import viz
from sa1b_hf.places import Place, find_place, iter_tables, read_label_names
from sa1b_hf.reports import PassReport

from ._common import Format, format_option, show
from .stats import COLUMNS, end_with, limit_rows, watch


@click.command()
@click.argument("source", required=False)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write, such as .png."
)
@click.option(
    "--kind",
    type=click.Choice(["distributions", "sheet", "classes"]),
    default="distributions",
    show_default=True,
    help="Histograms, a contact sheet, or crops of masks by label.",
)
@click.option("--limit", type=click.IntRange(1), help="Images to look at; of sheets 16 if not given.")
@click.option("--columns", type=click.IntRange(1), default=4, show_default=True, help="Pictures in a line of a sheet.")
@click.option("--split", default="train", show_default=True, help="Of a repository.")
@format_option
def plot(source: str | None, out: Path, kind: str, limit: int | None, columns: int, split: str, style: Format) -> None:
    """Save a picture of a source: distributions of its masks, a contact sheet, or crops by label.

    SOURCE is as for `sa1b stats`. Distributions need matplotlib: pip install 'sa1b_hf[plot]'.

    \b
    Example:
      sa1b plot shards/sa_000020.tar --out distributions.png
      sa1b plot shards --kind sheet --limit 24 --columns 6 --out sheet.jpg
    """
    place, report = find_place(source, split=split), PassReport()
    if kind == "distributions":
        tables = limit_rows(iter_tables(place, COLUMNS, report), limit)
        statistics = viz.collect_statistics(watch(tables, style))
        viz.plot_distributions(statistics).savefig(out)
    elif kind == "sheet":
        viz.contact_sheet(_iter_rows(place, limit or 16, report), columns=columns).save(out)
    else:
        viz.class_sheet(_iter_rows(place, limit or 16, report), label_names=read_label_names(place)).save(out)
    show(style, f"{out}", {"path": str(out), "kind": kind})
    end_with(report)


def _iter_rows(place: Place, limit: int, report: PassReport) -> Iterator[Any]:
    for table in limit_rows(iter_tables(place, report=report), limit):
        for row in range(table.num_rows):
            yield table.slice(row, 1)
