"""JSON text to a tree of its own: numbers as they are spelled, repeated keys kept, nesting and size bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

__all__ = [
    "MAX_ANNOTATIONS",
    "MAX_DEPTH",
    "MAX_DOCUMENT_BYTES",
    "Fault",
    "Number",
    "Object",
    "is_oversized",
    "kind_of",
    "parse_tree",
    "value_fault",
]

MAX_DOCUMENT_BYTES = 64 << 20
MAX_ANNOTATIONS = 65_536
MAX_DEPTH = 64
# A Python object each: 65,536 annotations have 1.6 million values, and three million stay below 1 GiB.
_MAX_VALUES = 3 << 20


class Number(str):
    """A number as it is spelled, so that the field decides how to read it."""

    __slots__ = ()


class Object(list[tuple[str, Any]]):
    """The members of a JSON object in their order, repeated keys included."""

    __slots__ = ()


class Fault(Exception):  # noqa: N818 - becomes an AnnotationError once the place is known
    """What is wrong with a document, and what is known of where."""

    def __init__(self, reason: str, message: str, **where: Any) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.where = where


def is_oversized(document: bytes) -> bool:
    """Tell whether a document is too large to be parsed.

    Parameters
    ----------
    document
        JSON text.

    Returns
    -------
    bool
        True beyond 64 MiB, or beyond 3 Mi values: a few bytes such as ``[],`` cost a hundred in memory.

    """
    if len(document) <= _MAX_VALUES:
        return False
    return len(document) > MAX_DOCUMENT_BYTES or sum(map(document.count, (b",", b"[", b"{"))) > _MAX_VALUES


def parse_tree(document: bytes) -> Any:
    """Parse a document; raises `Fault` for its size, its syntax, and NaN or Infinity anywhere."""
    if is_oversized(document):
        raise Fault(
            "too-large",
            f"expected at most {MAX_DOCUMENT_BYTES} bytes and {_MAX_VALUES} values, found {len(document)} bytes",
        )
    # Told by a key that each annotation has, before seconds go into objects for all of them.
    if (count := document.count(b'"segmentation"')) > MAX_ANNOTATIONS:
        raise value_fault("too-many-annotations", "annotations", f"at most {MAX_ANNOTATIONS}", str(count))
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Fault("json-syntax", f"expected UTF-8, found {error.reason}", offset=error.start) from None
    constants: list[str] = []
    tree = _load(text, constants)
    _check_tree(tree)
    if constants:
        raise Fault("bad-value", f"expected finite numbers, found {constants[0]}")
    return tree


def _load(text: str, constants: list[str]) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=Object,
            parse_int=Number,
            parse_float=Number,
            parse_constant=constants.append,
        )
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise Fault(
            "json-syntax", f"expected one JSON document, found at byte {offset}: {error.msg}", offset=offset
        ) from None
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> Fault:
    return Fault("json-syntax", f"expected at most {MAX_DEPTH} nested lists and objects, found more")


def _check_tree(tree: Any) -> None:
    """Go down level by level: nesting is bounded, and no string has half a surrogate pair."""
    level = [tree]
    for _ in range(MAX_DEPTH):
        try:
            for value in level:
                if isinstance(value, str) and not value.isascii():
                    value.encode()
        except UnicodeEncodeError:
            raise Fault(
                "json-syntax", r"expected whole characters, found half a surrogate pair (\ud800-\udfff)"
            ) from None
        level = [child for value in level if isinstance(value, list) for child in _children(value)]
        if not level:
            return
    if any(isinstance(value, list) for value in level):
        raise _too_deep()


def _children(value: list[Any]) -> Iterator[Any]:
    return (child for pair in value for child in pair) if isinstance(value, Object) else iter(value)


def kind_of(value: Any) -> str:
    """Describe a value of the tree, for a message."""
    if isinstance(value, str):
        return f"the {'number' if isinstance(value, Number) else 'string'} {value[:40]!r}"
    if isinstance(value, list):
        return "an object" if isinstance(value, Object) else "a list"
    return {None: "null", True: "true", False: "false"}[value]


def value_fault(reason: str, key: str, expected: str, found: str) -> Fault:
    """Make the fault of one key's value."""
    return Fault(reason, f"{key}: expected {expected}, found {found}", key=key)
