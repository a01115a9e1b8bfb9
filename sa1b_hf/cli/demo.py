"""`sa1b demo`."""

from __future__ import annotations

from pathlib import Path

import click

from sa1b_hf.demo import run_demo


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the picture.",
)
@click.option("--examples", type=click.IntRange(1), default=5, show_default=True, help="How many to print.")
def demo(out: Path, examples: int) -> None:
    """Stream the embedded sample, or the shards of SA1B_HF_SHARDS, and draw one example's masks.

    \b
    Example:
      sa1b demo --out demo
    """
    run_demo(out, examples)
