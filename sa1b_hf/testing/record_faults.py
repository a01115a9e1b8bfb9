"""Damage that concerns one image, or one member that should not be there."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from .documents import encode_document
from .fault_types import FaultSpec, RecordTarget
from .json_faults import JSON_FAULTS
from .layout import Kind, Member
from .photos import tag_jpeg

__all__ = ["RECORD_FAULTS"]

_Members = list[Member]


def _find(members: _Members, image_id: int, kind: Kind) -> int:
    return next(k for k, member in enumerate(members) if (member.image_id, member.kind) == (image_id, kind))


def _rewrite(change: Callable[[bytes], bytes], kind: Kind, members: _Members, target: RecordTarget) -> _Members:
    """Change the content of one half of the image."""
    at = _find(members, target.image_id, kind)
    original = members[at].content
    changed = dataclasses.replace(members[at], content=lambda: change(original()))
    return [*members[:at], changed, *members[at + 1 :]]


def _remove(kind: Kind, members: _Members, target: RecordTarget) -> _Members:
    at = _find(members, target.image_id, kind)
    return members[:at] + members[at + 1 :]


def _insert(members: _Members, member: Member, rng: np.random.Generator, after: int = 0) -> _Members:
    """Insert somewhere behind position `after`, which by default is the directory's."""
    at = int(rng.integers(after + 1, len(members) + 1))
    return [*members[:at], member, *members[at:]]


def _duplicate(kind: Kind, members: _Members, target: RecordTarget) -> _Members:
    first = _find(members, target.image_id, kind)
    original = members[first].content
    # The copy differs, so that a test can tell which of the two came out; its image_id would confuse the manifest.
    other = dataclasses.replace(members[first], content=lambda: _another(original(), kind), image_id=None, kind="")
    return _insert(members, other, target.rng, after=first)


def _another(data: bytes, kind: Kind) -> bytes:
    if kind == "jpg":
        return tag_jpeg(data, b"second of two")
    document = json.loads(data)
    return encode_document({**document, "annotations": document["annotations"][:1]})


def _add_special(kind: bytes, members: _Members, target: RecordTarget) -> _Members:
    linkname = f"{target.prefix}sa_{target.image_id}.jpg" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    name = f"{target.prefix}sa_{target.new_id}.jpg"
    return _insert(members, Member(name, type=kind, linkname=linkname), target.rng)


def _add_file(name: str, content: bytes, members: _Members, target: RecordTarget) -> _Members:
    return _insert(members, Member(name, lambda: content), target.rng)


def _to_png(_jpeg: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (96, 72), (30, 90, 160)).save(buffer, "PNG")
    return buffer.getvalue()


def _decode(segmentation: dict[str, Any]) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0 under NumPy 2, of no concern to a test
        mask: NDArray[np.uint8] = coco.decode(segmentation)
    return mask


def _transposed(data: bytes) -> bytes:
    """Give the document of the mirrored image: valid in itself, but height and width are the other's."""
    document: dict[str, Any] = json.loads(data)
    image = document["image"]
    image["width"], image["height"] = image["height"], image["width"]
    for annotation in document["annotations"]:
        mask = np.asfortranarray(_decode(annotation["segmentation"]).T)
        annotation["segmentation"] = {
            "size": list(mask.shape),
            "counts": coco.encode(mask)["counts"].decode("ascii"),
        }
        annotation["point_coords"] = [point[::-1] for point in annotation["point_coords"]]
        for box in ("bbox", "crop_box"):
            x, y, width, height = annotation[box]
            annotation[box] = [y, x, height, width]
    return encode_document(document)


def _edit_json(edit: Callable[[dict[str, Any]], bytes], members: _Members, target: RecordTarget) -> _Members:
    return _rewrite(lambda data: edit(json.loads(data)), "json", members, target)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _nothing(_data: bytes) -> bytes:
    return b""


_JUNK = b"not one of the dataset's files\n"


def _spec(name: str, reason: str, description: str, apply: Callable[..., _Members], **flags: bool) -> FaultSpec:
    return FaultSpec(name, "record", (reason,), description, apply, **flags)  # type: ignore[arg-type]


RECORD_FAULTS = (
    _spec("duplicate_jpg", "duplicate", "a JPEG twice", partial(_duplicate, "jpg"), delivered=True),
    _spec("duplicate_json", "duplicate", "a JSON file twice", partial(_duplicate, "json"), delivered=True),
    _spec("orphan_jpg", "no-json", "a JPEG whose JSON is missing", partial(_remove, "json")),
    _spec("orphan_json", "no-jpg", "a JSON file whose JPEG is missing", partial(_remove, "jpg")),
    *(
        _spec(name, "unsupported-type", f"a {name} named like an image", partial(_add_special, kind), adds_member=True)
        for name, kind in (
            ("symlink", tarfile.SYMTYPE),
            ("hardlink", tarfile.LNKTYPE),
            ("device", tarfile.CHRTYPE),
            ("fifo", tarfile.FIFOTYPE),
        )
    ),
    *(
        _spec(name, "foreign-name", f"a member {path}", partial(_add_file, path, _JUNK), adds_member=True)
        for name, path in (
            ("traversal_name", "../../sa_9.jpg"),
            ("absolute_name", "/etc/sa_9.jpg"),
            ("foreign_name", "README.txt"),
        )
    ),
    _spec("empty_jpg", "jpeg-truncated", "a JPEG without bytes", partial(_rewrite, _nothing, "jpg")),
    _spec("torn_jpg", "jpeg-truncated", "half a JPEG in a whole member", partial(_rewrite, _half, "jpg")),
    _spec("not_a_jpg", "jpeg-signature", "a PNG named .jpg", partial(_rewrite, _to_png, "jpg")),
    _spec(
        "wrong_dimensions",
        "size-mismatch",
        "a JSON file for the mirrored image",
        partial(_rewrite, _transposed, "json"),
    ),
    *(
        _spec(name, reason, f"a JSON file with {description}", partial(_edit_json, edit))
        for name, (reason, description, edit) in JSON_FAULTS.items()
    ),
)
"""Every record fault."""
