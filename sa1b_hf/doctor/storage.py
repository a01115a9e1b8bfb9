"""Checks of disks, links and shards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from sa1b_hf._disk import RESERVE, allocated
from sa1b_hf._receipt import Places, read_receipt
from sa1b_hf._remote import Remote
from sa1b_hf._terms import MEAN_SIZE
from sa1b_hf.catalog import parse_shard_name, shard_info, shard_name
from sa1b_hf.errors import LinkExpiredError, SA1BError
from sa1b_hf.links import DOWNLOADS_PAGE, ShardLinks, check_expiry, read_links
from sa1b_hf.verify import CATALOGUE, verify_shard

from ._finding import Finding, Setup

__all__ = ["check_cache", "check_disk", "check_links", "check_shards"]

_SOON: Final = timedelta(days=3)
_MAX_SHOWN: Final = 5
_AGAIN: Final = "run  sa1b download  again: what is whole is kept, the rest is fetched"


def check_disk(setup: Setup) -> Iterator[Finding]:
    """Free space against what is missing of the chosen shards."""
    if setup.folder is None:
        return
    free = shutil.disk_usage(_existing(setup.folder)).free
    if setup.numbers is None:
        yield Finding("disk", "ok", f"{_gigabytes(free)} free in {setup.folder}")
        return
    needed = sum(_missing_bytes(setup.folder, number) for number in setup.numbers)
    message = f"{_gigabytes(free)} free in {setup.folder}, {_gigabytes(needed)} still to be downloaded"
    if not needed or free >= needed + RESERVE:
        yield Finding("disk", "ok", message)
        return
    yield Finding(
        "disk",
        "fail",
        message,
        "choose fewer shards, another disk, process and delete (sa1b download --then), or stream from the links: "
        "nothing has to be extracted",
    )


def check_cache(_setup: Setup) -> Iterator[Finding]:
    """The folder to which `datasets` writes, if it is not told to stream."""
    from datasets import config  # noqa: PLC0415 -- slow to import

    folder = Path(config.HF_DATASETS_CACHE)
    free = shutil.disk_usage(_existing(folder)).free
    message = f"{folder}: {_gigabytes(free)} free; a shard that is prepared, not streamed, takes about 11 GB there"
    if not os.access(_existing(folder), os.W_OK):
        yield Finding("cache", "fail", f"{folder} cannot be written to", "set HF_HOME to a folder of your own")
    elif free < MEAN_SIZE:
        yield Finding("cache", "warn", message, "pass streaming=True, or set HF_HOME to a larger disk")
    else:
        yield Finding("cache", "ok", message)


def check_links(setup: Setup) -> Iterator[Finding]:
    """Whether the links are all there, and for how long."""
    if setup.links is None:
        return
    try:
        links = read_links(setup.links)
        wanted = set(links) if setup.numbers is None else set(setup.numbers)
        missing = sorted(wanted - set(links))
        first = check_expiry([link for number, link in links.items() if number in wanted])
    except LinkExpiredError as error:
        yield Finding(
            "links", "fail", str(error), f"get a fresh links file from {DOWNLOADS_PAGE}; downloads go on with it"
        )
        return
    except SA1BError as error:
        yield Finding("links", "fail", str(error), f"get a links file from {DOWNLOADS_PAGE}")
        return
    if missing:
        yield Finding(
            "links", "fail", f"no link for {_names(missing)}", f"get a whole links file from {DOWNLOADS_PAGE}"
        )
    yield _expiry(len(wanted) - len(missing), first)
    if setup.online and wanted - set(missing):
        yield _ask(links, min(wanted - set(missing)))


def _expiry(count: int, first: datetime | None) -> Finding:
    if first is None:
        return Finding("links", "ok", f"{count} links, which do not say when they expire")
    message = f"{count} links, good until {first:%Y-%m-%d %H:%M} UTC"
    if first - datetime.now(timezone.utc) < _SOON:
        return Finding("links", "warn", message, f"get a fresh links file from {DOWNLOADS_PAGE} soon")
    return Finding("links", "ok", message)


def _ask(links: ShardLinks, number: int) -> Finding:
    """Ask the server for one byte."""
    link = links[number]
    try:
        found = Remote(link.url, retries=1, timeout=10).probe()
    except SA1BError as error:
        return Finding("links", "fail", f"{link.name}: {error}", f"get a fresh links file from {DOWNLOADS_PAGE}")
    return Finding("links", "ok", f"{link.name}: the server has it, {found.size or 0:,} bytes")


def check_shards(setup: Setup) -> Iterator[Finding]:
    """Which shards are there, and whether they are whole."""
    if setup.folder is None:
        return
    numbers = setup.numbers
    if numbers is None:
        numbers = _present(setup.folder)
        if not numbers:
            yield Finding(
                "shards", "warn", f"{setup.folder} has no files named sa_000000.tar …", "see  sa1b download --help"
            )
            return
    states: dict[str, list[int]] = {}
    for number in numbers:
        state, problem = _state(setup, number)
        if problem is not None:
            yield problem
        states.setdefault(state, []).append(number)
    for state in ("missing", "unfinished"):
        if found := states.get(state):
            yield Finding("shards", "warn", f"{state}: {_names(found)}", _AGAIN)
    if found := states.get("unchecked"):
        yield Finding("shards", "warn", f"never checked: {_names(found)}", "run  sa1b verify, or  sa1b doctor --verify")
    if found := states.get("whole"):
        yield Finding("shards", "ok", f"whole: {_names(found)}")


def _state(setup: Setup, number: int) -> tuple[str, Finding | None]:
    """Say how a shard is, and what is wrong with it."""
    name = shard_name(number)
    places = Places(setup.folder or Path(), name)
    if not places.final.exists():
        return ("unfinished" if places.part.exists() or places.aria2c_part.exists() else "missing"), None
    if setup.verify:
        report = verify_shard(places.final, checksums=setup.checksums)
        return ("whole", None) if report.is_ok else ("damaged", Finding("shards", "fail", report.message, _AGAIN))
    receipt = read_receipt(places.receipt)
    if receipt is not None and receipt.fits(places.final):
        return "whole", None
    size, expected = places.final.stat().st_size, shard_info(number).size_bytes
    found = "it was changed after it was downloaded and checked"
    if receipt is None:
        if setup.checksums != CATALOGUE or expected in {None, size}:
            return "unchecked", None
        found = f"expected {expected:,} bytes, found {size:,}"
    advice = f"run  sa1b verify {places.final}  to see what is wrong; {_AGAIN}"
    return "damaged", Finding("shards", "fail", f"{name}: {found}", advice)


def _missing_bytes(folder: Path, number: int) -> int:
    places = Places(folder, shard_name(number))
    if places.final.exists():
        return 0
    size = shard_info(number).size_bytes or MEAN_SIZE
    return max(size - max(allocated(places.part), allocated(places.aria2c_part)), 0)


def _present(folder: Path) -> tuple[int, ...]:
    try:
        names = [path.name for path in folder.iterdir() if path.name.endswith(".tar")]
    except OSError:
        return ()
    return tuple(sorted(number for name in names if (number := parse_shard_name(name)) is not None))


def _existing(folder: Path) -> Path:
    """Give the folder, or its nearest parent that exists."""
    folder = folder.absolute()
    return next((place for place in (folder, *folder.parents) if place.exists()), folder)


def _names(numbers: list[int]) -> str:
    names = ", ".join(map(shard_name, numbers[:_MAX_SHOWN]))
    more = len(numbers) - _MAX_SHOWN
    return f"{names} and {more} more" if more > 0 else names


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
