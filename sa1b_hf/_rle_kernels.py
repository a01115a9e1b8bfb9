"""Which kernels run: those of the C extension, or NumPy's where it could not be built."""

from __future__ import annotations

from types import ModuleType

from . import _rle_numpy

__all__ = ["kernels"]

kernels: ModuleType
try:
    from . import _rle_native
except ImportError:
    kernels = _rle_numpy
else:
    kernels = _rle_native
