"""Rows of a table found by an integer key, many keys at once."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sa1b_hf.errors import ConfigError

__all__ = ["KeyIndex", "digest_of", "integer_keys"]


class KeyIndex:
    """Finds rows by key, and remembers which rows and images came by.

    Parameters
    ----------
    keys
        int64, shape (rows,); below 0 for rows without a usable one.
    unusable
        Rows that are not to be found, by reason: truth values of shape (rows,). A row has the first that applies.
    images
        int64, shape (rows,): image of each row, -1 where unknown; None if the table does not say.

    """

    def __init__(
        self,
        keys: NDArray[np.int64],
        unusable: dict[str, NDArray[np.bool_]],
        images: NDArray[np.int64] | None = None,
    ) -> None:
        usable = np.ones(len(keys), bool)
        self.unusable: Counter[str] = Counter()
        for reason, rows in {"no-key": keys < 0, **unusable}.items():
            self.unusable[reason] += int((rows & usable).sum())
            usable &= ~rows
        self._rows = np.flatnonzero(usable)
        self._rows = self._rows[np.argsort(keys[self._rows], kind="stable")]
        self._keys = keys[self._rows]
        self._images = None if images is None else images[self._rows]
        self._is_seen = np.zeros(len(self._rows), bool)
        self._seen_images: set[int] = set()
        self.num_rows = len(keys)

    def drop_repeated(self, *values: NDArray[Any]) -> None:
        """Keep the first row of each key, or of each key and value (shape (rows,)), and count the others."""
        columns = np.stack([self._keys, *(one[self._rows] for one in values)], axis=1)
        first = np.zeros(len(columns), bool)
        first[np.unique(columns, axis=0, return_index=True)[1]] = True
        self.unusable["repeated"] += int((~first).sum())
        self._rows, self._keys, self._is_seen = self._rows[first], self._keys[first], self._is_seen[first]
        self._images = None if self._images is None else self._images[first]

    def find(self, keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the rows of some keys.

        Parameters
        ----------
        keys
            Shape (N,).

        Returns
        -------
        places, rows : NDArray[np.int64]
            Shape (M,): which of the N keys, and the row; a key can have none or several rows.

        """
        start, stop = np.searchsorted(self._keys, keys), np.searchsorted(self._keys, keys, side="right")
        num = stop - start
        places = np.repeat(np.arange(len(keys)), num)
        at = np.arange(num.sum()) + np.repeat(start - np.append(0, np.cumsum(num))[:-1], num)
        self._is_seen[at] = True
        return places, self._rows[at]

    def see_images(self, image_ids: Any) -> NDArray[np.bool_]:
        """Remember images that came by; tells which are new, shape (N,)."""
        ids = list(image_ids)
        new = np.array([image_id not in self._seen_images for image_id in ids], bool)
        self._seen_images.update(ids)
        return new

    def counts(self) -> tuple[int, Counter[str]]:
        """Rows found so far, and the others by reason."""
        unmatched = Counter(self.unusable)
        unseen = ~self._is_seen
        if self._images is not None:
            came_by = unseen & np.isin(self._images, np.fromiter(self._seen_images, np.int64))
            unmatched["annotation-unknown"] = int(came_by.sum())
            unseen &= ~came_by
        unmatched["not-seen"] = int(unseen.sum())
        return int(self._is_seen.sum()), +unmatched


def integer_keys(column: Any) -> NDArray[np.int64]:
    """Read keys; -1 for null."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not pa.types.is_integer(array.type):
        raise ConfigError(f"annotation ids: expected integers, found {array.type}")
    keys: NDArray[np.int64] = array.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return keys


def digest_of(table: Any, options: Any) -> str:
    """SHA-256 of the values of a table, and of what is done with them, as 64 hexadecimal digits."""
    digest = hashlib.sha256(repr(options).encode())
    sink = pa.PythonFile(_Hasher(digest), mode="w")
    table = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=65_536)
    return digest.hexdigest()


class _Hasher:
    """A file that only hashes."""

    closed = False

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """Nothing is open."""
