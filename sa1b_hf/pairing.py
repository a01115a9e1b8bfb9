"""The image and the document of one id, brought together in bounded memory whatever the order of the shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Literal, NamedTuple

from ._covers import Unpaired
from ._holding import Half, Holding, as_bytes
from ._places import PlaceReader, StoredBlob, unpack_places
from ._shard_state import IdSet, ShardState
from ._track import Track
from .errors import PairingError
from .faults import Faults
from .source import Blob
from .tar import Member, SkippedMember

__all__ = ["DEFAULT_RAM_CAP", "Pairing", "Record"]

DEFAULT_RAM_CAP: Final = 512 << 20


class Record(NamedTuple):
    """The paired bytes of one image.

    Attributes
    ----------
    image_id
        From the members' names.
    document
        JSON bytes.
    image
        JPEG bytes, or None when images were not asked for.
    places
        Packed places of its halves, where a pass is tracked.

    """

    image_id: int
    document: bytes
    image: Blob | None
    places: bytes = b""


class Pairing:
    """Pairs the members of one shard; holds the halves that wait.

    Parameters
    ----------
    faults
        Where duplicates and orphans are reported.
    images
        False: documents only, nothing waits, JPEGs are passed over.
    reject
        Gives the reason why an id is not wanted, or None; asked before any byte of the image is read.
    ram_cap
        Bytes of waiting halves that may stay in memory; beyond it they wait in an unlinked scratch file.
    scratch_dir
        Folder of the scratch file; the system's temporary folder by default.
    track
        Is told what was met and what waits.

    Notes
    -----
    In a shard in random order about a quarter of all images wait at the worst moment. Halves of a plain local file
    wait as positions only: they can be read again.

    """

    def __init__(
        self,
        faults: Faults,
        *,
        images: bool = True,
        reject: Callable[[int], str | None] | None = None,
        ram_cap: int = DEFAULT_RAM_CAP,
        scratch_dir: str | None = None,
        track: Track | None = None,
    ) -> None:
        self._track = track
        self._faults = faults
        self._images = images
        self._reject = reject
        self._holding = Holding(ram_cap, scratch_dir)
        self._waiting: dict[int, tuple[str, Half]] = {}
        self._rejected: set[int] = set()
        self._complete = 0
        self._settled_before = 0  # images that an earlier pass, which this one continues, was done with
        self._seen: dict[str, set[int]] = {"jpg": set(), "json": set()}
        self._found: dict[int, tuple[Half, bytes]] = {}
        self._met: dict[str, list[int]] = {"jpg": [], "json": []}

    def iter_records(self, members: Iterator[Member | SkippedMember]) -> Iterator[Record]:
        """Give each image once, as soon as both halves were met.

        Raises
        ------
        PairingError
            With ``on_error="raise"``: a member is there twice (``"duplicate"``), is none of SA-1B's
            (``"foreign-name"``, ``"unsupported-type"``), or its other half is missing (``"no-jpg"``, ``"no-json"``).

        """
        yield from self.iter_complete(members)
        self.report_orphans()

    def iter_complete(self, members: Iterator[Member | SkippedMember]) -> Iterator[Record]:
        """Do the same with a part of a shard's members; the other halves of what waits may be elsewhere."""
        for member in members:
            if isinstance(member, SkippedMember):
                self._faults.ignore_member(self._error(member.reason, f"{member.name!r} was passed over", None))
                continue
            record = self._add(member) if self._is_needed(member) else None
            if self._track:
                self._met[member.kind].append(member.image_id)
                self._track.pass_by(member, is_seen=self._images or member.kind == "json")
            if record:
                self._complete += 1
                yield record

    def restore(self, state: ShardState, reader: PlaceReader) -> Iterator[list[Record]]:
        """Go on where another pass stood, and give the rows to come by table, then the unusable images.

        What waited then waits again, without being read before it is needed. The images that are not settled are
        counted as seen, as if this pass had begun with them.
        """
        waiting = list(unpack_places(state.pending))
        tables = [state.images(packed) for packed in (*state.tables, state.bad)]
        halves = [*(image for table in tables for image in table), *([place] for place in waiting)]
        blobs = reader.make_blobs((place for half in halves for place in half), self._holding.hold)
        found = iter([list(islice(blobs, len(half))) for half in halves])
        images = [list(islice(found, len(table))) for table in tables]
        self._waiting = {blob.place.image_id: (blob.place.kind, blob) for (blob,) in found}
        if self._track:
            self._track.pending = {place.image_id: place.pack() or b"" for place in waiting}
            self._track.seen = {kind: IdSet.unpack(packed) for kind, packed in state.seen.items()}
            self._track.offset, self._track.is_searching = state.offset, state.is_searching
        self._seen = {kind: IdSet.unpack(packed).to_set() for kind, packed in state.seen.items()}
        self._faults.report.seen += len(halves)
        self._settled_before = len(self._seen["jpg"] | self._seen["json"]) - len(halves)
        return ([self._join(image) for image in table] for table in images)

    def _join(self, halves: list[StoredBlob]) -> Record:
        """Read the halves of an image that was complete before."""
        self._complete += 1
        by_kind = {blob.place.kind: blob for blob in halves}
        document = as_bytes(by_kind["json"].load())
        image = by_kind["jpg"].load() if self._images else None
        for blob in halves:
            self._release(blob)
        places = b"".join(blob.place.pack() or b"" for blob in halves)
        return Record(halves[0].place.image_id, document, image, places)  # type: ignore[arg-type]

    def list_missing(self) -> list[tuple[int, Literal["jpg", "json"]]]:
        """List the halves that are missing, by id and kind."""
        waiting = ((image_id, kind) for image_id, (kind, _) in self._waiting.items() if image_id not in self._found)
        return [(image_id, "json" if kind == "jpg" else "jpg") for image_id, kind in waiting]

    def take_unpaired(self) -> Unpaired:
        """Give what was met since the last call; only for a tracked part of a shard."""
        met, self._met = self._met, {"jpg": [], "json": []}
        documents = []
        for image_id in met["json"]:
            kind, half = self._waiting.get(image_id, ("", b""))
            if kind == "json" and self._track:
                data = as_bytes(half)
                if not isinstance(half, bytes):  # what waited on disk can be read once only
                    self._waiting[image_id] = kind, self._holding.hold(data)
                documents.append((image_id, self._track.pending[image_id], data))
        return Unpaired(documents, met["jpg"])

    @property
    def is_missing_any(self) -> bool:
        """True as long as something waits of which the other half was not found."""
        return len(self._found) < len(self._waiting)

    def look_at(self, member: Member) -> None:
        """Take a member of another part if it is missing.

        An image belongs to the part that has its JPEG, by far the larger half. So a document found elsewhere completes
        it, and a document whose JPEG is found elsewhere is forgotten: the other part's reader gives that image.
        """
        image_id = member.image_id
        if self._waiting.get(image_id, (member.kind,))[0] == member.kind or image_id in self._found:
            return
        if member.kind == "jpg":
            self.forget(image_id)
        else:
            self.find(image_id, self._holding.hold(member.read()), self._track.place(member) if self._track else b"")

    def find(self, image_id: int, document: bytes | Blob, place: bytes) -> None:
        """Take the document of an image that waits for it."""
        if self._waiting.get(image_id, ("",))[0] == "jpg":
            self._found[image_id] = document, place

    def forget(self, image_id: int) -> None:
        """Leave an image to the part that has its JPEG, if its document waits here."""
        if self._waiting.get(image_id, ("",))[0] == "json":
            self._release(self._waiting.pop(image_id)[1])
            self._seen["json"].discard(image_id)
            if self._track:
                self._track.pending.pop(image_id, None)
                self._track.seen["json"].discard(image_id)
            self._faults.report.seen -= 1

    def iter_found(self) -> Iterator[Record]:
        """Give the images whose documents were found in other parts, in the order of their JPEGs."""
        for image_id, (_, image) in list(self._waiting.items()):
            if image_id in self._found:
                document, place = self._found.pop(image_id)
                del self._waiting[image_id]
                if self._track:
                    place += self._track.pending.pop(image_id)
                self._complete += 1
                record = Record(image_id, as_bytes(document), image, place)  # type: ignore[arg-type]
                self._release(image)
                self._release(document)
                yield record

    def forget_foreign_rejects(self) -> None:
        """Leave images that are not wanted, and whose JPEG is not in this part, to the part that has it."""
        owned = self._seen["jpg" if self._images else "json"]
        for image_id in self._rejected - owned:
            self._faults.report.seen -= 1
            if self._reject and (reason := self._reject(image_id)):
                self._faults.report.filtered[reason] -= 1
                if not self._faults.report.filtered[reason]:
                    del self._faults.report.filtered[reason]
        self._rejected &= owned

    def _is_needed(self, member: Member) -> bool:
        if member.kind == "jpg" and not self._images:
            return False
        image_id, kind = member.image_id, member.kind
        seen = self._seen[kind]
        if image_id in seen:
            self._faults.ignore_member(
                self._error("duplicate", f"{member.name} is in the shard twice; the first one is used", image_id)
            )
            return False
        seen.add(image_id)
        if image_id not in self._seen["json" if kind == "jpg" else "jpg"]:
            self._faults.report.seen += 1
            if self._reject and (reason := self._reject(image_id)):
                self._faults.report.filtered[reason] += 1
                self._rejected.add(image_id)
            return image_id not in self._rejected
        return image_id in self._waiting  # or the first half was rejected, perhaps by the pass that this one continues

    def _add(self, member: Member) -> Record | None:
        half: Half = member.take() if member.kind == "jpg" else member.read()
        place = self._track.place(member) if self._track else b""
        if not self._images:
            return Record(member.image_id, half, None, place)  # type: ignore[arg-type]
        if (other := self._waiting.pop(member.image_id, None)) is None:
            self._waiting[member.image_id] = (member.kind, self._holding.hold(half))
            if self._track:
                self._track.pending[member.image_id] = place
            return None
        if self._track:
            place += self._track.pending.pop(member.image_id)
        image, document = (half, other[1]) if member.kind == "jpg" else (other[1], half)
        record = Record(member.image_id, as_bytes(document), image, place)  # type: ignore[arg-type]
        self._release(other[1])
        return record

    def _release(self, half: Half) -> None:
        if isinstance(half, StoredBlob) and half.held is not None:
            half = half.held
        self._holding.release(half)

    def report_orphans(self) -> None:
        """Report what still waits."""
        orphans, self._waiting = self._waiting, {}
        for image_id, (kind, _) in sorted(orphans.items()):
            missing = "json" if kind == "jpg" else "jpg"
            self._faults.skip_image(
                self._error(f"no-{missing}", f"sa_{image_id}.{kind} has no sa_{image_id}.{missing}", image_id)
            )

    def abandon(self) -> int:
        """Give up what is not complete because the shard broke; give the number of images that this costs."""
        self._waiting.clear()
        seen = len(self._seen["jpg"] | self._seen["json"]) - self._settled_before
        return seen - len(self._rejected) - self._complete

    def close(self) -> None:
        """Let go of the scratch file."""
        self._holding.close()

    def _error(self, reason: str, message: str, image_id: int | None) -> PairingError:
        return PairingError(message, reason=reason, shard=self._faults.shard, image_id=image_id)
