"""What a pass has behind it, kept up to date member by member, so that its state can be taken at any batch."""

from __future__ import annotations

from typing import Protocol

from ._places import Place
from ._restarts import Restart
from ._shard_state import IdSet
from .tar import BLOCK, Member

__all__ = ["SupportsFind", "Track"]


class SupportsFind(Protocol):
    """Says where to begin for bytes at an offset, see `sa1b_hf._restarts.Notes`."""

    def find(self, offset: int) -> Restart:
        """Give a restart at or before an offset."""
        ...


class Track:
    """The progress of one pass.

    Parameters
    ----------
    spacing
        As for `sa1b_hf._restarts.Notes`.
    is_resumable
        False: nobody asks for the state of the pass, only for the places of documents.

    Attributes
    ----------
    spacing
        As given.
    notes
        Of the reader that members come from now.
    offset
        Of the next tar entry of the part.
    is_searching
        All members of the part were met; what comes now is from other parts.
    pending
        Packed places of the halves that wait, by image id.
    seen
        Ids met, by kind.
    is_usable
        False if a state cannot be taken.

    """

    def __init__(self, spacing: int | None = None, *, is_resumable: bool = True) -> None:
        self.spacing = spacing
        self._is_resumable = is_resumable
        self.notes: SupportsFind | None = None
        self.offset = 0
        self.is_searching = False
        self.pending: dict[int, bytes] = {}
        self.seen = {"jpg": IdSet(), "json": IdSet()}
        self.is_usable = True

    def place(self, member: Member) -> bytes:
        """Give where a member is, packed; nothing if nobody will ask for it."""
        if member.kind == "jpg" and not self._is_resumable:
            return b""
        begin = member.offset + BLOCK
        restart = self.notes.find(begin) if self.notes else Restart()
        place = Place(member.image_id, member.kind, restart.point, begin - restart.produced, member.size).pack()
        self.is_usable = self.is_usable and place is not None and self.notes is not None
        return place or b""

    def pass_by(self, member: Member, *, is_seen: bool) -> None:
        """Note that a member of the part was dealt with."""
        if not self._is_resumable:
            return
        end = member.offset + BLOCK + member.size
        self.offset = end + -end % BLOCK
        if is_seen:
            self.seen[member.kind].add(member.image_id)
