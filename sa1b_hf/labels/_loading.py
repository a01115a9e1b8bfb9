"""A model by name, by folder or by hand → the model, what it needs, and a name that can be published."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa1b_hf.errors import ConfigError, MissingExtraError

from ._backend import torch, transformers

__all__ = ["LoadedModel", "load_model", "weights_digest"]

_DIGITS = 16
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class LoadedModel:
    """A model with what belongs to it.

    Attributes
    ----------
    model, tokenizer
        Of transformers.
    image_processor
        Of transformers, a mapping with its figures, or None.
    name
        Without any path.
    revision
        Commit of the Hub, else a digest of the weights.

    """

    model: Any
    tokenizer: Any
    image_processor: Any
    name: str
    revision: str


def load_model(model: Any, revision: str | None, tokenizer: Any, image_processor: Any) -> LoadedModel:
    """Load what is given by name, and describe what is given by hand.

    Raises
    ------
    ConfigError
        It cannot be loaded, lacks a tokenizer, or does not embed images and texts.
    MissingExtraError
        transformers is not installed.

    """
    if isinstance(model, (str, os.PathLike)):
        return _load(os.fspath(model), revision, tokenizer, image_processor)
    _check(model)
    if tokenizer is None:
        raise ConfigError("tokenizer: expected the tokenizer of the model that was given, found none")
    name = str(getattr(model, "name_or_path", "") or type(model).__name__)
    return LoadedModel(model, tokenizer, image_processor, _public(name), revision or _identity(model))


def _load(name: str, revision: str | None, tokenizer: Any, image_processor: Any) -> LoadedModel:
    is_folder = Path(name).is_dir()
    try:
        model = transformers.AutoModel.from_pretrained(name, revision=revision)
        if tokenizer is None:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, revision=revision)
        if image_processor is None:
            # Its figures alone are needed: its class would need torchvision in some versions.
            mixin = transformers.image_processing_utils.ImageProcessingMixin
            image_processor, _ = mixin.get_image_processor_dict(name, revision=revision)
    except MissingExtraError:
        raise
    except (OSError, ValueError, KeyError, ImportError) as error:
        found = str(error).strip().partition("\n")[0]
        expected = "expected a model of the Hub or a folder with model, tokenizer and image processor"
        raise ConfigError(f"model {Path(name).name if is_folder else name}: {expected}, found: {found}") from error
    _check(model)
    return LoadedModel(model, tokenizer, image_processor, _public(name), _identity(model))


def _public(name: str) -> str:
    """Keep what names a model on the Hub, and of a folder its last part."""
    if _HUB_NAME.fullmatch(name) and not Path(name).is_dir():
        return name
    return Path(name).resolve().name or "model"


def _identity(model: Any) -> str:
    return str(getattr(model.config, "_commit_hash", None) or weights_digest(model))


def _check(model: Any) -> None:
    missing = [name for name in ("get_image_features", "get_text_features") if not hasattr(model, name)]
    if missing:
        raise ConfigError(f"model: expected one with {' and '.join(missing)}, found {type(model).__name__}")


def weights_digest(model: Any) -> str:
    """Tell models without a commit apart: the first 16 hexadecimal digits of the SHA-256 of names and weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"sha256:{digest.hexdigest()[:_DIGITS]}"
