"""`load_dataset` that needs no registration, and the report of a dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, IterableDataset

from ._register import NAMES, builder_hash
from .errors import ConfigError
from .reports import PassReport

__all__ = ["iter_builders", "load_dataset", "report"]


def load_dataset(
    path: str | os.PathLike[str] = "sa1b.py",
    name: str | None = None,
    *,
    split: Any = None,
    streaming: bool = False,
    num_proc: int | None = None,
    download_mode: Any = None,
    verification_mode: Any = None,
    keep_in_memory: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Load SA-1B, as `datasets.load_dataset` does, on every supported version of `datasets`.

    Parameters
    ----------
    path
        ``"sa1b.py"`` or ``"sa1b"``, also with folders before it. Anything else is handed to `datasets.load_dataset`.
    name
        ``"default"``, ``"1pct"``, ``"10pct"`` or ``"full"``.
    split, streaming, num_proc, download_mode, verification_mode, keep_in_memory
        As in `datasets.load_dataset`.
    **kwargs
        ``data_dir``, ``data_files``, ``cache_dir``, ``features``, ``token``, ``storage_options``, and the options of
        `sa1b_hf.SA1BConfig`. ``trust_remote_code`` and ``revision`` mean nothing here and are accepted.

    Returns
    -------
    Dataset, DatasetDict, IterableDataset or IterableDatasetDict
        As `datasets.load_dataset` gives.

    Raises
    ------
    ConfigError
        An option makes no sense.
    MissingShardsError
        Shards that were asked for are not in the source.

    Examples
    --------
    >>> import sa1b_hf
    >>> ds = sa1b_hf.load_dataset("sa1b.py", split="train", streaming=True)
    >>> sorted(next(iter(ds)))
    ['annotations', 'file_name', 'height', 'image', 'image_id', 'shard', 'width']

    """
    options: dict[str, Any] = {
        "split": split,
        "streaming": streaming,
        "num_proc": num_proc,
        "download_mode": download_mode,
        "verification_mode": verification_mode,
        "keep_in_memory": keep_in_memory,
    }
    if Path(path).name not in NAMES:
        return datasets.load_dataset(os.fspath(path), name, **options, **kwargs)
    for meaningless in ("trust_remote_code", "revision", "download_config", "save_infos"):
        kwargs.pop(meaningless, None)
    if streaming and num_proc is not None:
        raise ConfigError("num_proc has no meaning while streaming: use a DataLoader with num_workers")
    from .sa1b import SA1B  # noqa: PLC0415 -- keeps `import sa1b_hf` fast

    builder = SA1B(config_name=name, hash=builder_hash(), dataset_name="sa1b", **kwargs)
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare(download_mode=download_mode, verification_mode=verification_mode, num_proc=num_proc)
    return builder.as_dataset(split=split, in_memory=bool(keep_in_memory))


def report(dataset: Any) -> PassReport:
    """Give what the passes over a dataset delivered, skipped and found broken.

    Parameters
    ----------
    dataset
        What `load_dataset` gave, or what `map`, `filter`, `shuffle` … made of a streaming one.

    Returns
    -------
    PassReport
        The sum over all passes so far, of this process and of all workers; for a prepared dataset, of its preparation,
        also when the cache was reused.

    Raises
    ------
    ConfigError
        The dataset does not come from this package, or its origin cannot be found any more.

    """
    parts = list(dataset.values()) if isinstance(dataset, dict) else [dataset]
    files = {path for part in parts if isinstance(part, Dataset) for path in _report_files(part)}
    streams = [part for part in parts if isinstance(part, IterableDataset)]
    builders = {id(found): found for stream in streams for found in iter_builders(stream)}
    reports = [PassReport.from_dict(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(files)]
    reports += [builder.report() for builder in builders.values()]
    if not reports:
        raise ConfigError(
            "expected a dataset of sa1b_hf, found one without a trace of it; ask the dataset that load_dataset gave, "
            "or pass report_dir= and read it with sa1b_hf.read_reports"
        )
    total = PassReport()
    for part in reports:
        total.merge(part)
    return total


def _report_files(dataset: Dataset) -> Iterator[Path]:
    from .sa1b import REPORT_FILE  # noqa: PLC0415

    for file in dataset.cache_files:
        path = Path(file["filename"]).parent / REPORT_FILE
        if path.is_file():
            yield path


def iter_builders(dataset: IterableDataset) -> Iterator[Any]:
    """Follow a streaming dataset's chain of transformations down to its builder."""
    from .sa1b import SA1B  # noqa: PLC0415

    pending = [getattr(dataset, "_ex_iterable", None)]
    while pending:
        link = pending.pop()
        builder = getattr(getattr(link, "generate_tables_fn", None), "__self__", None)
        if isinstance(builder, SA1B):
            yield builder
        pending += [inner for inner in (getattr(link, "ex_iterable", None),) if inner is not None]
        pending += list(getattr(link, "ex_iterables", None) or [])
