"""Where labels come from, in a form that can travel with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sa1b_hf._version import __version__
from sa1b_hf.errors import ConfigError

from ._vocabulary import Vocabulary, canonical_json, sha256_of

__all__ = ["Provenance"]

# A path or an address: it would say more about a machine, or a token, than about the labels.
_PRIVATE = re.compile(r"^([/~\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\])|://|[?&](token|sig|oh|oe)=")


@dataclass(frozen=True)
class Provenance:
    """Everything that decides what a labeler says, and nothing about where it ran.

    Attributes
    ----------
    model
        Name of the model or of the source, such as ``"openai/clip-vit-base-patch16"``; never a path.
    vocabulary
        What its label ids mean.
    revision
        Commit of the model, or a digest of its weights or of the source's file.
    mode
        How a mask becomes something to look at, such as ``"crop"``.
    fill
        What is done with the background of a crop.
    resolution
        Pixels of the side of the model's input.
    dtype
        Precision of the model.
    scores
        What a score is: ``"softmax"``, ``"sigmoid"``, ``"iou"``, ``"given"`` …
    embedding_dim
        Length of the embeddings that come with the labels; None for labels without.
    options
        What else decides, as JSON can hold it.
    version
        Of this package.

    Raises
    ------
    ConfigError
        A text is a path or an address, or `options` is nothing that JSON can hold.

    Examples
    --------
    >>> Provenance("by-colour", Vocabulary(("red", "blue")), scores="softmax").to_dict()["names"]
    ['red', 'blue']

    """

    model: str
    vocabulary: Vocabulary
    revision: str | None = None
    mode: str | None = None
    fill: str | None = None
    resolution: int | None = None
    dtype: str | None = None
    scores: str = "softmax"
    embedding_dim: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise ConfigError(f"model: expected a name, found {self.model!r}")
        if not isinstance(self.vocabulary, Vocabulary):
            raise ConfigError(f"vocabulary: expected a Vocabulary, found {type(self.vocabulary).__name__}")
        for name in ("model", "revision", "mode", "fill", "dtype", "scores"):
            _check_public(name, getattr(self, name))
        try:
            canonical_json(dict(self.options))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"options: expected what JSON can hold, found {error}") from error
        for name, value in self.options.items():
            _check_public(f"options[{name!r}]", value)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `to_dict` less the version of the package, as 64 hexadecimal digits."""
        return sha256_of({name: value for name, value in self.to_dict().items() if name != "version"})

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON can hold it: `options` as they are, of the vocabulary its digest and all that is in it."""
        fields = {name: value for name, value in asdict(self).items() if name not in ("vocabulary", "options")}
        words = self.vocabulary.to_dict()
        return {"kind": "labels", **fields, "options": dict(self.options), "digest": self.vocabulary.digest, **words}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Provenance:
        """Read what `to_dict` gave.

        Raises
        ------
        ConfigError
            It is something else, or the digest is not that of the vocabulary.

        """
        try:
            words = Vocabulary(**{name: content[name] for name in Vocabulary.__dataclass_fields__})
            names = [name for name in cls.__dataclass_fields__ if name != "vocabulary"]
            provenance = cls(vocabulary=words, **{name: content[name] for name in names})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"provenance: expected what Provenance.to_dict gives, found {error!r}") from error
        if content.get("digest") != words.digest:
            raise ConfigError(f"provenance: expected the digest {words.digest}, found {content.get('digest')!r}")
        return provenance


def _check_public(name: str, value: Any) -> None:
    if isinstance(value, str) and _PRIVATE.search(value):
        raise ConfigError(f"{name}: expected a name without path, address or token; provenance is published")
