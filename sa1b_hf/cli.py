"""The command ``sa1b``.

Exit status: 0 all is well, 1 a shard is damaged, missing or cannot be had, 2 the command makes no sense, 3 the links
are expired or refused, 4 the target is full or cannot be written, 130 interrupted: the same command goes on.
Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, Final, Literal, TextIO

import click

from ._version import __version__
from .errors import ConfigError, LinkExpiredError, SA1BError, ShardError

__all__ = ["main"]

Format = Literal["human", "json", "quiet"]

_FAILED: Final = 1
_USAGE: Final = 2
_LINKS: Final = 3
_TARGET: Final = 4
_INTERRUPTED: Final = 130
_STDERR: Final = 2
_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_LINK_REASONS: Final = frozenset({"http-401", "http-403", "http-410"})
_TARGET_REASONS: Final = frozenset({"disk-full", "read-only"})


class _Group(click.Group):
    """Turns the package's errors into one line on standard error and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SA1BError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(_status(error))
        except KeyboardInterrupt:
            click.echo("Interrupted. Run the same command again to go on.", err=True)
            ctx.exit(_INTERRUPTED)


def _parse_rate(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Read bytes per second with an optional K, M or G."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([KMG]?)", value.strip().upper())
    if not match or not float(match[1]):
        raise click.BadParameter(f"expected bytes per second such as 500K or 20M, found {value!r}")
    return float(match[1]) * _UNITS[match[2]]


