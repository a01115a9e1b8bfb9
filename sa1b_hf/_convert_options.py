"""The options of a conversion, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from typing import Any, Final, Literal, get_args

import PIL
from datasets import Features

from ._ids import is_int
from ._resize_rows import RowResize
from ._transforms import TableTransform
from .errors import ConfigError
from .features import sa1b_features
from .reader import ReadOptions

__all__ = ["ConvertOptions", "OutFormat"]

_VERSION: Final = 1  # raise it whenever the same options give other bytes
_MAX_IDS_SHOWN: Final = 100
_DOCUMENT_COLUMNS: Final = frozenset({"image_id", "width", "height", "file_name", "annotations"})

OutFormat = Literal["parquet", "webdataset", "coco", "folder", "yolo"]
"""What is written: see `sa1b_hf.convert` for the first two, `sa1b_hf.exports` for the others."""


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert shards.

    Attributes
    ----------
    format
        See `OutFormat`.
    image
        False: annotations only. No JPEG is read, waited for or written.
    resize
        Shrink images to this longest side in pixels, and their masks, boxes and points with them.
    quality
        Of the JPEGs that are encoded anew by `resize`, 1 to 100.
    read
        How to read shards, what to keep of them, and what to do about damage, see `sa1b_hf.ReadOptions`.
    transforms
        Columns to add, see `sa1b_hf._transforms.TableTransform`; they see the rows that passed the filters, at their
        original size.
    part_bytes
        About how long a part gets.
    row_group_rows, row_group_bytes
        Most rows and bytes of a Parquet row group, which is what a stream holds in memory.

    Raises
    ------
    ConfigError
        An option is out of range, or does not go with another.

    """

    format: OutFormat = "parquet"
    image: bool = True
    resize: int | None = None
    quality: int = 90
    read: ReadOptions = field(default_factory=ReadOptions)
    transforms: tuple[TableTransform, ...] = ()
    part_bytes: int = 500_000_000
    row_group_rows: int = 100
    row_group_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if self.format not in get_args(OutFormat):
            raise ConfigError(f"format: expected one of {list(get_args(OutFormat))}, found {self.format!r}")
        for name in ("part_bytes", "row_group_rows", "row_group_bytes"):
            if not is_int(value := getattr(self, name)) or value < 1:
                raise ConfigError(f"{name}: expected an int of 1 or more, found {value!r}")
        if not self.image:
            columns = tuple(name for name in self.read.columns if name != "image")
            object.__setattr__(self, "read", replace(self.read, columns=columns))
        self.row_resize  # noqa: B018 -- checks the numbers
        needed = {"image_id"} if self.format == "parquet" else _DOCUMENT_COLUMNS
        if self.resize is not None:
            needed = needed | {"width", "height"}
        if missing := sorted(needed - set(self.read.columns)):
            raise ConfigError(f"columns: format {self.format!r} with these options needs {missing} too")

    @property
    def row_resize(self) -> RowResize | None:
        """What resizes rows, if anything does."""
        return None if self.resize is None else RowResize(self.resize, self.quality)

    def features(self) -> Features:
        """Give the features of what is written."""
        features = sa1b_features(self.read.columns)
        for transform in self.transforms:
            features = transform.features(features)
        return features

    def config(self) -> dict[str, Any]:
        """Give all that decides about the bytes written, in values that JSON has."""
        sizes = {name: getattr(self, name) for name in ("part_bytes", "row_group_rows", "row_group_bytes")}
        return {
            "version": _VERSION,
            "format": self.format,
            "columns": list(self.read.columns),
            "filters": self.filters(),
            "on_error": self.read.on_error,
            "salvage": self.read.salvage,
            "resize": None if self.resize is None else {"longest": self.resize, "quality": self.quality, **_codecs()},
            "transforms": [
                {"fingerprint": one.fingerprint, "provenance": dict(one.provenance)} for one in self.transforms
            ],
            **sizes,
        }

    def filters(self) -> dict[str, Any]:
        """Give the options of the filters that are set, in values that JSON has."""
        set_options: dict[str, Any] = {}
        for filter_ in (self.read.annotation_filter, self.read.image_filter):
            if not filter_.keeps_all:
                for option in fields(filter_):
                    value = getattr(filter_, option.name)
                    if value != option.default:
                        set_options[option.name] = _plain(value)
        return set_options

    def metadata(self) -> dict[str, Any]:
        """Give the provenance of rows, for the metadata of what is written."""
        resize = {} if self.resize is None else {"resize": {"longest": self.resize, "quality": self.quality}}
        transforms = [dict(one.provenance) for one in self.transforms]
        # the counts of a pass are known at its end only: they are in the manifest
        return {"version": 1, "filters": self.filters(), **resize, "report": {}, "transforms": transforms}

    def fingerprint(self) -> str:
        """Give the hash of `config`, hexadecimal."""
        return hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if not isinstance(value, frozenset):
        return value.item() if hasattr(value, "item") else value
    ids = sorted(int(number) for number in value)
    digest = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    # a list of a million ids would be in every part
    return ids if len(ids) <= _MAX_IDS_SHOWN else {"count": len(ids), "sha256": digest}


def _codecs() -> dict[str, str]:
    """Name what decodes and encodes, since pixels depend on it."""
    return {"pillow": PIL.__version__, "decoder": "simplejpeg" if find_spec("simplejpeg") else "pillow"}
