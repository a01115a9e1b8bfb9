"""`sa1b view`."""

from __future__ import annotations

import webbrowser

import click

from sa1b_hf.places import find_place
from sa1b_hf.viewer import Viewer, ViewerServer

from ._common import Format, format_option, show


@click.command()
@click.argument("source", required=False)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; any that is free if not given.")
@click.option("--limit", type=click.IntRange(1), default=2000, show_default=True, help="Images to show at most.")
@click.option("--split", default="train", show_default=True, help="Of a repository.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@format_option
def view(source: str | None, port: int, limit: int, split: str, no_browser: bool, style: Format) -> None:
    """Look at images and masks on a page of this machine; Ctrl-C ends it.

    SOURCE is a shard, a folder of shards, a links file, a converted directory or a repository; the embedded sample if
    left out. Only this machine, and only who has the printed address, can see the page.

    \b
    Example:
      sa1b view shards
      sa1b view converted --port 8899 --no-browser
    """
    with ViewerServer(Viewer(find_place(source, split=split), limit=limit), port) as server:
        # the address is the result, also for --format quiet: without it the page cannot be opened
        show("human" if style == "quiet" else style, server.url, {"url": server.url, "port": server.port})
        if not no_browser:
            webbrowser.open(server.url)
        try:
            server.wait()
        except KeyboardInterrupt:
            click.echo("Closed.", err=True)
