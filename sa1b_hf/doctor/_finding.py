"""What a check is given, and what it gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sa1b_hf._origins import choose_shards
from sa1b_hf.errors import ConfigError
from sa1b_hf.verify import CATALOGUE, Checksums

__all__ = ["Finding", "Setup", "Severity"]

Severity = Literal["ok", "warn", "fail"]
"""``fail``: something that was asked for will not work. ``warn``: it will be slow, or may fail."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    check
        Its short name, ``"disk"``.
    status
        See `Severity`.
    message
        What was found.
    advice
        What to do about it, empty where nothing is to be done.

    """

    check: str
    status: Severity
    message: str
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Setup:
    """What the user is about to do.

    Attributes
    ----------
    folder
        Where the shards are or shall be; None: no shards on disk.
    links
        Path of a links file.
    subset, shards
        Which shards, as in `sa1b_hf.download.download`; by default those that are in `folder`.
    checksums
        As in `sa1b_hf.verify`.
    verify
        Compute MD5s of the shards that are there.
    size, max_masks, batch_size, workers
        Of the training: pixels of the longest side and most masks of an image (None: all), images of a batch,
        worker processes of the ``DataLoader``.
    online
        Ask the Hub who the token belongs to, and a server whether it still accepts the first link.

    """

    folder: Path | None = None
    links: str | Path | None = None
    subset: str | None = None
    shards: str | None = None
    checksums: Checksums = CATALOGUE
    verify: bool = False
    size: int = 1024
    max_masks: int | None = 64
    batch_size: int = 8
    workers: int = 4
    online: bool = False

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("max_masks", 1), ("batch_size", 1), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}: expected {least} or more, found {value}")
        if self.subset is not None or self.shards is not None:
            choose_shards(self.subset, self.shards)

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """Numbers of the chosen shards, None where none were chosen."""
        if self.subset is None and self.shards is None:
            return None
        return choose_shards(self.subset, self.shards)
