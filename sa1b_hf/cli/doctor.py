"""`sa1b doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from sa1b_hf.doctor import Setup, diagnose

from ._common import (
    Format,
    checksums_option,
    choose_checksums,
    end,
    format_option,
    no_md5_option,
    shards_option,
    show,
    subset_option,
)

_MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--links", type=click.Path(dir_okay=False), help="Links file to look at.")
@subset_option
@shards_option
@click.option("--verify", is_flag=True, help="Compute the MD5s of shards that are there.")
@checksums_option
@no_md5_option
@click.option("--size", type=click.IntRange(1), default=1024, show_default=True, help="Pixels to train on.")
@click.option(
    "--max-masks", type=click.IntRange(0), default=64, show_default=True, help="Masks of an image to train on; 0: all."
)
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Images of a batch.")
@click.option("--workers", type=click.IntRange(0), default=4, show_default=True, help="Workers of the DataLoader.")
@click.option("--online", is_flag=True, help="Ask the Hub about the token, and a server about the first link.")
@format_option
def doctor(
    folder: Path | None,
    links: str | None,
    subset: str | None,
    shards: str | None,
    verify: bool,
    checksums: str | None,
    no_md5: bool,
    size: int,
    max_masks: int,
    batch_size: int,
    workers: int,
    online: bool,
    style: Format,
) -> None:
    """Look for what is wrong with the installation, the machine, and the shards in FOLDER, and say what to do.

    The status is 1 if something failed; warnings leave it 0.

    \b
    Example:
      sa1b doctor
      sa1b doctor shards --subset 1pct --links segment_anything_links.txt
      sa1b doctor shards --verify --max-masks 128 --batch-size 16 --format json
    """
    setup = Setup(
        folder=folder,
        links=links,
        subset=subset,
        shards=shards,
        checksums=choose_checksums(checksums, no_md5=no_md5),
        verify=verify,
        size=size,
        max_masks=max_masks or None,
        batch_size=batch_size,
        workers=workers,
        online=online,
    )
    failed = 0
    for finding in diagnose(setup):
        failed += finding.status == "fail"
        advice = f"\n{'':20}{finding.advice}" if finding.advice and finding.status != "ok" else ""
        show(style, f"{_MARKS[finding.status]}  {finding.check:14}{finding.message}{advice}", finding.to_dict())
    end(failed)
