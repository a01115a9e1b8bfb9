"""The shards that the readers are measured on: made once, then kept in the working folder."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path

from readers import iter_pieces

from sa1b_hf.testing import make_shard

LAYOUTS = {
    "real": {"compression": "gzip", "order": "random", "prefix": "./"},  # as released
    "plain": {"compression": "none", "order": "sorted", "prefix": ""},  # as in re-packed mirrors
}


@dataclass(frozen=True)
class Shard:
    """A shard and what must be known to judge a pass over it.

    Attributes
    ----------
    path
        The file.
    images
        Number of images, all of them complete.
    file_bytes, tar_bytes
        Size as it lies on disk, and uncompressed.
    first_pair_bytes
        Uncompressed bytes up to the end of the first image of which both halves were met.

    """

    path: Path
    images: int
    file_bytes: int
    tar_bytes: int
    first_pair_bytes: int


def get_shard(workdir: Path, layout: str, *, images: int, preset: str) -> Shard:
    """Make a shard, or take the one that is there; equal numbers of images give the same images in every layout."""
    folder = workdir / f"{preset}-{images}-{layout}"
    path, facts = folder / "sa_000000.tar", folder / "facts.json"
    if not facts.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        make_shard(path, num_images=images, preset=preset, **LAYOUTS[layout])
        shard = Shard(path, images, path.stat().st_size, _tar_bytes(path), _first_pair_bytes(path))
        unfinished = facts.with_suffix(".part")
        unfinished.write_text(json.dumps(asdict(shard), default=str))
        unfinished.replace(facts)
    return Shard(**{**json.loads(facts.read_text()), "path": path})


def warm_up(path: Path) -> None:
    """Read a file once, so that every contender finds it in the page cache."""
    with path.open("rb") as file:
        for _ in iter_pieces(file):
            pass


def _tar_bytes(path: Path) -> int:
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return os.fstat(file.fileno()).st_size
    with gzip.open(path) as file:
        return sum(map(len, iter_pieces(file)))


def _first_pair_bytes(path: Path) -> int:
    seen = set()
    with tarfile.open(path, "r|*") as tar:
        for member in tar:
            stem, _, suffix = member.name.rpartition(".")
            if suffix in ("jpg", "json"):
                if stem in seen:
                    return member.offset_data + member.size
                seen.add(stem)
    raise ValueError(f"{path}: expected a complete pair, found none")
