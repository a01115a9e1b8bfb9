"""The embedded sample: two small shards in the real layout, made on first use, so that everything runs without data."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import datasets

from ._version import __version__
from .testing import make_shard

__all__ = ["sample_shard", "sample_shards"]

_NUM_SHARDS = 2
_RECIPE = {"num_images": 24, "preset": "demo", "order": "random", "compression": "gzip", "seed": 1}
_REVISION = 1  # to be raised when the pictures change without a new version of the package


def sample_shard(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Give the first shard of the embedded sample.

    Parameters
    ----------
    cache_dir
        As for `sample_shards`.

    Returns
    -------
    Path
        ``sa_000000.tar``.

    """
    return sample_shards(cache_dir)[0]


def sample_shards(cache_dir: str | os.PathLike[str] | None = None) -> list[Path]:
    """Give the shards of the embedded sample, which are made on the first call.

    Parameters
    ----------
    cache_dir
        Folder to keep them in; the cache of `datasets` by default.

    Returns
    -------
    list[Path]
        ``sa_000000.tar`` and ``sa_000001.tar``: gzip streams in random order, 24 synthetic images each. Nothing in
        them comes from SA-1B.

    Notes
    -----
    The folder appears under its name when both shards are complete. Two processes that begin at once both make it,
    and the second throws its own away.

    """
    root = Path(datasets.config.HF_DATASETS_CACHE if cache_dir is None else cache_dir) / "sa1b_hf"
    folder = root / f"sample-{_digest()}"
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        _make(folder)
    return [folder / _name(number) for number in range(_NUM_SHARDS)]


def _digest() -> str:
    recipe = repr((__version__, _REVISION, _NUM_SHARDS, sorted(_RECIPE.items())))
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def _name(number: int) -> str:
    return f"sa_{number:06d}.tar"


def _make(folder: Path) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        next_id = 1
        for number in range(_NUM_SHARDS):
            manifest = make_shard(temporary / _name(number), first_id=next_id, **_RECIPE)  # type: ignore[arg-type]
            next_id = manifest.image_ids[-1] + 1
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    temporary.chmod(0o755)  # mkdtemp makes folders for the owner alone, but a cache may be shared
    try:
        temporary.replace(folder)
    except OSError:
        # Another process was first: a folder that is not empty cannot be replaced.
        if not folder.is_dir():
            raise
