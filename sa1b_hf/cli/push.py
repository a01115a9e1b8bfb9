"""`sa1b push`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from sa1b_hf.card import LICENSE_NOTICE
from sa1b_hf.hub import push as push_folder

from ._common import Format, format_option, show


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repo_id", metavar="USER/NAME")
@click.option(
    "--include-images", is_flag=True, help="Push the images too; without it, no column that could hold pixels."
)
@click.option("--public", is_flag=True, help="Push although everybody can read the repository; a new one is made so.")
@click.option("--revision", help="Branch; made if it is not there.")
@click.option("--replace-card", is_flag=True, help="Replace a README.md that no push wrote.")
@click.option("--work-dir", type=click.Path(path_type=Path), help="Folder for files that are written anew meanwhile.")
@click.option("--dry-run", is_flag=True, help="Say what would be uploaded, and send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before images become public.")
@format_option
def push(
    folder: Path,
    repo_id: str,
    include_images: bool,
    public: bool,
    revision: str | None,
    replace_card: bool,
    work_dir: Path | None,
    dry_run: bool,
    yes: bool,
    style: Format,
) -> None:
    """Push what `sa1b convert` wrote to a dataset repository on the Hub: without images and private, unless told so.

    The token is that of `hf auth login`, or HF_TOKEN. After an interrupt the same command goes on.

    \b
    Example:
      sa1b push converted user/subset --dry-run
      sa1b push converted user/subset
    """
    if include_images and public and not (yes or dry_run):
        click.confirm(f"{LICENSE_NOTICE}\nMake the images public in {repo_id}?", abort=True, err=True)
    result = push_folder(
        folder,
        repo_id,
        include_images=include_images,
        public=public,
        revision=revision,
        replace_card=replace_card,
        work_dir=work_dir,
        dry_run=dry_run,
    )
    show(style, str(result), asdict(result))
