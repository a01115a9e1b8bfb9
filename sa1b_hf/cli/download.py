"""`sa1b download`."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import click

from sa1b_hf.download import DownloadOptions
from sa1b_hf.download import download as iter_downloads

from ._common import (
    Format,
    checksums_option,
    choose_checksums,
    end,
    format_option,
    gigabytes,
    no_md5_option,
    shards_option,
    show,
    subset_option,
)

_STDERR: Final = 2
_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def _parse_rate(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Read bytes per second with an optional K, M or G."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([KMG]?)", value.strip().upper())
    if not match or not float(match[1]):
        raise click.BadParameter(f"expected bytes per second such as 500K or 20M, found {value!r}")
    return float(match[1]) * _UNITS[match[2]]


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--links", type=click.Path(dir_okay=False), help="Meta's links file, segment_anything_links.txt.")
@click.option("--from", "source", metavar="PLACE", help="Folder, URL of a folder, or template with {file}.")
@subset_option
@shards_option
@click.option("--connections", default=4, show_default=True, help="Connections per shard.")
@click.option("--at-once", default=2, show_default=True, help="Shards at a time.")
@click.option(
    "--max-rate", metavar="RATE", callback=_parse_rate, help="Bytes per second of everything together, such as 20M."
)
@click.option(
    "--engine",
    type=click.Choice(["builtin", "aria2c"]),
    default="builtin",
    show_default=True,
    help="Who fetches; aria2c must be installed. What was fetched is checked in the same way.",
)
@checksums_option
@no_md5_option
@click.option(
    "--then",
    metavar="COMMAND",
    help="Run this for each shard, {path} standing for it, and delete the shard if it succeeds. No shell is involved.",
)
@click.option("--keep-going", is_flag=True, help="Go on with the other shards when one fails.")
@format_option
def download(
    folder: Path,
    links: str | None,
    source: str | None,
    subset: str | None,
    shards: str | None,
    connections: int,
    at_once: int,
    max_rate: float | None,
    engine: Any,
    checksums: str | None,
    no_md5: bool,
    then: str | None,
    keep_going: bool,
    style: Format,
) -> None:
    """Download shards into FOLDER; what is there is kept, what was begun goes on.

    \b
    Example:
      sa1b download shards --links segment_anything_links.txt --subset 1pct
      sa1b download shards --from hf://datasets/user/mirror --shards 0-9,20 --checksums MD5SUMS
      sa1b download work --links links.txt --subset 10pct --then "python convert.py {path}"
    """
    options = DownloadOptions(
        connections=connections,
        shards_at_once=at_once,
        max_rate=max_rate,
        engine=engine,
        checksums=choose_checksums(checksums, no_md5=no_md5),
        on_error="warn" if keep_going else "raise",
        # Bars in a file would be one endless line.
        progress=style == "human" and sys.stderr.isatty(),
    )
    failed = 0
    wanted: Any = {"links": links, "source": source, "subset": subset, "shards": shards}
    for shard in iter_downloads(folder, **wanted, delete_after=then is not None, options=options):
        failed += shard.status == "failed"
        fields = {"shard": shard.name, "status": shard.status, "size": shard.size, "md5": shard.md5}
        fields |= {"path": str(shard.path), "fetched": shard.num_fetched}
        fields["error"] = str(shard.error) if shard.error else None
        line = f"{shard.name}  {shard.status:19}  {gigabytes(shard.size)}  {shard.error or shard.path}"
        show(style, line, fields)
        if then is not None and shard.status != "failed":
            _run_command(then, shard.path)
    end(failed)


def _run_command(command: str, path: Path) -> None:
    """Run a command on a shard; a failure ends the run, and the shard stays."""
    words = [word.replace("{path}", str(path)) for word in shlex.split(command)]
    try:
        status = subprocess.run(words, check=False, stdout=_STDERR).returncode  # noqa: S603 -- the user's own
    except OSError as error:
        raise click.ClickException(f"{words[0]}: cannot be run: {error.strerror}") from None
    if status:
        raise click.ClickException(f"{words[0]} failed on {path} with status {status}; the shard is kept")
