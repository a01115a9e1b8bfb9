"""`sa1b env`."""

from __future__ import annotations

import json

import click

from sa1b_hf.doctor import environment

from ._common import Format, format_option


@click.command()
@format_option
def env(style: Format) -> None:
    """Print versions, paths and settings to put into a report of a bug; tokens and signed URLs are left out.

    \b
    Example:
      sa1b env
      sa1b env --format json
    """
    found = environment()
    if style == "json":
        click.echo(json.dumps(found))
    elif style == "human":
        width = max(map(len, found))
        for name, value in found.items():
            click.echo(f"{name:{width}}  {value}")
