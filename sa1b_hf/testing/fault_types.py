"""What a fault is: its name, how far it reaches, and the reason a reader should give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from .layout import Member, Part

__all__ = ["FaultSpec", "FileFault", "InjectedFault", "RecordFault", "RecordTarget", "TarFault"]


class RecordTarget(NamedTuple):
    """The image that a record fault hits.

    Attributes
    ----------
    image_id
        An image of the shard.
    new_id
        An id that no image of the shard has, for members that are added.
    prefix
        Of the shard's member names.
    rng
        Source of randomness, for positions.

    """

    image_id: int
    new_id: int
    prefix: str
    rng: np.random.Generator


RecordFault = Callable[[list[Member], RecordTarget], list[Member]]
TarFault = Callable[[list[Part], int], list[Part]]
"""Gets the parts and the position of the victim; parts before the victim stay as they are."""
FileFault = Callable[[Path], "int | None"]
"""Edits the written file; gives how many bytes of the tar are still to be had, None for all."""


@dataclass(frozen=True)
class FaultSpec:
    """One kind of damage.

    Attributes
    ----------
    name
        Key in `FAULTS`.
    layer
        What is damaged: ``"record"`` one image or an extra member, ``"tar"`` the tar stream, ``"file"`` the file
        after compression.
    reasons
        Reason slugs of which a correct reader gives one; the first is the usual one.
    description
        One line.
    apply
        Does the damage.
    victim
        For the tar layer, what is hit: ``"member"``, ``"jpg"``, ``"json"``, ``"padded"`` (the first half of a pair,
        with padding to cut) or ``"end"`` (the end of the archive).
    needs_gzip
        Cannot be made with ``compression="none"``.
    adds_member
        Adds a member and leaves every image as it is.
    delivered
        The image that is hit is delivered all the same.

    """

    name: str
    layer: Literal["record", "tar", "file"]
    reasons: tuple[str, ...]
    description: str
    apply: Callable[..., Any] = field(repr=False)
    victim: Literal["member", "jpg", "json", "padded", "end"] = "member"
    needs_gzip: bool = False
    adds_member: bool = False
    delivered: bool = False

    @property
    def scope(self) -> Literal["shard", "record"]:
        """``"record"`` if the rest of the shard is not affected, else ``"shard"``."""
        return "record" if self.layer == "record" else "shard"

    @property
    def reason(self) -> str:
        """The usual reason slug."""
        return self.reasons[0]


@dataclass(frozen=True)
class InjectedFault:
    """A fault that a shard really has.

    Attributes
    ----------
    name
        Key in `FAULTS`.
    reasons
        Reason slugs of which a correct reader gives one.
    image_ids
        The ids it concerns: the image that is hit, or the id in the name of an added member; for a shard fault, the
        images that need not be delivered because of it.

    """

    name: str
    reasons: tuple[str, ...]
    image_ids: tuple[int, ...]

    @property
    def reason(self) -> str:
        """The usual reason slug."""
        return self.reasons[0]
