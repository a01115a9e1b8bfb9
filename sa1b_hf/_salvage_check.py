"""What can still be read of a damaged shard."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .salvage import Loss, SalvageReport, iter_salvaged_members

__all__ = ["Salvage", "salvage_check"]


@dataclass(frozen=True)
class Salvage:
    """What a pass around the damage of a shard found.

    Attributes
    ----------
    num_members
        JPEGs and documents that can be read.
    num_images
        Images of which both halves can be read.
    lost
        What cannot, or cannot be trusted, in the order of the file.

    """

    num_members: int
    num_images: int
    lost: list[Loss]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Give a line of counts, and one for each loss."""
        lines = [f"{self.num_members:,} members can be read, {self.num_images:,} images with their documents"]
        for loss in self.lost:
            name = loss.name or "no name is known"
            lines.append(f"lost: bytes {loss.start:,} to {loss.stop:,} of the file, {loss.reason}, {name}")
        return "\n".join(lines)


def salvage_check(path: Path) -> Salvage:
    """Read a shard around whatever damage it has.

    Parameters
    ----------
    path
        Of the file.

    Returns
    -------
    Salvage
        ``load_dataset(..., on_error="warn", salvage=True)`` gives these images, save those whose JPEG or document is
        itself found to be unusable.

    """
    found = SalvageReport()
    ids: dict[str, set[int]] = {"jpg": set(), "json": set()}
    for member in iter_salvaged_members(path, found):
        ids[member.kind].add(member.image_id)
    return Salvage(found.delivered, len(ids["jpg"] & ids["json"]), found.lost)
