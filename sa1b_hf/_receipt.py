"""What a download leaves behind about each shard, beside the shards themselves, so that a rerun knows what is done."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ._disk import write_small
from .verify import Status

__all__ = ["Places", "Receipt", "read_receipt", "write_receipt"]

_FOLDER: Final = ".sa1b"


@dataclass(frozen=True)
class Places:
    """Where the files of one shard's download are.

    Everything but the finished shard is in the hidden folder ``.sa1b``: the folder itself holds whole shards only.

    Attributes
    ----------
    folder
        For the shards.
    name
        Of the shard.

    """

    folder: Path
    name: str

    @property
    def hidden(self) -> Path:
        """Folder of everything unfinished."""
        return self.folder / _FOLDER

    @property
    def final(self) -> Path:
        """The finished shard."""
        return self.folder / f"{self.name}.tar"

    @property
    def part(self) -> Path:
        """The shard while it is being filled."""
        return self.hidden / f"{self.name}.part"

    @property
    def journal(self) -> Path:
        """See `sa1b_hf._journal`."""
        return self.hidden / f"{self.name}.journal"

    @property
    def aria2c_part(self) -> Path:
        """The shard while aria2c fills it."""
        return self.hidden / f"{self.name}.aria2c"

    @property
    def aria2c_journal(self) -> Path:
        """Which file it is that aria2c fetches."""
        return self.hidden / f"{self.name}.aria2c.journal"

    @property
    def lock(self) -> Path:
        """See `sa1b_hf._lock`."""
        return self.hidden / f"{self.name}.lock"

    @property
    def receipt(self) -> Path:
        """See `Receipt`."""
        return self.hidden / f"{self.name}.json"

    @property
    def rejected(self) -> Path:
        """The latest file that was complete and not what it should be."""
        return self.hidden / f"{self.name}.rejected"


@dataclass(frozen=True)
class Receipt:
    """What was made sure of when a shard was finished.

    Attributes
    ----------
    name
        Of the shard.
    size, mtime_ns
        Of the file then; a file that differs is checked anew.
    status
        ``"verified"`` or ``"complete-unverified"``.
    md5
        Hexadecimal, None if it was not computed.
    deleted
        The file was processed, and then deleted on purpose.

    """

    name: str
    size: int
    mtime_ns: int
    status: Status
    md5: str | None = None
    deleted: bool = False

    def fits(self, path: Path) -> bool:
        """Tell whether a file is still the one that the receipt is about."""
        try:
            stat = path.stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


def read_receipt(path: Path) -> Receipt | None:
    """Read a receipt; None if there is none that can be read."""
    try:
        return Receipt(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write a receipt, durably; raises what `sa1b_hf._disk.disk_problem` gives."""
    write_small(path, json.dumps(asdict(receipt)))
