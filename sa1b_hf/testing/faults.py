"""Every fault by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from sa1b_hf.errors import ConfigError

from .fault_types import FaultSpec, InjectedFault
from .file_faults import FILE_FAULTS
from .record_faults import RECORD_FAULTS
from .tar_faults import TAR_FAULTS

__all__ = ["FAULTS", "FaultSpec", "InjectedFault", "get_faults"]

FAULTS: Mapping[str, FaultSpec] = MappingProxyType(
    {spec.name: spec for spec in (*TAR_FAULTS, *FILE_FAULTS, *RECORD_FAULTS)}
)
"""The faults that `make_shard` can build into a shard, by name."""


def get_faults(faults: Iterable[FaultSpec | str]) -> tuple[FaultSpec, ...]:
    """Look faults up.

    Parameters
    ----------
    faults
        Names, or values of `FAULTS`; any number of record faults and at most one shard fault.

    Returns
    -------
    tuple[FaultSpec, ...]
        In the same order.

    Raises
    ------
    ConfigError
        A name is unknown, or there are two shard faults: a reader would stop at the first.

    """
    specs = []
    for fault in faults:
        name = fault if isinstance(fault, str) else fault.name
        if name not in FAULTS:
            raise ConfigError(f"faults: expected names from sa1b_hf.testing.FAULTS, found {name!r}")
        specs.append(FAULTS[name])
    if len(shard := [spec.name for spec in specs if spec.scope == "shard"]) > 1:
        raise ConfigError(f"faults: expected at most one shard fault, found {shard}; make one shard for each")
    return tuple(specs)
