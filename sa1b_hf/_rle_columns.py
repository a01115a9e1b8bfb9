"""An Arrow column of annotations or segmentations → `Packed`, without a Python object per mask."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ._rle_packed import Packed, refuse
from ._rle_text import compress

__all__ = ["pack_column"]


def pack_column(column: Any) -> Packed:
    """Pack every mask of an Arrow array, in order; rows of a list column follow one another.

    Parameters
    ----------
    column
        Array, chunked array or scalar of segmentation structs, of annotation structs, or of lists of them.

    Returns
    -------
    Packed
        ``text`` is the column's own memory where ``counts`` is a text or binary column.

    Raises
    ------
    RLEError
        The type is another one, or a value is null.

    """
    structs = _structs(column)
    ids = None
    if "segmentation" in _field_names(structs.type):
        if "id" in _field_names(structs.type):
            ids = _present(_field(structs, "id")).to_numpy(zero_copy_only=False)
        structs = _present(_field(structs, "segmentation"))
    if not {"size", "counts"} <= _field_names(structs.type):
        _fail_type(f"found {structs.type}")
    sizes = _read_sizes(_present(_field(structs, "size")))
    text, offsets = _read_counts(_present(_field(structs, "counts")))
    return Packed(text, offsets, sizes, ids)


def _structs(column: Any) -> Any:
    if isinstance(column, pa.Scalar):
        is_list = isinstance(column, (pa.ListScalar, pa.LargeListScalar)) and column.is_valid
        column = column.values if is_list else pa.array([column.as_py()], column.type)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # what old versions give for no chunks at all
            column = pa.array([], column.type)
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.flatten()
    if not pa.types.is_struct(column.type):
        _fail_type(f"found {column.type}")
    return _present(column)


def _field_names(struct: Any) -> set[str]:
    return {struct.field(index).name for index in range(struct.num_fields)}


def _field(structs: Any, name: str) -> Any:
    # `flatten` and not `field`: it respects slices on every version.
    return structs.flatten()[structs.type.get_field_index(name)]


def _present(array: Any) -> Any:
    if array.null_count:
        index = int(np.argmin(pc.is_valid(array).to_numpy(zero_copy_only=False)))
        refuse(index, "type", "expected a mask, found null")
    return array


def _fail_type(found: str) -> NoReturn:
    expected = "expected structs with 'size' and 'counts' (or 'segmentation'), or lists of them"
    refuse(None, "type", f"segmentations: {expected}, {found}")


def _read_sizes(lists: Any) -> NDArray[np.int64]:
    kind = lists.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        _fail_type(f"found 'size' of {kind}")
    if not pa.types.is_integer(kind.value_type):
        _fail_type(f"found 'size' of {kind}")
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    if (lengths != 2).any():  # noqa: PLR2004 (h and w)
        index = int((lengths != 2).argmax())  # noqa: PLR2004
        refuse(index, "size", f"size: expected two integers [height, width], found {lengths[index]} of them")
    values = lists.flatten()
    if values.null_count:
        refuse(int(np.argmin(pc.is_valid(values).to_numpy(zero_copy_only=False))) // 2, "size", "size: found null")
    sizes: NDArray[np.int64] = values.to_numpy(zero_copy_only=False).astype(np.int64).reshape(-1, 2)
    return sizes


def _read_counts(counts: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    kind = counts.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _compress_lists(counts)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        width: Any = np.int32
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        width = np.int64
    else:
        _fail_type(f"found 'counts' of {kind}")
    _, starts, characters = counts.buffers()
    if not len(counts) or characters is None:
        return np.zeros(0, np.uint8), np.zeros(len(counts) + 1, np.int64)
    text = np.frombuffer(characters, np.uint8)
    offsets = np.frombuffer(starts, width)[counts.offset :][: len(counts) + 1].astype(np.int64)
    if len(offsets) != len(counts) + 1 or offsets[0] < 0 or offsets[-1] > len(text) or (np.diff(offsets) < 0).any():
        refuse(None, "type", "segmentations: the offsets of the Arrow column 'counts' point outside of its text")
    return text, offsets


def _compress_lists(counts: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bring uncompressed counts into the string form, mask by mask: they are rare and old."""
    texts = []
    for index, runs in enumerate(counts):
        values = runs.values.to_numpy(zero_copy_only=False)
        if values.dtype.kind not in "iu" or (len(values) and (values.min() < 0 or values.max() >= 1 << 28)):
            refuse(index, "counts", "counts: expected run lengths of 0 to 2**28, found others")
        texts.append(compress(values.astype(np.int64)))
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return np.frombuffer(b"".join(texts), np.uint8), offsets
