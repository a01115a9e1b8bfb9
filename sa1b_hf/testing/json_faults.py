"""Documents that are not what SA-1B's are: each function turns a good document into bad bytes."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from .documents import encode_document

__all__ = ["JSON_FAULTS"]

_Document = dict[str, Any]
_DEEP = 100_000
_SIGN_BIT = 0x10  # of the last group
_TOO_MANY = 65_537  # one more than the package accepts


def _edited(edit: Callable[[_Document], object], document: _Document) -> bytes:
    changed = copy.deepcopy(document)
    edit(changed)
    return encode_document(changed)


def _setting(*path: str | int, value: Any) -> Callable[[_Document], bytes]:
    """Set the item at the end of a path of keys."""

    def edit(document: _Document) -> None:
        target: Any = document
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return partial(_edited, edit)


def _empty(_document: _Document) -> bytes:
    return b""


def _truncated(document: _Document) -> bytes:
    data = encode_document(document)
    return data[: len(data) // 2]


def _not_utf8(document: _Document) -> bytes:
    return encode_document(document).replace(b'"file_name": "sa_', b'"file_name": "s\xff\xfe', 1)


def _bom(document: _Document) -> bytes:
    return b"\xef\xbb\xbf" + encode_document(document)


def _two_documents(document: _Document) -> bytes:
    return encode_document(document) * 2


def _deep_nesting(_document: _Document) -> bytes:
    return b"[" * _DEEP


def _duplicate_key(document: _Document) -> bytes:
    width = b'"width": %d, ' % document["image"]["width"]
    return encode_document(document).replace(width, width * 2, 1)


def _too_many(document: _Document) -> bytes:
    height, width = document["image"]["height"], document["image"]["width"]
    first = document["annotations"][0]
    whole_image = [0.0, 0.0, float(width), float(height)]
    # One run of zeros is the smallest valid mask there is, so that only the number is wrong.
    tiny = {
        **first,
        "bbox": [0.0, 0.0, 0.0, 0.0],
        "area": 0,
        "segmentation": {"size": [height, width], "counts": _one_run(height * width)},
        "point_coords": [[0.5, 0.5]],
        "crop_box": whole_image,
    }
    one = json.dumps(tiny)
    head, _, tail = one.partition(f'"id": {first["id"]}')
    body = ", ".join(f'{head}"id": {first["id"] + index}{tail}' for index in range(_TOO_MANY))
    return f'{{"image": {json.dumps(document["image"])}, "annotations": [{body}]}}'.encode("ascii")


def _one_run(length: int) -> str:
    """COCO text of a single run: groups of five bits, lowest first, 0x20 for more to come, from chr(48) on."""
    text = ""
    while length >= _SIGN_BIT:
        text += chr(48 + (length & 0x1F | 0x20))
        length >>= 5
    return text + chr(48 + length)


def _bad_characters(document: _Document) -> None:
    segmentation = document["annotations"][0]["segmentation"]
    middle = len(segmentation["counts"]) // 2
    segmentation["counts"] = segmentation["counts"][:middle] + "!" + segmentation["counts"][middle + 1 :]


def _size_mismatch(document: _Document) -> None:
    segmentation = document["annotations"][0]["segmentation"]
    # Swapped, so that the runs still sum to the product: only the comparison with the image can tell.
    segmentation["size"] = segmentation["size"][::-1]


def _other_image_id(document: _Document) -> None:
    document["image"]["image_id"] += 1_000_000_000


JSON_FAULTS: dict[str, tuple[str, str, Callable[[_Document], bytes]]] = {
    "json_empty": ("json-syntax", "no bytes", _empty),
    "json_truncated": ("json-syntax", "half of the document, in a whole member", _truncated),
    "json_not_utf8": ("json-syntax", "bytes ff fe in a string", _not_utf8),
    "json_bom": ("json-syntax", "a byte order mark first", _bom),
    "json_two_documents": ("json-syntax", "the document twice in one file", _two_documents),
    "json_deep_nesting": ("json-syntax", "100,000 opening brackets", _deep_nesting),
    "json_duplicate_key": ("json-syntax", "the key width twice", _duplicate_key),
    "json_nan_score": ("bad-value", "NaN", _setting("annotations", 0, "predicted_iou", value=math.nan)),
    "json_infinity": ("bad-value", "Infinity", _setting("annotations", -1, "stability_score", value=math.inf)),
    "json_negative_size": ("bad-value", "a width of -1", _setting("image", "width", value=-1)),
    "json_missing_key": (
        "missing-key",
        "an annotation without predicted_iou",
        partial(_edited, lambda document: document["annotations"][0].pop("predicted_iou")),
    ),
    "json_missing_image": (
        "missing-key",
        "no image object",
        partial(_edited, lambda document: document.pop("image")),
    ),
    "json_null_annotation": ("wrong-type", "null for an annotation", _setting("annotations", 0, value=None)),
    "json_wrong_type": ("wrong-type", "an area that is a string", _setting("annotations", 0, "area", value="1234")),
    "json_id_overflow": ("wrong-type", "an id of 2**70", _setting("annotations", 0, "id", value=2**70)),
    "json_wrong_image_id": ("image-id-mismatch", "an id other than the name's", partial(_edited, _other_image_id)),
    "json_bbox_of_three": ("wrong-length", "a bbox of 3", _setting("annotations", 0, "bbox", value=[0.0, 0.0, 1.0])),
    "json_rle_size_mismatch": ("size-mismatch", "a mask of swapped height and width", partial(_edited, _size_mismatch)),
    "json_rle_bad_characters": ("rle-characters", "'!' in the counts", partial(_edited, _bad_characters)),
    "json_too_many_annotations": ("too-many-annotations", "65,537 annotations", _too_many),
}
"""Reason, description and function of each fault by name."""
