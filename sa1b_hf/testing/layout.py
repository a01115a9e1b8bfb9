"""The layout of a shard: which members it has, in which order, and the tar bytes of each."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from sa1b_hf.errors import ConfigError

from .documents import document_bytes, jpeg_bytes

__all__ = ["BLOCK", "END_OF_ARCHIVE", "Kind", "Member", "Part", "lay_out", "make_header", "make_ids", "tar_part"]

Kind = Literal["jpg", "json", ""]

BLOCK = 512
"""Bytes of a tar block."""

END_OF_ARCHIVE = bytes(20 * BLOCK)
"""Two zero blocks end an archive; tar programs add more of them to fill a record of 20."""

_GAP = 0.05  # share of ids that are skipped
_MTIME = 1_680_307_200  # fixed, so that equal arguments give equal bytes
_FORMATS: dict[str, Literal[0, 1, 2]] = {
    "ustar": tarfile.USTAR_FORMAT,
    "gnu": tarfile.GNU_FORMAT,
    "pax": tarfile.PAX_FORMAT,
}


@dataclass(frozen=True)
class Member:
    """One member to write.

    Attributes
    ----------
    name
        Name in the header, with its prefix.
    content
        Gives the bytes; called when the member is written.
    image_id, kind
        The image, and which half of it this is; None and ``""`` for all else.
    type, linkname
        Type flag of the header, and target of a link.

    """

    name: str
    content: Callable[[], bytes] = bytes
    image_id: int | None = None
    kind: Kind = ""
    type: bytes = tarfile.REGTYPE
    linkname: str = ""


@dataclass(frozen=True)
class Part:
    """A stretch of the tar stream, usually one member: ``chunks()`` gives its header, its data and its padding."""

    chunks: Callable[[], Iterable[bytes]]
    image_id: int | None = None
    kind: Kind = ""


def make_ids(first_id: int, num_images: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Ascending ids from `first_id` with an occasional gap, as in the real shards."""
    steps = 1 + (rng.random(num_images) < _GAP)
    steps[0] = 0
    return tuple((first_id + np.cumsum(steps)).tolist())


def lay_out(
    ids: Sequence[int], *, seed: int, preset: str, order: str, prefix: str, rng: np.random.Generator
) -> list[Member]:
    """List the members of an undamaged shard in the order of writing, the directory first.

    Raises
    ------
    ConfigError
        `order` is unknown.

    """
    members = [
        Member(f"{prefix}sa_{image_id}.{kind}", partial(make, image_id, seed=seed, preset=preset), image_id, kind)
        for image_id in ids
        for kind, make in _HALVES
    ]
    if order == "random":
        members = [members[index] for index in rng.permutation(len(members))]
    elif order != "sorted":
        raise ConfigError(f"order: expected 'random' or 'sorted', found {order!r}")
    return [*_directory(prefix), *members]


_HALVES: tuple[tuple[Kind, Callable[..., bytes]], ...] = (("jpg", jpeg_bytes), ("json", document_bytes))


def _directory(prefix: str) -> list[Member]:
    return [Member(prefix.rstrip("/"), type=tarfile.DIRTYPE)] if prefix else []


def make_header(
    name: str, size: int, tar_format: str = "ustar", *, kind: bytes = tarfile.REGTYPE, linkname: str = ""
) -> bytes:
    """Build the header block of a member; in pax format the extended header with a fractional time comes first.

    Raises
    ------
    ConfigError
        `tar_format` is unknown.

    """
    if tar_format not in _FORMATS:
        raise ConfigError(f"tar_format: expected one of {sorted(_FORMATS)}, found {tar_format!r}")
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, linkname
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    # GNU tar writes sub-second times in its pax headers, which is why such archives have one per member.
    info.mtime = _MTIME + 0.25 if tar_format == "pax" else _MTIME
    return info.tobuf(_FORMATS[tar_format], "utf-8", "surrogateescape")


def _member_chunks(member: Member, tar_format: str) -> tuple[bytes, bytes, bytes]:
    data = member.content()
    header = make_header(member.name, len(data), tar_format, kind=member.type, linkname=member.linkname)
    return header, data, bytes(-len(data) % BLOCK)


def tar_part(member: Member, tar_format: str) -> Part:
    """Turn a member into its stretch of the tar stream; nothing is made before ``chunks()`` is called."""
    return Part(partial(_member_chunks, member, tar_format), member.image_id, member.kind)
