"""Which format is written by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sa1b_hf._parts import Drafts, PartSink
from sa1b_hf.errors import ConfigError, RecordError

from .coco import CocoParts
from .folder import FolderParts
from .yolo import YoloParts

__all__ = ["make_export"]


def make_export(
    form: str, drafts: Drafts, shard: str, provenance: Mapping[str, Any], lose: Callable[[RecordError, int], None]
) -> PartSink:
    """Make what writes a format.

    Parameters
    ----------
    form
        ``"coco"``, ``"folder"`` or ``"yolo"``.
    drafts
        Where to.
    shard
        Name.
    provenance
        Of the rows.
    lose
        Told of images that cannot be written, and of how many annotations they have.

    Raises
    ------
    ConfigError
        There is no such format.

    """
    if form == "coco":
        return CocoParts(drafts, shard, provenance)
    if form == "folder":
        return FolderParts(drafts, shard)
    if form == "yolo":
        return YoloParts(drafts, shard, provenance, lose)
    raise ConfigError(f"format: expected 'coco', 'folder' or 'yolo', found {form!r}")
