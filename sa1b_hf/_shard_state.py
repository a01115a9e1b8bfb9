"""Where a pass over a shard stands, as a short text that another process can go on from."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from ._places import PLACE_SIZE, Place, unpack_places
from ._restarts import Restart
from .errors import ConfigError
from .gzsync import Joint

__all__ = ["IdSet", "ShardState"]

_VERSION: Final = 1
_PAGE: Final = 64


class IdSet:
    """Image ids as bits, for ids that lie close together: cheap to add to, and short as text."""

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}

    def add(self, image_id: int) -> None:
        """Add an id."""
        page, bit = divmod(image_id, _PAGE)
        self._pages[page] = self._pages.get(page, 0) | 1 << bit

    def discard(self, image_id: int) -> None:
        """Take an id out."""
        page, bit = divmod(image_id, _PAGE)
        self._pages[page] = self._pages.get(page, 0) & ~(1 << bit)

    def pack(self) -> bytes:
        """Give it as bytes."""
        pages = self._pages
        return struct.pack(f"<{2 * len(pages)}Q", *pages.keys(), *pages.values())

    @classmethod
    def unpack(cls, data: bytes) -> IdSet:
        """Give back what was packed."""
        count, rest = divmod(len(data), 16)
        if rest:
            raise ValueError("expected whole pages")
        numbers = struct.unpack(f"<{2 * count}Q", data)
        found = cls()
        found._pages = dict(zip(numbers[:count], numbers[count:], strict=True))
        return found

    def to_set(self) -> set[int]:
        """Give the ids."""
        if not self._pages:
            return set()
        pages = np.fromiter(self._pages.keys(), np.uint64)
        words = np.fromiter(self._pages.values(), "<u8")
        rows, bits = np.nonzero(np.unpackbits(words.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little"))
        found: list[int] = (pages[rows] * np.uint64(_PAGE) + bits.astype(np.uint64)).tolist()
        return set(found)


@dataclass
class ShardState:
    """Where a pass stands at the beginning of a batch: its rows, and what is needed to go on behind them.

    Attributes
    ----------
    identity
        Of the file, see `sa1b_hf._random_bytes.RandomBytes`.
    joints
        Where the part begins and ends; None for its beginning: it is empty.
    restart, offset
        Where to begin, and the offset of the next tar entry as the part's reader counts.
    is_searching
        All members of the part were read; documents that are in other parts are being looked for.
    seen
        Ids of which a half was met, by kind.
    pending
        Packed places of the halves that wait; those of `tables` and `bad` are not among them.
    halves
        How many of an image are read: 2, or 1 without JPEGs.
    tables, bad
        Packed places of the rows to come before anything else, by batch, and of unusable images, which are reported
        after them.
    limit
        Largest number of records behind the next batch.

    """

    identity: Mapping[str, str]
    joints: tuple[Joint | None, Joint | None]
    restart: Restart
    offset: int
    is_searching: bool
    seen: Mapping[str, bytes]
    pending: bytes
    halves: int = 2
    limit: int = 1
    tables: list[bytes] = field(default_factory=list)
    bad: bytes = b""

    def encode_head(self) -> str:
        """Give the longest part of the text, which several states share: all but `tables` and `bad`."""
        fields = vars(self) | {
            "joints": [joint and joint.to_list() for joint in self.joints],
            "restart": self.restart.to_list(),
            "seen": {kind: _to_text(packed) for kind, packed in self.seen.items()},
            "pending": _to_text(self.pending),
        }
        del fields["tables"], fields["bad"]
        return json.dumps({"version": _VERSION, **fields}, separators=(",", ":"))

    def encode(self, head: str | None = None) -> str:
        """Give it as text without anything secret; `head` is what `encode_head` gave."""
        rest = {"tables": [_to_text(table) for table in self.tables], "bad": _to_text(self.bad)}
        return (head or self.encode_head())[:-1] + "," + json.dumps(rest, separators=(",", ":"))[1:]

    @classmethod
    def decode(cls, text: str) -> ShardState:
        """Give back what was encoded.

        Raises
        ------
        ConfigError
            It is no state of this version.

        """
        try:
            fields = json.loads(text)
            version = fields.pop("version")
            fields["joints"] = tuple(joint and Joint.from_list(joint) for joint in fields["joints"])
            fields["restart"] = Restart.from_list(fields["restart"])
            fields["seen"] = {kind: base64.b64decode(packed, validate=True) for kind, packed in fields["seen"].items()}
            fields["tables"] = [base64.b64decode(table, validate=True) for table in fields["tables"]]
            for name in ("pending", "bad"):
                fields[name] = base64.b64decode(fields[name], validate=True)
            found = cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"state: expected what state_dict() gave, found something else: {error}") from None
        if version != _VERSION:
            raise ConfigError(f"state: expected one of version {_VERSION}, found version {version!r}; begin anew")
        return found

    def without(self, skip: int) -> ShardState:
        """Give the state behind some rows of `tables`."""
        tables, drop = [], skip * self.halves * PLACE_SIZE
        for table in self.tables:
            if drop < len(table):
                tables.append(table[drop:])
            drop = max(0, drop - len(table))
        return replace(self, tables=tables)

    def images(self, packed: bytes) -> list[list[Place]]:
        """Unpack `bad` or one of `tables`: the halves of each image."""
        places = list(unpack_places(packed))
        return [places[at : at + self.halves] for at in range(0, len(places), self.halves)]


def _to_text(data: bytes) -> str:
    return base64.b64encode(data).decode()
