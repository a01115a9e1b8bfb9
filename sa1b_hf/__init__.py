"""SA-1B, Meta's Segment Anything dataset, for Hugging Face `datasets`, read from the original shards.

Importing the package makes ``datasets.load_dataset("sa1b.py")`` work.
"""

from __future__ import annotations

import importlib
from typing import Any

from ._register import register_when_imported as _register_when_imported
from ._version import __version__

# Where each public name lives; modules are imported when a name is first used, so that importing the package is fast.
_HOMES = {
    "AnnotationFilter": "filters",
    "DecodeMasks": "masks",
    "ImageFilter": "filters",
    "PassReport": "reports",
    "ReadOptions": "reader",
    "SA1B": "sa1b",
    "SA1BConfig": "sa1b",
    "SA1BError": "errors",
    "collate_concat": "collate",
    "collate_pad": "collate",
    "iter_batches": "reader",
    "load_dataset": "loading",
    "read_reports": "reports",
    "report": "loading",
    "row_to_document": "features",
    "sa1b_features": "features",
    "shard_of": "catalog",
}

__all__ = [  # noqa: PLE0604 -- every name but the first comes from the table
    "__version__",
    *_HOMES,
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


_register_when_imported()
