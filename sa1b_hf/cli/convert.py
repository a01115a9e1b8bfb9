"""`sa1b convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from sa1b_hf.convert import ConvertOptions, Done, Failure, OutFormat, iter_convert
from sa1b_hf.errors import ConfigError
from sa1b_hf.faults import OnError
from sa1b_hf.reader import ReadOptions
from sa1b_hf.reports import PassReport
from sa1b_hf.sources import check_links, find_shards, select_shards

from ._common import Format, end, format_option, gigabytes, shards_option, show, subset_option
from ._filters import filter_options, read_filters
from ._labels import convert_label_options, read_transforms


@click.command()
@click.argument("places", nargs=-1, metavar="[SHARDS]...")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--links", type=click.Path(dir_okay=False), help="Read shards from Meta's links file.")
@subset_option
@shards_option
@click.option(
    "--format-out",
    type=click.Choice(get_args(OutFormat)),
    default="parquet",
    show_default=True,
    help="What to write; folder: JPEG and JSON files; yolo needs the extra of that name.",
)
@click.option("--no-images", is_flag=True, help="Annotations only.")
@click.option("--resize", type=int, metavar="PIXELS", help="Shrink to this longest side, masks and boxes too.")
@click.option("--quality", type=int, default=90, show_default=True, help="Of JPEGs that --resize encodes anew.")
@filter_options
@convert_label_options
@click.option(
    "--on-error",
    type=click.Choice(get_args(OnError)),
    default="raise",
    show_default=True,
    help="Stop at the first damage, or count it and go on.",
)
@click.option("--part-size", type=int, default=500, show_default=True, metavar="MB", help="About how long a part gets.")
@click.option("--num-proc", type=int, default=1, show_default=True, help="Processes, a shard at a time each.")
@click.option("--rank", type=int, default=0, show_default=True, help="Number of this job, from 0.")
@click.option("--world-size", type=int, default=1, show_default=True, help="How many jobs share the shards.")
@format_option
def convert(
    places: tuple[str, ...],
    out: Path,
    links: str | None,
    subset: str | None,
    shards: str | None,
    format_out: OutFormat,
    no_images: bool,
    resize: int | None,
    quality: int,
    on_error: OnError,
    part_size: int,
    num_proc: int,
    rank: int,
    world_size: int,
    style: Format,
    **filters: Any,
) -> None:
    """Convert SHARDS, files, folders or URLs, into the folder OUT; what is done is kept, what changed is done again.

    \b
    Example:
      sa1b convert shards converted --min-area 0.001 --max-masks 64 --num-proc 8
      sa1b convert shards/sa_000000.tar small --resize 1024 --format-out webdataset
      sa1b convert shards labelled --label openai/clip-vit-base-patch16 --vocabulary coco
      sa1b download work --links links.txt --subset 10pct --then "sa1b convert {path} converted"
      srun sh -c 'sa1b convert shards converted --rank $SLURM_PROCID --world-size $SLURM_NTASKS'
    """
    transforms = read_transforms(filters, on_error, images=not no_images)
    annotation_filter, image_filter = read_filters(filters)
    options = ConvertOptions(
        format=format_out,
        image=not no_images,
        resize=resize,
        quality=quality,
        read=ReadOptions(annotation_filter=annotation_filter, image_filter=image_filter, on_error=on_error),
        transforms=transforms,
        part_bytes=part_size * 1_000_000,
    )
    sources = _choose(places, links, subset, shards)
    failed, total = 0, PassReport()
    for done in iter_convert(sources, out, options, num_proc, rank, world_size, progress=style == "human"):
        failed += _show(style, done, total)
    if style == "human":
        click.echo(str(total))
    end(failed)


def _choose(places: tuple[str, ...], links: str | None, subset: str | None, shards: str | None) -> Any:
    if bool(places) == bool(links):
        raise ConfigError("expected shards to convert: files, folders or URLs before OUT, or --links, and not both")
    if links is None and subset is None and shards is None:
        return places
    folders = [place for place in places if Path(place).is_dir()]
    if links is None and len(folders) != len(places):
        raise ConfigError("--subset and --shards choose from folders and links files; leave them out for single files")
    offered = [find_shards(links=links)] if links else [find_shards(data_dir=folder) for folder in folders]
    merged = {"train": [one for found in offered for listed in found.values() for one in listed]}
    chosen = select_shards(merged, subset=subset or "default", shards=shards)["train"]
    check_links(chosen)
    return chosen


def _show(style: Format, done: Done | Failure, total: PassReport) -> bool:
    """Show what became of a shard; tell whether it failed."""
    if isinstance(done, Failure):
        show(
            style,
            f"{done.shard}  failed     {done.error}",
            {"shard": done.shard, "status": "failed", "error": str(done.error)},
        )
        return True
    manifest = done.manifest
    total.merge(manifest.report)
    status = "done before" if done.was_done else "converted"
    size = sum(part.size for part in manifest.parts)
    fields = {"shard": manifest.shard, "status": status, "size": size, "parts": len(manifest.parts)}
    fields["report"] = manifest.report.to_dict()
    show(style, f"{manifest.shard}  {status:11}  {gigabytes(size)}  {manifest.report}", fields)
    return bool(manifest.report.broken)
