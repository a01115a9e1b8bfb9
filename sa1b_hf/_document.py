"""One JSON document, read the slow and strict way: the reference that says what is wrong and where.

The fast engines of `annotations` accept only what they can prove to be sound; every other document comes here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ._json_tree import (
    MAX_ANNOTATIONS,
    Fault,
    Number,
    Object,
    kind_of,
    parse_tree,
    value_fault,
)
from .errors import AnnotationError

__all__ = ["read_document"]

_INT64_DIGITS = 19
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
_NOT_RLE = re.compile("[^0-o]")  # chr(48) .. chr(111)

_ADVICE = {
    "json-syntax": "compare the shard's MD5 with the catalogue's, and download it again if they differ",
    "image-id-mismatch": "the member holds another image's document; compare the shard's MD5 with the catalogue's",
    "too-large": "SA-1B's documents have about 63 KB; check that the member is one of them",
    "too-many-annotations": "split the document, one per image",
}
_OTHER_ADVICE = "write the document again, with Meta's keys and types"


def read_document(document: bytes, image_id: int | None = None, shard: str | None = None) -> dict[str, Any]:
    """Read one document, strictly.

    Parameters
    ----------
    document
        JSON text in UTF-8 (RFC 8259).
    image_id
        The id that the document must have; any when None.
    shard
        Name of the shard, for the error.

    Returns
    -------
    dict
        ``image_id``, ``width``, ``height``, ``file_name`` and ``annotations``, with Meta's keys and nothing else.

    Raises
    ------
    AnnotationError
        The first fault, in this order: size; syntax of the whole document; a NaN or Infinity anywhere; then values
        and keys in document order, a missing key at the end of its object; the masks' sizes last.

    """
    try:
        return _document(parse_tree(document), image_id)
    except Fault as caught:
        reason, where = caught.reason, caught.where
        if image_id is not None:
            where["image_id"] = image_id
        message = f"{_place(where)}{caught.message}; {_ADVICE.get(reason, _OTHER_ADVICE)}"
    # Raised out here so that the error has no context: its frames would keep the whole document alive.
    raise AnnotationError(message, reason=reason, shard=shard, **where)


def _place(where: Mapping[str, Any]) -> str:
    place = f"image {where['image_id']}: " if "image_id" in where else ""
    if "annotation" not in where:
        return place
    id_ = f" (id {where['annotation_id']})" if "annotation_id" in where else ""
    return f"{place}annotation {where['annotation']}{id_}: "


# ── values: each function reads one, and names the key in its fault ─────────────────────────────────────────────────


def _integer(value: Any, key: str, *, bits: int = 64) -> int:
    """Read an integer; 1234.0 and 12e2 are integers too, and no power of ten is ever computed that does not fit."""
    expected = f"an integer of {bits} bits"
    match = _NUMBER.fullmatch(value) if isinstance(value, Number) else None
    if match is None:
        raise value_fault("wrong-type", key, expected, kind_of(value))
    sign, whole, fraction, exponent_sign, exponent = (group or "" for group in match.groups())
    exponent = exponent.lstrip("0")
    # No document is long enough for its digits to make up for an exponent of a milliard.
    scale = int(exponent_sign + (exponent or "0")) if len(exponent) < 10 else int(exponent_sign + "1000000000")  # noqa: PLR2004
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return 0
    scale += len(digits) - len(digits.rstrip("0")) - len(fraction)
    digits = digits.rstrip("0")
    if scale < 0 or len(digits) + scale > _INT64_DIGITS:
        raise value_fault("wrong-type", key, expected, kind_of(value))
    number: int = int(sign + digits) * 10**scale
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise value_fault("wrong-type", key, expected, kind_of(value))
    return number


_int32 = partial(_integer, bits=32)


def _extent(value: Any, key: str) -> int:
    number = _int32(value, key)
    if number <= 0:
        raise value_fault("bad-value", key, "a positive number of pixels", str(number))
    return number


def _area(value: Any, key: str) -> int:
    number = _integer(value, key)
    if number < 0:
        raise value_fault("bad-value", key, "an area of 0 or more pixels", str(number))
    return number


def _float(value: Any, key: str) -> float:
    if not isinstance(value, Number):
        raise value_fault("wrong-type", key, "a number", kind_of(value))
    number = float(value)
    if not math.isfinite(number):
        raise value_fault("bad-value", key, "a finite number", kind_of(value))
    return number


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or isinstance(value, Number):
        raise value_fault("wrong-type", key, "a string", kind_of(value))
    return value


def _counts(value: Any, key: str) -> str:
    counts = _text(value, key)
    if not counts:
        raise value_fault("rle-characters", key, "at least one run", "an empty string")
    if wrong := _NOT_RLE.search(counts):
        raise value_fault("rle-characters", key, "characters '0' to 'o'", f"{wrong[0]!r} at position {wrong.start()}")
    if (ord(counts[-1]) - 48) & 0x20:
        raise value_fault(
            "rle-characters", key, "a whole last number", f"{counts[-1]!r}, which announces another character"
        )
    return counts


def _items(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list) or isinstance(value, Object):
        raise value_fault("wrong-type", key, "a list", kind_of(value))
    return value


def _fixed(value: Any, key: str, *, length: int, item: Callable[[Any, str], Any] = _float) -> list[Any]:
    # The items before the surplus one first: faults come in document order.
    items = _items(value, key)
    numbers = [item(number, key) for number in items[:length]]
    if len(items) != length:
        raise value_fault("wrong-length", key, f"{length} numbers", str(len(items)))
    return numbers


_box = partial(_fixed, length=4)
_point = partial(_fixed, length=2)
_size = partial(_fixed, length=2, item=_int32)


def _points(value: Any, key: str) -> list[list[float]]:
    return [_point(point, key) for point in _items(value, key)]


# ── objects ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_Readers = Mapping[str, Callable[[Any, str], Any]]


def _object(value: Any, what: str, *, readers: _Readers) -> dict[str, Any]:
    if not isinstance(value, Object):
        raise value_fault("wrong-type", what, "an object", kind_of(value))
    found: dict[str, Any] = {}
    for key, item in value:
        if (read := readers.get(key)) is None:
            continue
        if key in found:
            raise value_fault("json-syntax", key, "the key once in an object", "it twice")
        if item is None:
            raise value_fault("missing-key", key, "a value", "null")
        found[key] = read(item, key)
    for key in readers:
        if key not in found:
            raise value_fault("missing-key", key, f"this key in {what}", "none")
    return found


_SEGMENTATION: _Readers = {"size": _size, "counts": _counts}
_ANNOTATION: _Readers = {
    "id": _integer,
    "segmentation": partial(_object, readers=_SEGMENTATION),
    "bbox": _box,
    "area": _area,
    "predicted_iou": _float,
    "stability_score": _float,
    "point_coords": _points,
    "crop_box": _box,
}
_IMAGE: _Readers = {"image_id": _integer, "width": _extent, "height": _extent, "file_name": _text}


def _at(index: int, annotation: Any, fault: Fault) -> Fault:
    fault.where["annotation"] = index
    ids = [value for key, value in annotation if key == "id"] if isinstance(annotation, Object) else []
    if ids and isinstance(ids[0], Number) and len(ids[0]) <= _INT64_DIGITS and ids[0].isdigit():
        fault.where["annotation_id"] = int(ids[0])
    return fault


def _annotations(value: Any, key: str) -> list[dict[str, Any]]:
    items = _items(value, key)
    found = []
    for index, item in enumerate(items):
        if index == MAX_ANNOTATIONS:
            raise value_fault("too-many-annotations", key, f"at most {MAX_ANNOTATIONS}", str(len(items)))
        try:
            found.append(_object(item, "annotation", readers=_ANNOTATION))
        except Fault as fault:
            raise _at(index, item, fault) from None
    return found


def _image(value: Any, key: str, *, image_id: int | None) -> dict[str, Any]:
    image = _object(value, key, readers=_IMAGE)
    if image_id is not None and image["image_id"] != image_id:
        raise value_fault(
            "image-id-mismatch", "image_id", f"{image_id}, as in the member's name", str(image["image_id"])
        )
    return image


def _document(tree: Any, image_id: int | None) -> dict[str, Any]:
    readers: _Readers = {"image": partial(_image, image_id=image_id), "annotations": _annotations}
    document = _object(tree, "document", readers=readers)
    image, annotations = document["image"], document["annotations"]
    expected = [image["height"], image["width"]]
    for index, annotation in enumerate(annotations):
        size = annotation["segmentation"]["size"]
        if size != expected:
            fault = value_fault("size-mismatch", "size", f"the image's [height, width] {expected}", str(size))
            fault.where.update(annotation=index, annotation_id=annotation["id"])
            raise fault
    return {**image, "annotations": annotations}
