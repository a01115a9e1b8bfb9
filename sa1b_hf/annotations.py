"""SA-1B's JSON documents to Arrow; a bad document is set aside with a reason, and costs only itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ._document import read_document
from ._json_arrow import ROW_SCHEMA, parse_with_pyarrow
from ._json_columns import HAS_EXTENSION, parse_with_c
from ._json_tree import is_oversized
from .errors import AnnotationError, ConfigError

__all__ = ["BadDocument", "ParsedDocuments", "parse_documents"]

# Offsets of Arrow's lists and strings are int32, and no text grows by parsing.
_MAX_BATCH_BYTES = (1 << 31) - (1 << 20)

_Engine = Callable[[list[bytes], "NDArray[np.int64] | None"], tuple[pa.RecordBatch, NDArray[np.bool_]]]


@dataclass(frozen=True)
class BadDocument:
    """A document that was set aside.

    Attributes
    ----------
    index
        Its place among the documents given.
    error
        Why: ``reason`` is one of ``json-syntax``, ``bad-value``, ``missing-key``, ``wrong-type``,
        ``image-id-mismatch``, ``wrong-length``, ``size-mismatch``, ``rle-characters``, ``too-many-annotations``,
        ``too-large``; ``where`` has what is known of ``image_id``, ``annotation`` (index), ``annotation_id``, ``key``
        and ``offset`` (bytes).
    """

    index: int
    error: AnnotationError


@dataclass(frozen=True)
class ParsedDocuments:
    """Documents as columns.

    Attributes
    ----------
    table
        Columns ``image_id`` int64, ``width`` and ``height`` int32 in pixels, ``file_name`` string, ``annotations``
        list of `sa1b_hf.features.ANNOTATION_TYPE`: the good documents in their order.
    rows
        For each row the index of its document, int64.
    bad
        The other documents, in their order.
    """

    table: pa.RecordBatch
    rows: NDArray[np.int64]
    bad: list[BadDocument]


def parse_documents(
    documents: Sequence[Any],
    *,
    image_ids: Sequence[int] | None = None,
    shard: str | None = None,
    engine: str = "auto",
) -> ParsedDocuments:
    """Parse JSON documents, strictly: RFC 8259, SA-1B's keys and types in any order, other keys skipped.

    Parameters
    ----------
    documents
        Bytes-like JSON texts; `bytes` are not copied. Less than 2 GiB together.
    image_ids
        The id that each document must have, from its member's name.
    shard
        Name of the shard, for the errors.
    engine
        ``"c"``, ``"pyarrow"``, or ``"auto"``: ``"c"`` where the extension was built. Both give the same.

    Returns
    -------
    ParsedDocuments
        A row for each good document, and a reason for each bad one.

    Raises
    ------
    ConfigError
        The engine is unknown or not built, `image_ids` do not fit, or the documents are too large for one table.

    Notes
    -----
    Every float is what `float` makes of its text. An integer may be spelled 1234.0 or 12e2. Duplicates of a key that
    is read are an error, those of other keys are not looked for.

    Examples
    --------
    >>> good = b'{"annotations": [], "image": {"image_id": 1, "width": 4, "height": 3, "file_name": "sa_1.jpg"}}'
    >>> parsed = parse_documents([good, b'{"image": {'])
    >>> parsed.table.num_rows, parsed.bad[0].index, parsed.bad[0].error.reason
    (1, 1, 'json-syntax')

    """
    parse = _engine(engine)
    texts = [_as_bytes(index, document) for index, document in enumerate(documents)]
    ids = _ids(image_ids, len(texts))
    candidates = np.array([index for index, text in enumerate(texts) if not is_oversized(text)], np.int64)
    _check_total(texts, candidates)
    batch, accepted = parse([texts[index] for index in candidates], None if ids is None else ids[candidates])
    rows = candidates[accepted]
    others = np.setdiff1d(np.arange(len(texts)), rows, assume_unique=True)
    slow, bad = _read_others(texts, others.tolist(), ids, shard)
    if slow:
        batch, rows = _merge(batch, rows, slow)
    return ParsedDocuments(batch, rows, bad)


def _engine(name: str) -> _Engine:
    if name not in ("auto", "c", "pyarrow"):
        raise ConfigError(f"engine: expected 'auto', 'c' or 'pyarrow', found {name!r}")
    if name == "c" and not HAS_EXTENSION:
        raise ConfigError(
            "engine: 'c' was asked for, but sa1b_hf._json was not built; install a C compiler, or use 'auto'"
        )
    return parse_with_c if HAS_EXTENSION and name != "pyarrow" else parse_with_pyarrow


def _as_bytes(index: int, document: Any) -> bytes:
    if isinstance(document, bytes):
        return document
    try:
        return bytes(memoryview(document))
    except TypeError:
        raise ConfigError(f"documents[{index}]: expected bytes, found {type(document).__name__}") from None


def _ids(image_ids: Sequence[int] | None, length: int) -> NDArray[np.int64] | None:
    if image_ids is None:
        return None
    try:
        ids = np.asarray(image_ids).astype(np.int64, casting="safe" if len(image_ids) else "unsafe")
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"image_ids: expected integers of 64 bits, found others ({error})") from None
    if ids.shape != (length,):
        raise ConfigError(f"image_ids: expected one for each of {length} documents, found shape {ids.shape}")
    return ids


def _check_total(texts: list[bytes], candidates: NDArray[np.int64]) -> None:
    total = sum(len(texts[index]) for index in candidates)
    if total > _MAX_BATCH_BYTES:
        raise ConfigError(
            f"documents: expected at most {_MAX_BATCH_BYTES} bytes in one call, found {total}; pass fewer at a time"
        )


def _read_others(
    texts: list[bytes], indices: list[int], ids: NDArray[np.int64] | None, shard: str | None
) -> tuple[dict[int, pa.RecordBatch], list[BadDocument]]:
    """Read one by one what the fast engine left: most are bad, some are only unusual."""
    slow, bad = {}, []
    for index in indices:
        try:
            row = read_document(texts[index], None if ids is None else int(ids[index]), shard)
        except AnnotationError as error:
            bad.append(BadDocument(index, error.with_traceback(None)))  # its frames hold every text
        else:
            slow[index] = pa.RecordBatch.from_pylist([row], ROW_SCHEMA)
    return slow, bad


def _merge(
    batch: pa.RecordBatch, rows: NDArray[np.int64], slow: dict[int, pa.RecordBatch]
) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    table = pa.Table.from_batches([batch, *slow.values()])
    unordered = np.concatenate([rows, np.fromiter(slow, np.int64, len(slow))])
    order = np.argsort(unordered)
    merged = table.take(pa.array(order)).combine_chunks()
    return merged.to_batches()[0], unordered[order]
