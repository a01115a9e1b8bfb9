"""`sa1b label`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from sa1b_hf.labels.base import LabelCounts, LabelTransform, OnError, iter_label_converted

from ._common import Format, format_option, show
from ._labels import labeler_options, make_labeler


@click.command()
@click.argument("converted", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@labeler_options
@click.option(
    "--on-error",
    type=click.Choice(get_args(OnError)),
    default="raise",
    show_default=True,
    help="Stop at an image that fails, or abstain from its masks and count it.",
)
@click.option("--batch-images", type=int, default=32, show_default=True, help="Images in memory at a time.")
@format_option
def label(converted: Path, out: Path, on_error: OnError, batch_images: int, style: Format, **options: Any) -> None:
    """Name the masks of CONVERTED, which `sa1b convert` wrote, in a new folder OUT; what is done is kept.

    \b
    Example:
      sa1b label converted labelled --model openai/clip-vit-base-patch16 --vocabulary coco
      sa1b label converted labelled --model google/siglip2-base-patch16-224 --vocabulary lvis.txt --mode masked_cls
    """
    transform = LabelTransform(make_labeler(**options), batch_images=batch_images, on_error=on_error)
    total = LabelCounts()
    for done in iter_label_converted(converted, out, transform, progress=style == "human"):
        total.merge(done.counts)
        status = "done before" if done.was_done else "labelled"
        fields = {"shard": done.manifest.shard, "status": status, "counts": done.counts.to_dict()}
        show(style, f"{done.manifest.shard}  {status:11}  {done.counts}", fields)
    if style == "human":
        click.echo(str(total))
