"""The `data_files` of `load_dataset`, resolved: patterns by `datasets`, web addresses left as they are."""

from __future__ import annotations

import os
from typing import Any

from datasets.data_files import DataFilesDict, DataFilesList, sanitize_patterns

__all__ = ["as_data_files"]


def as_data_files(data_files: Any, data_dir: str | None = None) -> DataFilesDict | None:
    """Resolve patterns with the means of `datasets`, and leave web addresses alone.

    Parameters
    ----------
    data_files
        What `load_dataset` takes: a path, pattern or URL, a list of them, or a dict of these by split.
    data_dir
        Folder that relative names start from.

    Returns
    -------
    datasets.data_files.DataFilesDict, or None
        Paths and URLs by split.

    """
    if not data_files or isinstance(data_files, DataFilesDict):
        return data_files or None
    splits = {}
    for split, patterns in sanitize_patterns(data_files).items():
        web = [str(pattern) for pattern in patterns if str(pattern).startswith(("http://", "https://"))]
        rest = [str(pattern) for pattern in patterns if str(pattern) not in web]
        base = os.path.abspath(os.path.expanduser(data_dir or ""))  # noqa: PTH100, PTH111 -- what `datasets` expects
        found = DataFilesList.from_patterns(rest, base_path=base) if rest else DataFilesList([], [])
        splits[split] = DataFilesList([*found, *web], [*found.origin_metadata, *((url,) for url in web)])
    return DataFilesDict(splits)
