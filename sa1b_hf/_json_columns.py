"""SA-1B's JSON through the C extension: its buffers become Arrow columns without a copy."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ._json_arrow import ROW_SCHEMA
from .features import ANNOTATION_TYPE

_json: Any
try:
    _json = importlib.import_module("sa1b_hf._json")
except ImportError:  # installed without a compiler
    _json = None

__all__ = ["HAS_EXTENSION", "parse_with_c"]

HAS_EXTENSION = _json is not None


def parse_with_c(
    documents: Sequence[bytes], image_ids: NDArray[np.int64] | None
) -> tuple[pa.RecordBatch, NDArray[np.bool_]]:
    """Parse the documents that are sound; the contract of `sa1b_hf._json_arrow.parse_with_pyarrow`."""
    columns, accepted = _json.parse(documents, None if image_ids is None else image_ids.tobytes())
    flags = np.frombuffer(accepted, np.bool_)
    return _to_batch(map(pa.py_buffer, columns), int(flags.sum())), flags


def _to_batch(buffers: Iterator[pa.Buffer], num_rows: int) -> pa.RecordBatch:
    """Take the buffers in the order of the enumeration in `_json.c`."""
    image_id, width, height = (_primitive(type_, next(buffers)) for type_ in (pa.int64(), pa.int32(), pa.int32()))
    file_name = pa.StringArray.from_buffers(num_rows, next(buffers), next(buffers))
    offsets = next(buffers)
    annotations = pa.Array.from_buffers(
        pa.list_(ANNOTATION_TYPE), num_rows, [None, offsets], children=[_annotations(buffers)]
    )
    return pa.RecordBatch.from_arrays([image_id, width, height, file_name, annotations], schema=ROW_SCHEMA)


def _annotations(buffers: Iterator[pa.Buffer]) -> pa.StructArray:
    ids = _primitive(pa.int64(), next(buffers))
    size = _lists_of(2, _primitive(pa.int32(), next(buffers)))
    counts_offsets = next(buffers)
    length = int(np.frombuffer(counts_offsets, np.int32)[-1])  # the rest of the buffer was never written
    counts = pa.StringArray.from_buffers(len(ids), counts_offsets, next(buffers).slice(0, length))
    segmentation_type = ANNOTATION_TYPE.field("segmentation").type
    segmentation = pa.Array.from_buffers(segmentation_type, len(ids), [None], children=[size, counts])
    bbox = _lists_of(4, _primitive(pa.float64(), next(buffers)))
    area = _primitive(pa.int64(), next(buffers))
    predicted_iou, stability_score = (_primitive(pa.float64(), next(buffers)) for _ in range(2))
    point_offsets = next(buffers)
    points = _lists_of(2, _primitive(pa.float64(), next(buffers)))
    point_coords = pa.Array.from_buffers(
        ANNOTATION_TYPE.field("point_coords").type, len(ids), [None, point_offsets], children=[points]
    )
    crop_box = _lists_of(4, _primitive(pa.float64(), next(buffers)))
    children = [ids, segmentation, bbox, area, predicted_iou, stability_score, point_coords, crop_box]
    return pa.Array.from_buffers(ANNOTATION_TYPE, len(ids), [None], children=children)


def _primitive(type_: pa.DataType, buffer: pa.Buffer) -> pa.Array:
    return pa.Array.from_buffers(type_, 8 * buffer.size // type_.bit_width, [None, buffer])


def _lists_of(length: int, values: pa.Array) -> pa.ListArray:
    offsets = np.arange(0, len(values) + 1, length, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets)]
    return pa.Array.from_buffers(pa.list_(values.type), len(offsets) - 1, buffers, children=[values])
