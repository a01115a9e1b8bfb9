"""torch and transformers, imported when something of them is used first."""

from __future__ import annotations

import importlib
from typing import Any

from sa1b_hf.errors import MissingExtraError

__all__ = ["functional", "torch", "transformers"]


class _Lazy:
    """A module in waiting: without the extra, whoever needs it is told so, and nobody else."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        try:
            module = importlib.import_module(self._name)
        except ImportError as error:
            raise MissingExtraError("labelling with a model", "labels") from error
        return getattr(module, attribute)


torch: Any = _Lazy("torch")
functional: Any = _Lazy("torch.nn.functional")
transformers: Any = _Lazy("transformers")
