"""`sa1b shards`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sa1b_hf._journal import read_journal
from sa1b_hf._origins import choose_shards
from sa1b_hf._receipt import Places, read_receipt
from sa1b_hf.catalog import shard_info, shard_of

from ._common import Format, format_option, gigabytes, shards_option, show, subset_option


@click.command()
@subset_option
@shards_option
@click.option("--image", "image_id", type=int, help="Only the shards that can hold this image.")
@click.option("--folder", type=click.Path(path_type=Path), help="Say what of each shard is there.")
@format_option
def shards(subset: str | None, shards: str | None, image_id: int | None, folder: Path | None, style: Format) -> None:
    """List shards: name, MD5, length, number of images, and damaged copies in circulation.

    \b
    Example:
      sa1b shards --image 226381
      sa1b shards --subset 1pct --folder shards
    """
    numbers = choose_shards(subset or (None if shards else "full"), shards)
    if image_id is not None:
        numbers = tuple(number for number in numbers if number in shard_of(image_id))
    for number in numbers:
        info = shard_info(number)
        fields: dict[str, Any] = {"shard": info.name, "number": number, "md5": info.md5, "size": info.size_bytes}
        fields |= {"num_images": info.num_images, "known_bad": [bad.md5 for bad in info.known_bad]}
        line = f"{info.name}  {info.md5}  {gigabytes(info.size_bytes) if info.size_bytes else '       ?'}"
        if info.known_bad:
            line += "  damaged copies on mirrors"
        if folder is not None:
            fields["state"] = _state(folder, info.name)
            line += f"  {fields['state']}"
        show(style, line, fields)


def _state(folder: Path, name: str) -> str:
    """Say how far a shard is in a folder of downloads."""
    places = Places(folder, name)
    receipt = read_receipt(places.receipt)
    if places.final.exists():
        return receipt.status if receipt and receipt.fits(places.final) else "unchecked"
    if receipt and receipt.deleted:
        return "processed"
    key, pieces = read_journal(places.journal)
    return f"{len(pieces) / key.num_pieces:.0%}" if key else "missing"
