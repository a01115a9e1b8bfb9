"""Makes `datasets.load_dataset("sa1b.py")` find the builder of this package.

`datasets` looks into its table of packaged modules before it refuses loading scripts, so an entry there is enough to be
found. Its factory would then list the working directory for data files before it asks the builder; ours asks the
builder at once. Both are internals: `register` says clearly when a later `datasets` has changed them.

`datasets` takes most of a second and 120 MB to import, which commands such as `sa1b download` have no use for: where it
is not imported yet, registering waits until somebody imports it.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

from ._version import __version__

__all__ = ["MODULE", "NAMES", "builder_hash", "register", "register_when_imported"]

MODULE: Final = "sa1b_hf.sa1b"
NAMES: Final = ("sa1b.py", "sa1b", "./sa1b.py")
_TARGET: Final = "datasets.load"


def builder_hash() -> str:
    """Give the part of cache paths that tells this builder from others."""
    return hashlib.sha256(MODULE.encode()).hexdigest()


def register_when_imported() -> None:
    """Make the builder known to `datasets`, now if it is imported already, otherwise right after it has been."""
    if "datasets" in sys.modules:
        register()
    elif not any(isinstance(finder, _Hook) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Hook())


class _Hook(importlib.abc.MetaPathFinder):
    """Lets everybody else find `datasets.load`, and registers once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _TARGET:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: Any) -> None:
        load = loader.exec_module

        def load_and_register(module: ModuleType) -> None:
            del loader.exec_module
            load(module)
            # Only now: an import that failed may be tried again.
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            register()

        loader.exec_module = load_and_register


def register() -> bool:
    """Make the builder known to `datasets`, once.

    Returns
    -------
    bool
        False, with a warning, if this version of `datasets` works in another way; `sa1b_hf.load_dataset` does not
        depend on it.

    """
    library: Any = importlib.import_module(_TARGET)
    table = getattr(library, "_PACKAGED_DATASETS_MODULES", None)
    factory = getattr(library, "PackagedDatasetModuleFactory", None)
    if not isinstance(table, dict) or not isinstance(factory, type) or not hasattr(factory, "get_module"):
        warnings.warn(
            f"sa1b_hf {__version__} does not know how to register with datasets {sys.modules['datasets'].__version__}: "
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
        library.PackagedDatasetModuleFactory = _make_factory(factory)
    return True


def _script_is_loading() -> bool:
    """Tell whether `datasets` 3 imports this package for the sake of the loading script, which is then in charge."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "get_module" and frame.f_globals.get("__name__") == _TARGET:
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
            return sys.modules[_TARGET].DatasetModule(MODULE, builder_hash(), kwargs)

    Factory.__name__ = base.__name__
    Factory.__qualname__ = base.__qualname__
    return Factory
