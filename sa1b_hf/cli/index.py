"""`sa1b index`."""

from __future__ import annotations

from pathlib import Path

import click
import pyarrow.compute as pc

from sa1b_hf.dataset_index import build_dataset_index, load_dataset_index, subset
from sa1b_hf.errors import ConfigError

from ._common import Format, end, format_option, show
from ._shard_indexes import index_shards


@click.command()
@click.argument("places", metavar="PLACE...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of shards' indexes; by default that of each shard."
)
@click.option("--force", is_flag=True, help="Also shards whose index is there already.")
@click.option("--image", "image_id", type=int, help="Say where in a converted folder this image is.")
@click.option(
    "--subset",
    "number",
    type=int,
    metavar="NUMBER",
    help="List so many image ids of a converted folder, spread as all its images are.",
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
def index(
    places: tuple[str, ...],
    out: Path | None,
    force: bool,
    image_id: int | None,
    number: int | None,
    by: str,
    seed: int,
    style: Format,
) -> None:
    """Note where images are: in shards or folders of shards, or in a folder that `sa1b convert` wrote.

    Each shard is read once, and NAME.index.parquet written. With it `sa1b_hf.shard.SA1BShard` reads any image by one
    request for each half, and processes that share a shard (parts=, index_dir=) find what they need of each other's. A
    shard may be a URL; then --out is needed. An index that is there and fits its shard is left alone.

    The index of a converted folder answers --image and --subset.

    \b
    Example:
      sa1b index shards
      sa1b index shards/sa_000016.tar --out indexes
      sa1b index converted
      sa1b index converted --image 226381
      sa1b index converted --subset 1000 --by area > ids.txt
    """
    converted = [Path(place) for place in places if "://" not in place and (Path(place) / "manifests").is_dir()]
    asks = image_id is not None or number is not None
    if not converted and not asks:
        end(index_shards(places, out, force=force, style=style))
    elif len(places) > 1 or not converted:
        raise ConfigError(
            f"{' '.join(places)}: expected one converted folder, or else shards without --image, --subset"
        )
    elif number is not None:
        for one in subset(load_dataset_index(converted[0]), number, by, seed).tolist():  # type: ignore[arg-type]
            show(style, str(one), {"image_id": one})
    elif image_id is not None:
        _find(converted[0], image_id, style)
    else:
        path = build_dataset_index(converted[0])
        rows = load_dataset_index(converted[0]).num_rows
        show(style, f"{path}  {rows:,} images", {"index": str(path), "images": rows})


def _find(folder: Path, image_id: int, style: Format) -> None:
    table = load_dataset_index(folder)
    rows = table.filter(pc.equal(table["image_id"], image_id)).to_pylist()
    for row in rows:
        show(style, f"{row['part']}  row {row['row']:,}  {row['num_masks']} masks", row)
    end(not rows)
