"""Write synthetic shards in the layout of the real ones, whole or with known faults."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from sa1b_hf.errors import ConfigError

from .documents import jpeg_bytes, make_document
from .fault_types import FaultSpec, InjectedFault, RecordTarget
from .faults import get_faults
from .layout import END_OF_ARCHIVE, Kind, Member, Part, lay_out, make_ids, tar_part
from .presets import get_preset
from .writer import renamed_when_done, write_stream

__all__ = ["ShardManifest", "make_shard"]

_PREFIX = re.compile(r"(\./|[\w-]+/)?", re.ASCII)
_NEW_IDS_FROM = 10  # distance from the last id, so that added members have names of no image


@dataclass(frozen=True)
class ShardManifest:
    """What a synthetic shard holds.

    Attributes
    ----------
    path
        The file.
    shard
        Its name without suffix, ``"sa_000000"``.
    image_ids
        Every id, ascending, damaged ones included.
    good_ids
        The images that a tolerant reader delivers: those without damage that lie wholly before a shard fault. Where
        bytes behind the fault can be reached nonetheless, a reader may deliver more.
    faults
        What was built in. A record fault behind a shard fault need not be seen.
    preset, seed
        As they were given.

    """

    path: Path
    shard: str
    image_ids: tuple[int, ...]
    good_ids: frozenset[int]
    faults: tuple[InjectedFault, ...]
    preset: str
    seed: int

    def document(self, image_id: int) -> dict[str, Any]:
        """Give the document of an image as it is without damage."""
        return make_document(image_id, seed=self.seed, preset=self.preset)

    def jpeg(self, image_id: int) -> bytes:
        """Give the JPEG of an image as it is without damage."""
        return jpeg_bytes(image_id, seed=self.seed, preset=self.preset)

    @property
    def reasons(self) -> Mapping[str, tuple[str, ...]]:
        """The acceptable reason slugs by name of fault."""
        return {fault.name: fault.reasons for fault in self.faults}


def make_shard(
    path: str | os.PathLike[str],
    *,
    first_id: int = 1,
    num_images: int = 12,
    preset: str = "small",
    compression: str = "gzip",
    compresslevel: int = 6,
    order: str = "random",
    prefix: str | None = None,
    tar_format: str = "ustar",
    faults: Sequence[FaultSpec | str] = (),
    seed: int = 0,
) -> ShardManifest:
    """Write a synthetic shard.

    Parameters
    ----------
    path
        File to write, for example ``sa_000000.tar``; it appears under this name when it is complete.
    first_id
        Id of the first image; the others follow with occasional gaps.
    num_images
        Number of images, at least 1.
    preset
        ``"small"`` (96x72, a few masks), ``"demo"`` (640x480, about 30) or ``"full"`` (1500x2250, about 100).
    compression
        ``"gzip"`` as released, or ``"none"`` as in re-packed mirrors.
    compresslevel
        Of gzip, 0 to 9.
    order
        ``"random"`` as released, where an image and its JSON are far apart, or ``"sorted"``.
    prefix
        Of the member names: ``"./"`` as released (None), ``""``, or a folder such as ``"sa_000000/"``.
    tar_format
        ``"ustar"``, ``"gnu"`` or ``"pax"`` (with an extended header for each member).
    faults
        Names from `FAULTS`: any number of record faults, each on an image of its own, and at most one shard fault.
    seed
        Equal arguments give equal bytes on one machine.

    Returns
    -------
    ShardManifest
        Which images a reader has to deliver, and what is wrong with the others.

    Raises
    ------
    ConfigError
        An option makes no sense, or there are fewer images than faults that need one.

    """
    path, specs = Path(path), get_faults(faults)
    _check_numbers(num_images, first_id, seed, compresslevel)
    _check_text(prefix, compression)
    _check_faults(num_images, compression, specs)
    rng = np.random.default_rng([seed, first_id, num_images])
    folder = "./" if prefix is None else prefix
    ids = make_ids(first_id, num_images, rng)
    members = lay_out(ids, seed=seed, preset=get_preset(preset).name, order=order, prefix=folder, rng=rng)
    members, injected, spoilt = _damage_records(members, ids, folder, specs, rng)
    parts = [tar_part(member, tar_format) for member in members]
    shard_fault = next((spec for spec in specs if spec.scope == "shard"), None)
    whole = _write(path, parts, shard_fault, compresslevel if compression == "gzip" else None)
    good = _paired(parts[:whole]) - spoilt
    if shard_fault:
        lost = tuple(image_id for image_id in ids if image_id not in good)
        injected.append(InjectedFault(shard_fault.name, shard_fault.reasons, lost))
    return ShardManifest(path, path.stem, ids, frozenset(good), tuple(injected), preset, seed)


def _check_numbers(num_images: int, first_id: int, seed: int, compresslevel: int) -> None:
    for name, value, least in (("num_images", num_images, 1), ("first_id", first_id, 0), ("seed", seed, 0)):
        if value < least:
            raise ConfigError(f"{name}: expected {least} or more, found {value}")
    if compresslevel not in range(10):
        raise ConfigError(f"compresslevel: expected 0 to 9, found {compresslevel}")


def _check_text(prefix: str | None, compression: str) -> None:
    if compression not in ("gzip", "none"):
        raise ConfigError(f"compression: expected 'gzip' or 'none', found {compression!r}")
    if prefix is not None and not _PREFIX.fullmatch(prefix):
        raise ConfigError(f"prefix: expected './', '' or one folder such as 'sa_000000/', found {prefix!r}")


def _check_faults(num_images: int, compression: str, specs: Sequence[FaultSpec]) -> None:
    victims = sum(spec.scope == "record" and not spec.adds_member for spec in specs)
    if num_images < victims:
        raise ConfigError(f"num_images: expected at least {victims}, one for each record fault, found {num_images}")
    if compression == "none" and (bad := [spec.name for spec in specs if spec.needs_gzip]):
        raise ConfigError(f"faults: {bad} need compression='gzip', found 'none'")


def _damage_records(
    members: list[Member], ids: Sequence[int], prefix: str, specs: Sequence[FaultSpec], rng: np.random.Generator
) -> tuple[list[Member], list[InjectedFault], set[int]]:
    """Apply the record faults; also give which were applied, and the images that are no longer to be delivered."""
    victims = iter(rng.permutation(np.array(ids)).tolist())
    injected: list[InjectedFault] = []
    spoilt: set[int] = set()
    for number, spec in enumerate(spec for spec in specs if spec.scope == "record"):
        new_id = ids[-1] + _NEW_IDS_FROM + number
        image_id = ids[0] if spec.adds_member else next(victims)
        members = spec.apply(members, RecordTarget(image_id, new_id, prefix, rng))
        concerned = new_id if spec.adds_member else image_id
        injected.append(InjectedFault(spec.name, spec.reasons, (concerned,)))
        if not spec.delivered:
            spoilt.add(concerned)
    return members, injected, spoilt


def _paired(parts: Sequence[Part]) -> set[int]:
    """Ids of which both halves are there."""
    halves: dict[Kind, set[int]] = {"jpg": set(), "json": set(), "": set()}
    for part in parts:
        if part.image_id is not None:
            halves[part.kind].add(part.image_id)
    return halves["jpg"] & halves["json"]


def _write(path: Path, parts: list[Part], fault: FaultSpec | None, compresslevel: int | None) -> int:
    """Write the file with its shard fault; give how many of the parts can be read back whole."""
    stream: list[Part] = [*parts, Part(lambda: (END_OF_ARCHIVE,))]
    whole: int = len(parts)
    if fault and fault.layer == "tar":
        whole = at = len(parts) if fault.victim == "end" else _victim(parts, fault.victim)
        stream = fault.apply(stream, at)
    intact: int | None = None
    with renamed_when_done(path) as temporary:
        ends = write_stream(temporary, stream, compresslevel)
        if fault and fault.layer == "file":
            intact = fault.apply(temporary)
    if intact is None:
        return whole
    return bisect_right(ends, intact, hi=whole)


def _victim(parts: Sequence[Part], kind: str) -> int:
    """Position of the part that a fault hits: about the middle, behind at least one whole pair if there is one."""
    middle = max(len(parts) // 2, _end_of_first_pair(parts))
    for at in chain(range(middle, len(parts)), range(middle - 1, 0, -1)):
        if _fits(parts, at, kind):
            return at
    raise ConfigError(f"faults: expected a member of kind {kind!r} to damage, found none; use more images")


def _end_of_first_pair(parts: Sequence[Part]) -> int:
    seen: set[int] = set()
    for at, part in enumerate(parts):
        if part.image_id in seen:
            return at + 1
        if part.image_id is not None:
            seen.add(part.image_id)
    return 1


def _fits(parts: Sequence[Part], at: int, kind: str) -> bool:
    part = parts[at]
    if kind == "padded":
        earlier = {other.image_id for other in parts[:at]}
        return bool(part.kind) and part.image_id not in earlier and len(list(part.chunks())[-1]) > 1
    return bool(part.kind) and kind in ("member", part.kind)
