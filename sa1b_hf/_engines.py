"""What inflates: the packages with zlib's interface, and one switch between them."""

from __future__ import annotations

import importlib
from typing import Any, Final, TypeAlias

from .errors import ConfigError

__all__ = ["ENGINES", "GZIP_MAGIC", "Chunk", "resolve_engine"]

GZIP_MAGIC: Final = b"\x1f\x8b"
Chunk: TypeAlias = bytes | bytearray
ENGINES: Final = ("zlib-ng", "isal", "zlib")
_MODULES: Final = {"zlib-ng": "zlib_ng.zlib_ng", "isal": "isal.isal_zlib", "zlib": "zlib"}


def resolve_engine(name: str = "auto") -> tuple[str, Any]:
    """Find the module that inflates.

    Parameters
    ----------
    name
        ``"zlib-ng"``, ``"isal"``, ``"zlib"``, or ``"auto"`` for the first of these that is installed.

    Returns
    -------
    tuple of str and module
        The engine's name, and a module with zlib's ``decompressobj``.

    Raises
    ------
    ConfigError
        The engine is unknown, or named explicitly and not installed.

    """
    if name != "auto" and name not in ENGINES:
        raise ConfigError(f"engine: expected 'auto' or one of {list(ENGINES)}, found {name!r}")
    for candidate in ENGINES if name == "auto" else (name,):
        try:
            return candidate, importlib.import_module(_MODULES[candidate])
        except ImportError:
            continue
    raise ConfigError(f"engine: {name!r} is not installed; run  pip install {name}, or use engine='auto'")
