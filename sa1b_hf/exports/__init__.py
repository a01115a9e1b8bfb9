"""Formats that other tools ask for: COCO JSON, a folder of files, Ultralytics' YOLO polygons.

They are formats of `sa1b_hf.convert`, and as such made once, with a manifest. WebDataset is one of `convert` itself.
"""

from __future__ import annotations

from .coco import CocoParts, merge_coco
from .folder import FolderParts
from .sinks import make_export
from .yolo import YoloParts

__all__ = ["CocoParts", "FolderParts", "YoloParts", "make_export", "merge_coco"]
