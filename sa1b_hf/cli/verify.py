"""`sa1b verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

import click

from sa1b_hf.verify import verify_shards

from ._common import Format, checksums_option, choose_checksums, end, format_option, gigabytes, no_md5_option, show


@click.command()
@click.argument("places", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--structure", is_flag=True, help="Walk gzip and tar and count members even where the MD5 is right.")
@click.option("--deep", is_flag=True, help="Decode every image, document and mask too, and say what can be read.")
@click.option("--salvage", is_flag=True, help="Of a shard with damage, say what can be read, and list what is lost.")
@click.option(
    "--report", type=click.File("w", lazy=True), help="Also write all findings there, one JSON object a line."
)
@checksums_option
@no_md5_option
@format_option
def verify(
    places: tuple[Path, ...],
    structure: bool,
    deep: bool,
    salvage: bool,
    report: TextIO | None,
    checksums: str | None,
    no_md5: bool,
    style: Format,
) -> None:
    """Check shard files, and all shards in folders: length, MD5, gzip and tar structure.

    \b
    Example:
      sa1b verify shards
      sa1b verify shards/sa_000016.tar --deep --format json
      sa1b verify shards/sa_000016.tar --salvage
    """
    failed = 0
    terms: dict[str, Any] = {"checksums": choose_checksums(checksums, no_md5=no_md5), "structure": structure or None}
    for found in verify_shards(places, **terms, deep=deep, salvage=salvage):
        failed += not found.is_ok
        counts = "" if found.num_images is None else f"  {found.num_images:,} images, {found.num_documents:,} documents"
        content = f"\n    decoded: {found.content}" if found.content else ""
        problem = "" if found.is_ok else f"\n    {found.message}"
        readable = "".join(f"\n    {text}" for text in str(found.salvage).splitlines()) if found.salvage else ""
        line = f"{found.shard}  {found.status:19}  {gigabytes(found.size or 0)}{counts}{problem}{content}{readable}"
        show(style, line, found.to_dict())
        if report is not None:
            report.write(f"{found.to_json()}\n")
    end(failed)
