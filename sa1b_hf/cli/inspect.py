"""`sa1b inspect`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from sa1b_hf._rle_measure import validate
from sa1b_hf.errors import ConfigError, PairingError
from sa1b_hf.features import COLUMNS, row_to_document
from sa1b_hf.filters import ImageFilter
from sa1b_hf.places import Place, find_place
from sa1b_hf.reader import ReadOptions, iter_batches
from sa1b_hf.source import open_shard
from sa1b_hf.tar import Member, iter_members

from ._common import Format, format_option, show


@click.command()
@click.argument("shard")
@click.option("--rows", type=click.IntRange(0), default=5, show_default=True, help="How many rows to show.")
@click.option("--members", is_flag=True, help="List members of the tar instead: name, length, offset.")
@click.option("--image", "image_id", type=int, help="One image: its document as JSON.")
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --image: save the image with its masks as .png or .jpg.",
)
@format_option
def inspect(shard: str, rows: int, members: bool, image_id: int | None, save: Path | None, style: Format) -> None:
    """Look into one shard: its first rows, its members, or one image.

    \b
    Example:
      sa1b inspect shards/sa_000020.tar
      sa1b inspect shards/sa_000020.tar --members --rows 20
      sa1b inspect shards/sa_000020.tar --image 226381 --save sa_226381.png
    """
    if save is not None and image_id is None:
        raise ConfigError("--save: expected --image with it, to say what to draw")
    place = find_place(shard)
    if len(place.shards) != 1:
        raise ConfigError(f"expected one shard, found {len(place.shards)} at {place.name}; name a file")
    if image_id is not None:
        _show_image(place, image_id, save, style)
    elif members:
        _list_members(place, rows, style)
    else:
        _list_rows(place, rows, style)


def _list_members(place: Place, count: int, style: Format) -> None:
    (shard,) = place.shards
    cursor = open_shard(shard.location, shard=shard.name)
    try:
        for member in islice(iter_members(cursor), count):
            if isinstance(member, Member):
                fields = {"name": member.name, "size": member.size, "offset": member.offset}
                show(style, f"{member.offset:>16,}  {member.size:>12,}  {member.name}", fields)
            else:
                show(style, f"{'':>32}{member.name}: {member.reason}", {"name": member.name, "skipped": member.reason})
    finally:
        cursor.close()


def _iter_rows(place: Place, options: ReadOptions) -> Iterator[pa.Table]:
    (shard,) = place.shards
    for batch in iter_batches(shard.location, shard.name, options):
        table = pa.Table.from_batches([batch])
        for row in range(table.num_rows):
            yield table.slice(row, 1)


def _list_rows(place: Place, count: int, style: Format) -> None:
    columns = tuple(name for name in COLUMNS if name != "image")
    for table in islice(_iter_rows(place, ReadOptions(columns=columns)), count):
        row: dict[str, Any] = table.select(["image_id", "file_name", "width", "height", "shard"]).to_pylist()[0]
        annotations = table["annotations"].combine_chunks()
        row["num_masks"] = len(annotations.flatten())
        validate(annotations)
        line = f"{row['file_name']:>16}  {row['width']}x{row['height']}  {row['num_masks']:>4} masks, all well-formed"
        show(style, line, row)


def _show_image(place: Place, image_id: int, save: Path | None, style: Format) -> None:
    columns = COLUMNS if save else tuple(name for name in COLUMNS if name != "image")
    options = ReadOptions(columns=columns, image_filter=ImageFilter(ids=frozenset([image_id])))
    table = next(_iter_rows(place, options), None)
    if table is None:
        message = f"expected image {image_id}, found none; sa1b shards --image {image_id} says where it can be"
        raise PairingError(message, reason="no-image", shard=place.shards[0].name, image_id=image_id)
    if save is not None:
        from sa1b_hf.viz import draw  # noqa: PLC0415 -- only for pictures

        draw(table).save(save)
        show(style, f"{save}", {"path": str(save)})
        return
    document = row_to_document(table.to_pylist()[0])
    show(style, json.dumps(document, indent=2), document)
