"""The command ``sa1b``.

Exit status: 0 all is well, 1 a shard is damaged, missing or cannot be had, 2 the command makes no sense, 3 the links
are expired or refused, 4 the target is full or cannot be written, 130 interrupted: the same command goes on.
Results go to standard output, everything else to standard error.

Each command is the function of its name in the module of its name; a module is imported when its command is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from sa1b_hf._version import __version__
from sa1b_hf.errors import SA1BError

from ._common import INTERRUPTED, status, warnings_shown

__all__ = ["COMMANDS", "main"]

COMMANDS: Final = {
    "demo": "Stream the embedded sample and draw one example's masks.",
    "download": "Download shards, resumably, and check them.",
    "label": "Name the masks of converted shards with a model.",
    "verify": "Check shard files: length, MD5, gzip and tar structure.",
    "convert": "Convert shards: filter, resize, to Parquet, WebDataset, COCO, YOLO.",
    "index": "Note where each image is: in shards, or in a converted folder.",
    "push": "Push a converted folder to the Hub: no images, and private, unless told so.",
    "shards": "List shards: names, MD5s, lengths.",
    "inspect": "Look into one shard: rows, members, one image.",
    "stats": "Count masks: areas, scores, sizes.",
    "view": "Look at images and masks in the browser.",
    "plot": "Save distributions, a contact sheet, or crops by label.",
    "doctor": "Say what is wrong with the setup, and what to do.",
    "env": "Print versions and paths, for a report of a bug.",
}
"""Each command and its line in ``sa1b --help``, which imports none of them."""


class _Group(click.Group):
    """Imports a command when it is asked for; turns the package's errors into a line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f".{cmd_name}", __name__), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings_shown():
                return super().invoke(ctx)
        except SA1BError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(status(error))
        except KeyboardInterrupt:
            click.echo("Interrupted. Run the same command again to go on.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sa1b")
def main() -> None:
    """Work with SA-1B, Meta's Segment Anything dataset.

    Exit status: 0 all is well, 1 a shard is damaged, missing or cannot be had, 2 the command makes no sense, 3 the
    links are expired or refused, 4 the target is full or cannot be written, 130 interrupted.
    """
