"""What the commands share: options, how results are shown, exit statuses."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import click

from sa1b_hf.errors import ConfigError, LinkExpiredError, SA1BError, ShardError

Format = Literal["human", "json", "quiet"]

FAILED: Final = 1
USAGE: Final = 2
LINKS: Final = 3
TARGET: Final = 4
INTERRUPTED: Final = 130
_LINK_REASONS: Final = frozenset({"http-401", "http-403", "http-410"})
_TARGET_REASONS: Final = frozenset({"disk-full", "read-only"})

format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["human", "json", "quiet"]),
    default="human",
    show_default=True,
    help="Lines to read, one JSON object a line, or nothing but errors.",
)
subset_option = click.option(
    "--subset", type=click.Choice(["1pct", "10pct", "full"]), help="10, 100 or all 1000 shards."
)
shards_option = click.option("--shards", metavar="NUMBERS", help="Numbers and ranges such as 0-9,20.")
no_md5_option = click.option(
    "--no-md5", is_flag=True, help="Do not compare with the catalogue, for mirrors that packed the shards anew."
)


def show(style: Format, line: str, fields: dict[str, Any]) -> None:
    if style != "quiet":
        click.echo(line if style == "human" else json.dumps(fields))


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
