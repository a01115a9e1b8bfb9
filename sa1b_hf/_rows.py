"""Rows in every form that `datasets` gives them → annotations by column, without caring which form it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike, NDArray

from .errors import AnnotationError, ConfigError

__all__ = ["Annotations", "read_annotations", "split_rows"]

_TABLES = (pa.Table, pa.RecordBatch)


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """The annotations of one image.

    Attributes
    ----------
    values
        A list of mappings, or an Arrow array of structs.
    image_id
        For messages.

    """

    values: Any
    image_id: int | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, indices: NDArray[np.int64]) -> Annotations:
        """Give some of them."""
        if len(indices) == len(self):
            return self
        if isinstance(self.values, pa.Array):
            return Annotations(self.values.take(pa.array(indices)), self.image_id)
        return Annotations([self.values[index] for index in indices.tolist()], self.image_id)

    def sizes(self) -> NDArray[np.int64]:
        """(h, w) of each mask in pixels; no rows if that cannot be read at a glance."""
        try:
            if isinstance(self.values, pa.Array):
                sizes = _as_dense(_child(_child(self.values, "segmentation"), "size"))
            else:
                sizes = np.array([one["segmentation"]["size"] for one in self.values], np.int64)
            return np.asarray(sizes, np.int64).reshape(len(self), 2)
        except (KeyError, TypeError, ValueError, IndexError, pa.ArrowInvalid):
            return np.zeros((0, 2), np.int64)

    def numbers(self, name: str, dtype: DTypeLike) -> NDArray[Any] | None:
        """One number per mask, shape (N,); None if the annotations do not have it."""
        return self._read(name, lambda values: np.asarray(values, dtype).reshape(len(self)))

    def boxes(self, name: str = "bbox") -> NDArray[np.float64] | None:
        """Shape (N, 4); None if the annotations have none."""
        return self._read(name, lambda values: np.asarray(values, np.float64).reshape(len(self), 4))

    def points(self, name: str = "point_coords") -> NDArray[np.float64] | None:
        """Shape (N, K, 2), K the most that a mask has, NaN where it has fewer; None if the annotations have none."""
        return self._read(name, self._stack_points)

    def _read(self, name: str, convert: Callable[[Any], NDArray[Any]]) -> NDArray[Any] | None:
        if len(self) and not self._has(name):
            return None
        try:
            return convert(self._column(name) if len(self) else [])
        except (KeyError, TypeError, ValueError, OverflowError, pa.ArrowInvalid) as error:
            message = f"image {self.image_id}: annotations: {name!r} cannot be read: {error}"
            raise AnnotationError(message, reason="field", image_id=self.image_id) from error

    def _has(self, name: str) -> bool:
        if isinstance(self.values, pa.Array):
            return bool(self.values.type.get_field_index(name) >= 0)
        return any(name in one for one in self.values)

    def _column(self, name: str) -> Any:
        if not isinstance(self.values, pa.Array):
            return [one[name] for one in self.values]
        column = _child(self.values, name)
        dense = _as_dense(column)
        return column.to_pylist() if dense is None else dense

    def _stack_points(self, values: Any) -> NDArray[np.float64]:
        most = max((len(points) for points in values), default=1) or 1
        if isinstance(values, np.ndarray) or all(len(points) == most for points in values):
            return np.asarray(values, np.float64).reshape(len(self), most, 2)
        stacked = np.full((len(self), most, 2), np.nan)
        for row, points in zip(stacked, values, strict=True):
            row[: len(points)] = np.asarray(points, np.float64).reshape(len(points), 2)
        return stacked


def read_annotations(value: Any, image_id: int | None = None) -> Annotations:
    """Take the ``annotations`` of one row.

    Parameters
    ----------
    value
        A list of mappings, a mapping of lists, or an Arrow list scalar or array of structs.
    image_id
        For messages.

    Returns
    -------
    Annotations

    Raises
    ------
    AnnotationError
        It is something else.

    """
    if isinstance(value, pa.Scalar):
        value = value.values
    if isinstance(value, Mapping):
        value = _unzip(value)
    if isinstance(value, pa.Array):
        if pa.types.is_struct(value.type) and not value.null_count:
            return Annotations(value, image_id)
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        values = [*value]
        if all(isinstance(one, Mapping) for one in values):
            return Annotations(values, image_id)
    found = value.type if isinstance(value, pa.Array) else type(value).__name__
    expected = "expected a list of mappings, or of Arrow structs, none of them null"
    raise AnnotationError(f"image {image_id}: annotations: {expected}, found {found}", reason="type", image_id=image_id)


def split_rows(data: Any, columns: Sequence[str]) -> list[dict[str, Any]] | None:
    """Cut a batch into rows.

    Parameters
    ----------
    data
        A row or a batch of `datasets`, or an Arrow table.
    columns
        Names to take, where present: a lazy row decodes what it is asked for.

    Returns
    -------
    list of dict, or None
        One per image, of values or, from a table, of Arrow scalars for what is nested; None if `data` is one row.

    Raises
    ------
    ConfigError
        It is neither.

    """
    if isinstance(data, _TABLES):
        names = [name for name in columns if name in data.schema.names]
        values = {name: data.column(name) for name in names}
        return [{name: _plain(values[name][row]) for name in names} for row in range(data.num_rows)]
    if not isinstance(data, Mapping):
        raise ConfigError(f"expected a row, a batch or an Arrow table, found {type(data).__name__}")
    if not _is_batch(data):
        return None
    names = [name for name in columns if name in data]
    batch = {name: data[name] for name in names}
    return [dict(zip(names, row, strict=True)) for row in zip(*batch.values(), strict=True)]


def _is_batch(data: Mapping[str, Any]) -> bool:
    for name in ("image_id", "height", "file_name"):
        if name in data:
            value = data[name]
            return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0
    annotations = data.get("annotations")
    return isinstance(annotations, (list, tuple)) and any(not isinstance(one, Mapping) for one in annotations)


def _plain(scalar: Any) -> Any:
    if isinstance(scalar, (pa.ListScalar, pa.LargeListScalar)):
        return scalar
    if isinstance(scalar, pa.StructScalar) and "bytes" in scalar and scalar["bytes"].is_valid:
        # a view of the table's memory: the JPEG is not copied
        return {"bytes": memoryview(scalar["bytes"].as_buffer()), "path": scalar["path"].as_py()}
    return scalar.as_py()


def _unzip(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Turn a mapping of lists into a list of mappings; so do ``segmentation``'s own keys."""
    columns = {name: _unzip(value) if isinstance(value, Mapping) else value for name, value in columns.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _child(structs: Any, name: str) -> Any:
    index = structs.type.get_field_index(name)
    if index < 0:
        raise KeyError(name)
    return structs.flatten()[index]


def _as_dense(column: Any) -> NDArray[Any] | None:
    """Give an Arrow column of numbers, or of equally long lists of them, as an array; None for any other."""
    shape = [len(column)]
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lengths = pc.unique(pc.list_value_length(column))
        if len(lengths) != 1 or not lengths[0].is_valid:
            return None
        shape.append(lengths[0].as_py())
        column = column.flatten()
    if column.null_count:
        return None
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values.reshape(shape)
