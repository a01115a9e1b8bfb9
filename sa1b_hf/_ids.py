"""Sets of image ids: read from lists and files, and hashed for repeatable sampling."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from .errors import ConfigError

__all__ = ["hash_ids", "is_int", "read_ids"]

_MAX_BYTES = 512 * 2**20  # 11 million file names with folder take 300 MB
_NAME = re.compile(r"(?:.*[/\\])?(?:sa_)?([0-9]{1,18})(?:\.(?:jpe?g|json))?", re.IGNORECASE)


def read_ids(ids_or_path: str | os.PathLike[str] | Iterable[Any]) -> frozenset[int]:
    """Read a set of image ids.

    Parameters
    ----------
    ids_or_path
        Ids or names (``560``, ``"sa_560.jpg"``, ``"sa_000000/sa_560"``), or the path of a file: text with one id or
        name per line (blank lines and ``#`` comments are skipped), or ``.csv`` or ``.parquet`` with a column
        ``image_id`` of either.

    Returns
    -------
    frozenset of int

    Raises
    ------
    ConfigError
        No such file, no such column, something that is no id (the message says where), or no id at all.

    Examples
    --------
    >>> sorted(read_ids(["sa_000000/sa_560", "sa_9.jpg", 9]))
    [9, 560]

    """
    if isinstance(ids_or_path, str | os.PathLike):
        path = Path(ids_or_path).expanduser()
        ids, where = _read_file(path), str(path)
    elif isinstance(ids_or_path, Iterable) and not isinstance(ids_or_path, bytes):
        ids, where = frozenset(_parse_all(ids_or_path, "ids, entry")), "ids"
    else:
        raise ConfigError(f"ids: expected ids or the path of a file, found {ids_or_path!r}")
    if not ids:
        raise ConfigError(f"{where}: expected at least one image id, found none")
    return ids


def is_int(value: Any) -> bool:
    """Tell an integer of Python or NumPy from everything else, truth values included."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def hash_ids(seed: int | NDArray[np.uint64], ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash ids to uniform 64-bit numbers, the same on every machine.

    Parameters
    ----------
    seed
        One for all, or one for each id, such as the hashes of something else.
    ids
        Shape (n,).

    Returns
    -------
    NDArray[np.uint64]
        Shape (n,).

    Notes
    -----
    The output function of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014),
    applied to the seed, and then to seed and id together.
    """
    seeds = seed if isinstance(seed, np.ndarray) else np.array([int(seed) % 2**64], np.uint64)
    return _mix(_mix(seeds) ^ ids.astype(np.uint64))


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = numbers ^ (numbers >> np.uint64(31))
    return mixed


def _read_file(path: Path) -> frozenset[int]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: expected a list of ids of at most {_MAX_BYTES} bytes, found more")
        if path.suffix.lower() in (".csv", ".parquet"):
            return frozenset(_parse_all(_read_column(path), f"{path}, row"))
        with path.open(encoding="utf-8-sig") as file:
            return frozenset(_parse_all((line.partition("#")[0].strip() for line in file), f"{path}, line"))
    except OSError as error:
        raise ConfigError(f"{path}: expected a list of image ids, found: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, found other bytes at offset {error.start}") from None
    except (pa.ArrowException, KeyError) as error:
        raise ConfigError(f"{path}: expected a column 'image_id', found: {error}") from None


def _read_column(path: Path) -> list[Any]:
    if path.suffix.lower() == ".parquet":
        table = pyarrow.parquet.read_table(path, columns=["image_id"])
    else:
        table = pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(include_columns=["image_id"]))
    column: list[Any] = table.column("image_id").to_pylist()
    return column


def _parse_all(values: Iterable[Any], where: str) -> Iterable[int]:
    for number, value in enumerate(values, 1):
        if isinstance(value, str) and not value:
            continue
        match = _NAME.fullmatch(value) if isinstance(value, str) else None
        if not match and not (is_int(value) and 0 <= value < 2**63):
            raise ConfigError(f"{where} {number}: expected an id such as 560 or 'sa_560.jpg', found {value!r:.80}")
        yield int(match.group(1) if match else value)