_format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["human", "json", "quiet"]),
    default="human",
    show_default=True,
    help="Lines to read, one JSON object a line, or nothing but errors.",
)
_subset_option = click.option(
    "--subset", type=click.Choice(["1pct", "10pct", "full"]), help="10, 100 or all 1000 shards."
)
_shards_option = click.option("--shards", metavar="NUMBERS", help="Numbers and ranges such as 0-9,20.")
_no_md5_option = click.option(
    "--no-md5", is_flag=True, help="Do not compare with the catalogue, for mirrors that packed the shards anew."
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sa1b")
def main() -> None:
    """Work with SA-1B, Meta's Segment Anything dataset.

    Exit status: 0 all is well, 1 a shard is damaged, missing or cannot be had, 2 the command makes no sense, 3 the
    links are expired or refused, 4 the target is full or cannot be written, 130 interrupted.
    """


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--links", type=click.Path(dir_okay=False), help="Meta's links file, segment_anything_links.txt.")
@click.option("--from", "source", metavar="PLACE", help="Folder, URL of a folder, or template with {file}.")
@_subset_option
@_shards_option
@click.option("--connections", default=4, show_default=True, help="Connections per shard.")
@click.option("--at-once", default=2, show_default=True, help="Shards at a time.")
@click.option(
    "--max-rate", metavar="RATE", callback=_parse_rate, help="Bytes per second of everything together, such as 20M."
)
@_no_md5_option
@click.option(
    "--then",
    metavar="COMMAND",
    help="Run this for each shard, {path} standing for it, and delete the shard if it succeeds. No shell is involved.",
)
@click.option("--keep-going", is_flag=True, help="Go on with the other shards when one fails.")
@_format_option
def download(  # noqa: PLR0917 -- click passes them by name
    folder: Path,
    links: str | None,
    source: str | None,
    subset: str | None,
    shards: str | None,
    connections: int,
    at_once: int,
    max_rate: float | None,
    no_md5: bool,
    then: str | None,
    keep_going: bool,
    style: Format,
) -> None:
    """Download shards into FOLDER; what is there is kept, what was begun goes on.

    \b
    Example:
      sa1b download shards --links segment_anything_links.txt --subset 1pct
      sa1b download shards --from hf://datasets/user/mirror --shards 0-9,20
      sa1b download work --links links.txt --subset 10pct --then "python convert.py {path}"
    """  # noqa: D301 -- a backspace is click\'s mark for text to leave as it is
    from .download import DownloadOptions  # noqa: PLC0415 -- `sa1b --help` needs none of it
    from .download import download as iter_downloads  # noqa: PLC0415

    options = DownloadOptions(
        connections=connections,
        shards_at_once=at_once,
        max_rate=max_rate,
        checksums=None if no_md5 else "catalogue",
        on_error="warn" if keep_going else "raise",
        progress=style == "human",
    )
    failed = 0
    wanted: Any = {"links": links, "source": source, "subset": subset, "shards": shards}
    for shard in iter_downloads(folder, **wanted, delete_after=then is not None, options=options):
        failed += shard.status == "failed"
        fields = {"shard": shard.name, "status": shard.status, "size": shard.size, "md5": shard.md5}
        fields |= {"path": str(shard.path), "fetched": shard.num_fetched}
        fields["error"] = str(shard.error) if shard.error else None
        line = f"{shard.name}  {shard.status:19}  {_gigabytes(shard.size)}  {shard.error or shard.path}"
        _show(style, line, fields)
        if then is not None and shard.status != "failed":
            _run_command(then, shard.path)
    _end(failed)


def _run_command(command: str, path: Path) -> None:
    """Run a command on a shard; a failure ends the run, and the shard stays."""
    words = [word.replace("{path}", str(path)) for word in shlex.split(command)]
    try:
        status = subprocess.run(words, check=False, stdout=_STDERR).returncode  # noqa: S603 -- the user's own
    except OSError as error:
        raise click.ClickException(f"{words[0]}: cannot be run: {error.strerror}") from None
    if status:
        raise click.ClickException(f"{words[0]} failed on {path} with status {status}; the shard is kept")


@main.command()
@click.argument("places", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--structure", is_flag=True, help="Walk gzip and tar and count members even where the MD5 is right.")
@click.option("--deep", is_flag=True, help="Decode every image, document and mask too, and say what can be read.")
@click.option(
    "--report", type=click.File("w", lazy=True), help="Also write all findings there, one JSON object a line."
)
@_no_md5_option
@_format_option
def verify(  # noqa: PLR0917 -- click passes them by name
    places: tuple[Path, ...], structure: bool, deep: bool, report: TextIO | None, no_md5: bool, style: Format
) -> None:
    """Check shard files, and all shards in folders: length, MD5, gzip and tar structure.

    \b
    Example:
      sa1b verify shards
      sa1b verify shards/sa_000016.tar --deep --format json
    """  # noqa: D301 -- a backspace is click\'s mark for text to leave as it is
    from .verify import CATALOGUE, verify_shards  # noqa: PLC0415

    failed = 0
    checksums: Any = None if no_md5 else CATALOGUE
    for found in verify_shards(places, checksums=checksums, structure=structure or None, deep=deep):
        failed += not found.is_ok
        counts = "" if found.num_images is None else f"  {found.num_images:,} images, {found.num_documents:,} documents"
        content = f"\n    decoded: {found.content}" if found.content else ""
        problem = "" if found.is_ok else f"\n    {found.message}"
        line = f"{found.shard}  {found.status:19}  {_gigabytes(found.size or 0)}{counts}{problem}{content}"
        _show(style, line, found.to_dict())
        if report is not None:
            report.write(f"{found.to_json()}\n")
    _end(failed)


@main.command()
@_subset_option
@_shards_option
@click.option("--image", "image_id", type=int, help="Only the shards that can hold this image.")
@click.option("--folder", type=click.Path(path_type=Path), help="Say what of each shard is there.")
@_format_option
def shards(subset: str | None, shards: str | None, image_id: int | None, folder: Path | None, style: Format) -> None:
    """List shards: name, MD5, length, number of images, and damaged copies in circulation.

    \b
    Example:
      sa1b shards --image 226381
      sa1b shards --subset 1pct --folder shards
    """  # noqa: D301 -- a backspace is click\'s mark for text to leave as it is
    from ._origins import choose_shards  # noqa: PLC0415
    from .catalog import shard_info, shard_of  # noqa: PLC0415

    numbers = choose_shards(subset or (None if shards else "full"), shards)
    if image_id is not None:
        numbers = tuple(number for number in numbers if number in shard_of(image_id))
    for number in numbers:
        info = shard_info(number)
        fields: dict[str, Any] = {"shard": info.name, "number": number, "md5": info.md5, "size": info.size_bytes}
        fields |= {"num_images": info.num_images, "known_bad": [bad.md5 for bad in info.known_bad]}
        line = f"{info.name}  {info.md5}  {_gigabytes(info.size_bytes) if info.size_bytes else '       ?'}"
        if info.known_bad:
            line += "  damaged copies on mirrors"
        if folder is not None:
            fields["state"] = _state(folder, info.name)
            line += f"  {fields['state']}"
        _show(style, line, fields)


def _state(folder: Path, name: str) -> str:
    """Say how far a shard is in a folder of downloads."""
    from ._journal import read_journal  # noqa: PLC0415
    from ._receipt import Places, read_receipt  # noqa: PLC0415

    places = Places(folder, name)
    receipt = read_receipt(places.receipt)
    if places.final.exists():
        return receipt.status if receipt and receipt.fits(places.final) else "unchecked"
    if receipt and receipt.deleted:
        return "processed"
    key, pieces = read_journal(places.journal)
    return f"{len(pieces) / key.num_pieces:.0%}" if key else "missing"


def _show(style: Format, line: str, fields: dict[str, Any]) -> None:
    if style != "quiet":
        click.echo(line if style == "human" else json.dumps(fields))


def _end(failed: int) -> None:
    if failed:
        click.get_current_context().exit(_FAILED)


def _status(error: SA1BError) -> int:
    reason = error.reason if isinstance(error, ShardError) else ""
    if isinstance(error, LinkExpiredError) or reason in _LINK_REASONS:
        return _LINKS
    if reason in _TARGET_REASONS:
        return _TARGET
    return _USAGE if isinstance(error, ConfigError) else _FAILED


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:5.2f} GB"


if __name__ == "__main__":
    main()
