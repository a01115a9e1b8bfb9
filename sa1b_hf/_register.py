"""Makes `datasets.load_dataset("sa1b.py")` find the builder of this package.

`datasets` looks into its table of packaged modules before it refuses loading scripts, so an entry there is enough to be
found. Its factory would then list the working directory for data files before it asks the builder; ours asks the
builder at once. Both are internals: `register` says clearly when a later `datasets` has changed them.
"""

from __future__ import annotations

import hashlib
import inspect
import warnings
from typing import Any, Final

import datasets.load

from ._version import __version__

__all__ = ["MODULE", "NAMES", "builder_hash", "register"]

MODULE: Final = "sa1b_hf.sa1b"
NAMES: Final = ("sa1b.py", "sa1b", "./sa1b.py")


def builder_hash() -> str:
    """Give the part of cache paths that tells this builder from others."""
    return hashlib.sha256(MODULE.encode()).hexdigest()


def register() -> bool:
    """Make the builder known to `datasets`, once.

    Returns
    -------
    bool
        False, with a warning, if this version of `datasets` works in another way; `sa1b_hf.load_dataset` does not
        depend on it.

    """
    table = getattr(datasets.load, "_PACKAGED_DATASETS_MODULES", None)
    factory = getattr(datasets.load, "PackagedDatasetModuleFactory", None)
    if not isinstance(table, dict) or not isinstance(factory, type) or not hasattr(factory, "get_module"):
        warnings.warn(
            f"sa1b_hf {__version__} does not know how to register with datasets {datasets.__version__}: "
            'use sa1b_hf.load_dataset(...) in place of datasets.load_dataset("sa1b.py", ...)',
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    if _script_is_loading():
        return True
    for name in NAMES:
        table[name] = (MODULE, builder_hash())
    if not hasattr(factory, "_knows_sa1b"):
        datasets.load.PackagedDatasetModuleFactory = _make_factory(factory)
    return True


def _script_is_loading() -> bool:
    """Tell whether `datasets` 3 imports this package for the sake of the loading script, which is then in charge."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "get_module" and frame.f_globals.get("__name__") == datasets.load.__name__:
            return True
        frame = frame.f_back
    return False


def _make_factory(base: Any) -> Any:
    class Factory(base):  # type: ignore[misc]
        """The factory of `datasets`, except for this package's names."""

        _knows_sa1b = True

        def __init__(self, name: str, *args: Any, data_files: Any = None, **kwargs: Any) -> None:
            if name in NAMES:
                # not through the base class, which tells a server that the name was used
                self.name, self.data_files = name, data_files
            else:
                super().__init__(name, *args, data_files=data_files, **kwargs)

        def get_module(self) -> Any:
            if self.name not in NAMES:
                return super().get_module()
            # An empty dict, unlike None, does not make `datasets` ask for data files.
            kwargs = {"data_files": self.data_files or {}, "dataset_name": "sa1b"}
            return datasets.load.DatasetModule(MODULE, builder_hash(), kwargs)

    Factory.__name__ = base.__name__
    Factory.__qualname__ = base.__qualname__
    return Factory
