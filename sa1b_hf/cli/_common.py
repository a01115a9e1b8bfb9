"""What the commands share: options, how results are shown, exit statuses."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final, Literal, TypeVar

import click

from sa1b_hf.errors import ConfigError, LinkExpiredError, SA1BError, ShardError

Format = Literal["human", "json", "quiet"]
_F = TypeVar("_F", bound=Callable[..., Any])
_QUIET: Final = "sa1b_hf.quiet"

FAILED: Final = 1
USAGE: Final = 2
LINKS: Final = 3
TARGET: Final = 4
INTERRUPTED: Final = 130
_LINK_REASONS: Final = frozenset({"http-401", "http-403", "http-410"})
_TARGET_REASONS: Final = frozenset({"disk-full", "read-only"})


def _note_quiet(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta[_QUIET] = value


def _choose_format(ctx: click.Context, _param: click.Parameter, value: str) -> str:
    return "quiet" if ctx.meta[_QUIET] else value


def format_option(function: _F) -> _F:
    """Add --format and its short form --quiet, which is looked at first."""
    choice = click.option(
        "--format",
        "style",
        type=click.Choice(["human", "json", "quiet"]),
        default="human",
        show_default=True,
        callback=_choose_format,
        help="Lines to read, one JSON object a line, or nothing but errors.",
    )
    quiet = click.option(
        "-q", "--quiet", is_flag=True, is_eager=True, expose_value=False, callback=_note_quiet, help="--format quiet."
    )
    return choice(quiet(function))


subset_option = click.option(
    "--subset", type=click.Choice(["1pct", "10pct", "full"]), help="10, 100 or all 1000 shards."
)
shards_option = click.option("--shards", metavar="NUMBERS", help="Numbers and ranges such as 0-9,20.")
no_md5_option = click.option(
    "--no-md5", is_flag=True, help="Do not compare with the catalogue, for mirrors that packed the shards anew."
)
checksums_option = click.option(
    "--checksums",
    type=click.Path(dir_okay=False),
    help="Compare with the MD5s in this file, as md5sum writes it, in place of the catalogue.",
)


def show(style: Format, line: str, fields: dict[str, Any]) -> None:
    if style != "quiet":
        with _between_bars():
            click.echo(line if style == "human" else json.dumps(fields))


@contextmanager
def _between_bars() -> Iterator[None]:
    """Take progress bars away while a line is written, if there are any."""
    bars = sys.modules.get("tqdm")
    with bars.tqdm.external_write_mode() if bars else nullcontext():
        yield


class _Warnings(logging.Handler):
    """Writes what the package logs to standard error, where nothing else was set up for it."""

    def emit(self, record: logging.LogRecord) -> None:
        with _between_bars():
            click.echo(f"{record.levelname.title()}: {record.getMessage()}", err=True)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Show the package's warnings while a command runs."""
    logger, handler = logging.getLogger("sa1b_hf"), _Warnings(logging.WARNING)
    if not logger.hasHandlers():
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def choose_checksums(checksums: str | None, *, no_md5: bool) -> Any:
    """Give the value of `checksums=` that the options stand for."""
    from sa1b_hf.verify import CATALOGUE, read_checksums  # noqa: PLC0415 -- `sa1b --help` needs none of it

    if checksums is not None and no_md5:
        raise ConfigError("expected one of --checksums and --no-md5, found both")
    if checksums is not None:
        return read_checksums(checksums)
    return None if no_md5 else CATALOGUE


def end(failed: int) -> None:
    if failed:
        click.get_current_context().exit(FAILED)


def status(error: SA1BError) -> int:
    reason = error.reason if isinstance(error, ShardError) else ""
    if isinstance(error, LinkExpiredError) or reason in _LINK_REASONS:
        return LINKS
    if reason in _TARGET_REASONS:
        return TARGET
    return USAGE if isinstance(error, ConfigError) else FAILED


def gigabytes(count: int) -> str:
    return f"{count / 1e9:5.2f} GB"
