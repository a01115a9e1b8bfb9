"""Which columns could hold pixels, and image columns without traces of where they came from."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Array2D, Array3D, Array4D, Array5D, Features, Image, Value
from datasets.table import embed_table_storage

from .errors import ConfigError

__all__ = ["image_columns", "pixel_columns", "tidy_images"]

_ARRAYS: Final = (Array2D, Array3D, Array4D, Array5D)
_BYTES: Final = frozenset({"binary", "large_binary", "binary_view"})
_SMALL: Final = frozenset({"uint8", "int8"})
_CHANNELS: Final = 3  # a list of lists of lists of numbers: rows, columns, channels


def pixel_columns(features: Features) -> tuple[str, ...]:
    """Name the columns that hold pixels, or anything that could be pixels: media, bytes, arrays, lists of uint8."""
    return tuple(name for name, feature in features.items() if _may_hold_pixels(feature, depth=0))


def _may_hold_pixels(feature: Any, depth: int) -> bool:
    if isinstance(feature, dict):
        return any(_may_hold_pixels(inner, depth=0) for inner in feature.values())
    if isinstance(feature, (list, tuple)):
        return any(_may_hold_pixels(inner, depth + 1) for inner in feature)
    if hasattr(feature, "feature"):  # the list types of `datasets`
        return _may_hold_pixels(feature.feature, depth + 1)
    if isinstance(feature, Value):
        is_number = feature.dtype not in {"string", "large_string", "bool", "null"}
        return feature.dtype in _BYTES or (depth > 0 and feature.dtype in _SMALL) or (is_number and depth >= _CHANNELS)
    return isinstance(feature, _ARRAYS) or hasattr(feature, "decode_example")


def image_columns(features: Features) -> tuple[str, ...]:
    """Name the columns that are images."""
    return tuple(name for name, feature in features.items() if isinstance(feature, Image))


def tidy_images(table: pa.Table, columns: tuple[str, ...], *, allow_reencoded: bool) -> pa.Table:
    """Put the bytes of images into their columns, and leave of their paths the file's name.

    Parameters
    ----------
    table
        With the schema of features.
    columns
        Names of the columns that are images.
    allow_reencoded
        Accept images that come without the name of their file, as those do that were decoded and encoded anew.

    Raises
    ------
    ConfigError
        An image has no name, or no bytes.

    """
    for name in columns:
        if _has_gaps(table[name]):
            table = embed_table_storage(table)
        images = table[name].combine_chunks()
        data, paths = pc.struct_field(images, "bytes"), pc.struct_field(images, "path")
        if pc.any(pc.and_(pc.is_null(data), pc.is_valid(images))).as_py():
            raise ConfigError(
                f"{name}: expected the bytes of each image, found a row without; its file is out of reach"
            )
        if not allow_reencoded and pc.any(pc.and_(pc.is_null(paths), pc.is_valid(data))).as_py():
            raise ConfigError(
                f"{name}: expected JPEGs as they are in the shards, found images that were decoded and encoded anew, "
                "as a stream does in Python functions; call .cast_column('image', datasets.Image(decode=False)) before "
                "map and filter, or accept it with allow_reencoded=True"
            )
        # a path can tell of somebody's disk, or be a signed link
        bare = pc.replace_substring_regex(paths, r"[?#].*$", "")
        bare = pc.replace_substring_regex(bare, r"^.*[/\\]", "")
        tidy = pa.StructArray.from_arrays([data, bare], names=["bytes", "path"], mask=images.is_null())
        table = table.set_column(table.schema.get_field_index(name), name, tidy)
    return table


def _has_gaps(column: pa.ChunkedArray) -> bool:
    data = pc.struct_field(column, "bytes")
    return bool(pc.any(pc.and_(pc.is_null(data), pc.is_valid(column))).as_py())
