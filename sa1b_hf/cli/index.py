"""`sa1b index`."""

from __future__ import annotations

from pathlib import Path

import click
import pyarrow.compute as pc

from sa1b_hf.dataset_index import build_dataset_index, load_dataset_index, subset

from ._common import Format, end, format_option, show


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--image", "image_id", type=int, help="Say where this image is.")
@click.option(
    "--subset", "number", type=int, metavar="NUMBER", help="List so many image ids, spread as all images are."
)
@click.option(
    "--by",
    type=click.Choice(["num_masks", "area", "predicted_iou"]),
    default="num_masks",
    show_default=True,
    help="What --subset spreads them by.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of --subset.")
@format_option
def index(folder: Path, image_id: int | None, number: int | None, by: str, seed: int, style: Format) -> None:
    """Index a FOLDER that `sa1b convert` wrote; with --image or --subset, ask the index instead.

    \b
    Example:
      sa1b index converted
      sa1b index converted --image 226381
      sa1b index converted --subset 1000 --by area > ids.txt
    """
    if number is not None:
        for one in subset(load_dataset_index(folder), number, by, seed).tolist():  # type: ignore[arg-type]
            show(style, str(one), {"image_id": one})
    elif image_id is not None:
        table = load_dataset_index(folder)
        rows = table.filter(pc.equal(table["image_id"], image_id)).to_pylist()
        for row in rows:
            show(style, f"{row['part']}  row {row['row']:,}  {row['num_masks']} masks", row)
        end(not rows)
    else:
        path = build_dataset_index(folder)
        rows_found = load_dataset_index(folder).num_rows
        show(style, f"{path}  {rows_found:,} images", {"index": str(path), "images": rows_found})
