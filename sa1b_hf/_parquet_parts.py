"""Rows as Parquet files that plain `datasets` reads: JPEGs as they are, the rest compressed, scores prunable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from ._parts import DraftFile, Drafts, RowRange

__all__ = ["ParquetParts", "portable_schema"]

_LEVEL: Final = 3
_ELEMENT: Final = "list.element"
# Few different values; for all else a dictionary is bytes for nothing, and JPEGs would be hashed to make one.
_REPEATED: Final = ("shard", "width", "height", ".size.list.element", ".crop_box.list.element")
_PRUNABLE: Final = ("image_id", "width", "height", "shard", ".id", ".area", ".predicted_iou", ".stability_score")


def portable_schema(features: Features, provenance: Mapping[str, Any]) -> pa.Schema:
    """Give the Arrow schema of features, with metadata that every supported version of `datasets` understands.

    Parameters
    ----------
    features
        Of the rows.
    provenance
        How they came about, in values that JSON has, for the key ``sa1b_hf``.

    Returns
    -------
    pyarrow.Schema

    Notes
    -----
    Since `datasets` 4 a list is written ``{"_type": "List", ...}``, which older versions refuse; all of them read
    ``[...]``.

    """
    described = {"info": {"features": _plain_lists(features.to_dict())}}
    schema: pa.Schema = features.arrow_schema
    return schema.with_metadata({"huggingface": json.dumps(described), "sa1b_hf": json.dumps(provenance)})


class ParquetParts:
    """Writes one row group for each table it is given.

    Parameters
    ----------
    drafts
        Where to.
    name
        Final path of a part, with ``{:05d}`` for its number.
    features
        Of the tables.
    metadata
        Provenance, for the key ``sa1b_hf``.
    part_bytes
        A part ends with the row group that makes it as long as this.

    """

    def __init__(
        self, drafts: Drafts, name: str, features: Features, metadata: Mapping[str, Any], part_bytes: int
    ) -> None:
        self._drafts = drafts
        self._name = name
        self._schema = portable_schema(features, metadata)
        self._part_bytes = part_bytes
        self._number = 0
        self._file: DraftFile | None = None
        self._writer: Any = None
        self._rows = RowRange()

    def write(self, group: pa.Table) -> None:
        """Write a row group."""
        if self._file is None:
            self._begin()
        self._writer.write_table(group, row_group_size=group.num_rows)
        self._rows = self._rows.add(group["image_id"])
        if self._file is not None and self._file.tell() >= self._part_bytes:
            self.finish()

    def finish(self) -> None:
        """Complete the part that is open."""
        if self._file is None:
            return
        self._writer.close()
        self._file.finish(self._rows)
        self._file, self._rows = None, RowRange()

    def _begin(self) -> None:
        self._file = self._drafts.file(self._name.format(self._number))
        self._number += 1
        leaves = {leaf: kind for field in self._schema for leaf, kind in _iter_leaves(field.name, field.type)}
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            compression={leaf: "none" if leaf == "image.bytes" else "zstd" for leaf in leaves},
            compression_level={leaf: _LEVEL for leaf in leaves if leaf != "image.bytes"},
            use_dictionary=[leaf for leaf in leaves if leaf.endswith(_REPEATED)],
            write_statistics=[leaf for leaf in leaves if leaf.endswith(_PRUNABLE)],
            column_encoding={leaf: "BYTE_STREAM_SPLIT" for leaf, kind in leaves.items() if _is_split(leaf, kind)},
            write_page_index=True,
        )


def _is_split(leaf: str, kind: pa.DataType) -> bool:
    """Tell whether a column is of numbers whose bytes compress better apart."""
    return bool(pa.types.is_float64(kind)) and not leaf.endswith(_REPEATED)


def _iter_leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Name the Parquet columns of an Arrow column."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _iter_leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _iter_leaves(f"{path}.{_ELEMENT}", kind.value_type)
    else:
        yield path, kind


def _plain_lists(described: Any) -> Any:
    if isinstance(described, list):
        return [_plain_lists(item) for item in described]
    if not isinstance(described, dict):
        return described
    if described.get("_type") == "List" and described.get("length", -1) == -1:
        return [_plain_lists(described["feature"])]
    return {key: _plain_lists(value) for key, value in described.items()}
