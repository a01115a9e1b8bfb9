"""Ids of images from the names that others give them, a column at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sa1b_hf.errors import ConfigError

__all__ = ["image_ids_of"]

_NAME = r"(?i)^(?:.*[/\\])?sa_(?P<id>[0-9]{1,18})(?:\.(?:jpe?g|json))?$"


def image_ids_of(values: Any) -> NDArray[np.int64]:
    """Read image ids.

    Parameters
    ----------
    values
        Arrow array of ids, or of names such as ``"sa_560"``, ``"sa_560.jpg"`` and ``"sa_000000/sa_560.jpg"``.

    Returns
    -------
    NDArray[np.int64]
        Shape (N,); -1 for null, negative ids, and names that are none of SA-1B.

    Raises
    ------
    ConfigError
        The values are neither integers nor texts.

    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = pc.struct_field(pc.extract_regex(values, _NAME), "id").cast(pa.int64())
    elif not pa.types.is_integer(values.type):
        raise ConfigError(f"image ids: expected integers or names such as 'sa_560.jpg', found {values.type}")
    ids: NDArray[np.int64] = pc.fill_null(values.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return np.where(ids < 0, -1, ids)
