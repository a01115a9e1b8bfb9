"""The same conversion on the machines of a Ray cluster; needs the extra ``ray``.

A shard is a task. Whatever happens to its machine, Ray runs it again elsewhere, and the manifests say what is done.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ._convert_pool import Done, Failure, run_job
from ._convert_shard import ShardJob
from .convert import ConvertOptions, list_shards
from .errors import MissingExtraError
from .sources import ShardSource

__all__ = ["iter_convert_on_ray"]


def iter_convert_on_ray(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | ShardSource],
    out: str | os.PathLike[str],
    options: ConvertOptions | None = None,
    *,
    retries: int = 3,
    resources: Mapping[str, Any] | None = None,
) -> Iterator[Done | Failure]:
    """Convert shards on a Ray cluster, and tell of each as it is done.

    Parameters
    ----------
    sources, options
        As for `sa1b_hf.convert.convert`; every machine reads the sources itself.
    out
        Folder to write to, which every machine has under this name.
    retries
        How often a shard is begun anew when its machine or process dies.
    resources
        What a shard takes, in the words of ``ray.remote``: ``{"num_cpus": 1}`` by default, ``{"num_gpus": 1}`` where
        transforms need one.

    Yields
    ------
    Done or Failure
        In the order in which they end.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    ShardError, RecordError
        With ``on_error="raise"`` the first failure.

    Notes
    -----
    Call ``ray.init`` before, or the address in ``RAY_ADDRESS``, or a local cluster, is used.

    """
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise MissingExtraError("a Ray cluster", "ray") from None
    options = options or ConvertOptions()
    task = ray.remote(**{"num_cpus": 1, **(resources or {}), "max_retries": retries})(_work)
    return _iter_results(
        ray, [task.remote(one, Path(out).absolute(), options) for one in list_shards(sources, options)], options
    )


def _iter_results(ray: Any, waiting: list[Any], options: ConvertOptions) -> Iterator[Done | Failure]:
    try:
        while waiting:
            finished, waiting = ray.wait(waiting)
            for reference in finished:
                done: Done | Failure = ray.get(reference)
                if isinstance(done, Failure) and options.read.on_error == "raise":
                    raise done.error
                yield done
    finally:
        for reference in waiting:
            ray.cancel(reference)


def _work(shard: ShardSource, out: Path, options: ConvertOptions) -> Done | Failure:
    return run_job(ShardJob(shard, out, options))
