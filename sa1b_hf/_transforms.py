"""What may be done to rows between reading and writing them: columns added to tables, with the record of how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import datasets
import pyarrow as pa

__all__ = ["TableTransform"]


@runtime_checkable
class TableTransform(Protocol):
    """Adds columns to the rows of `sa1b_hf.features`, such as labels.

    It is pickled for worker processes: whatever is large, or lives on a device, is loaded at the first call.

    Attributes
    ----------
    fingerprint
        Identity of what it does. Rows that were made with another fingerprint are made anew.
    provenance
        How the columns come about, in values that JSON has; it is kept in the metadata of what is written.

    """

    fingerprint: str
    provenance: Mapping[str, Any]

    def features(self, features: datasets.Features) -> datasets.Features:
        """Give the features of the tables that come out.

        Parameters
        ----------
        features
            Of the tables that go in.

        Returns
        -------
        datasets.Features
            The same, and those of the new columns behind them.

        """

    def __call__(self, table: pa.Table) -> pa.Table:
        """Add the columns.

        Parameters
        ----------
        table
            Rows of some images.

        Returns
        -------
        pa.Table
            The same rows in the same order, with exactly the columns and types that `features` promises.

        """
