"""The words that masks are named with, and the sentences that they stand in."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sa1b_hf.errors import ConfigError

from ._coco import COCO_NAMES

__all__ = ["Vocabulary", "canonical_json", "sha256_of"]

_PRESETS: Mapping[str, Sequence[str]] = {"coco": COCO_NAMES}
_BACKGROUND = ("background", "texture", "surface")
_MAX_NAMES = 1_000_000


@dataclass(frozen=True)
class Vocabulary:
    """Names of classes; the label id of a class is its place among them.

    Attributes
    ----------
    names
        Of the classes, each once.
    synonyms
        Further words for some of them, by name. They share the label id of the name.
    templates
        Sentences with one ``{}`` for the word. A class is the average over its sentences.
    background
        Words for what has no class. A mask that one of them fits best is abstained from.

    Raises
    ------
    ConfigError
        There are no names, a name is empty or there twice, a synonym belongs to no name, a template has no ``{}``.

    Examples
    --------
    >>> words = Vocabulary(("cat", "traffic_light"), synonyms={"cat": ["kitten"]})
    >>> words.prompts(0)
    ('a photo of a cat.', 'a photo of a kitten.')
    >>> words.prompts(1)
    ('a photo of a traffic light.',)

    """

    names: tuple[str, ...]
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    templates: tuple[str, ...] = ("a photo of a {}.",)
    background: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("names", "templates", "background"):
            object.__setattr__(self, name, _words(name, getattr(self, name)))
        if not self.names:
            raise ConfigError("names: expected at least one class, found none; Vocabulary.preset('coco') has 80")
        if len(self.names) > _MAX_NAMES:
            raise ConfigError(f"names: expected at most {_MAX_NAMES}, found {len(self.names)}")
        both = [*self.names, *self.background]
        if len(set(both)) != len(both):
            twice = sorted({name for name in both if both.count(name) > 1})
            raise ConfigError(f"names, background: expected each word once, found {twice} more often")
        if not isinstance(self.synonyms, Mapping):
            raise ConfigError(f"synonyms: expected a mapping of lists, found {type(self.synonyms).__name__}")
        given = {name: _words(f"synonyms of {name!r}", words) for name, words in self.synonyms.items()}
        if unknown := sorted(set(given) - set(self.names)):
            raise ConfigError(f"synonyms: expected keys that are names, found {unknown}")
        object.__setattr__(self, "synonyms", {name: given[name] for name in self.names if given.get(name)})
        if bad := [template for template in self.templates if template.count("{}") != 1]:
            raise ConfigError(f"templates: expected one {{}} in each, found {bad}")
        if not self.templates:
            raise ConfigError("templates: expected at least one, found none; '{}' is the bare word")

    def __len__(self) -> int:
        return len(self.names)

    def __hash__(self) -> int:
        return hash(self.digest)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Vocabulary:
        """Give a vocabulary that comes with the package.

        Parameters
        ----------
        name
            ``"coco"``: the 80 things of COCO, with a few words for background.
        changes
            Attributes to set otherwise.

        Returns
        -------
        Vocabulary

        Raises
        ------
        ConfigError
            There is none of this name.

        """
        if name not in _PRESETS:
            raise ConfigError(f"vocabulary: expected a preset {sorted(_PRESETS)} or a file of names, found {name!r}")
        return cls(**{"names": tuple(_PRESETS[name]), "background": _BACKGROUND, **changes})

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **changes: Any) -> Vocabulary:
        """Read names from a file.

        Parameters
        ----------
        path
            Text, one class a line, synonyms after it behind commas, ``#`` begins a comment; or, named ``.json``, a
            list of names, an object with the attributes of this class, or annotations in COCO's or LVIS's format,
            whose ``categories`` are taken in the order of their ids.
        changes
            Attributes to set otherwise.

        Returns
        -------
        Vocabulary

        Raises
        ------
        ConfigError
            The file cannot be read, or its names cannot be used.

        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
            found = _parse_json(json.loads(text)) if path.suffix == ".json" else _parse_lines(text)
            return cls(**{**found, **changes})
        except ConfigError as error:
            raise ConfigError(f"vocabulary {path.name}: {error}") from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            expected = "expected lines of names, or JSON with names or categories"
            raise ConfigError(f"vocabulary {path.name}: {expected}, found {error!r:.200}") from error

    @property
    def digest(self) -> str:
        """SHA-256 of everything in it, as 64 hexadecimal digits."""
        return sha256_of(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Give its attributes as JSON can hold them."""
        synonyms = {name: list(words) for name, words in self.synonyms.items()}
        return {
            "names": list(self.names),
            "synonyms": synonyms,
            "templates": list(self.templates),
            "background": list(self.background),
        }

    def prompts(self, index: int) -> tuple[str, ...]:
        """Give the sentences of a class; those of background words follow those of the names."""
        word = (*self.names, *self.background)[index]
        words = (word, *self.synonyms.get(word, ()))
        # Lists such as LVIS write spaces as underscores.
        return tuple(template.format(one.replace("_", " ")) for one in words for template in self.templates)


def _words(name: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise ConfigError(f"{name}: expected a list of str, found {given!r:.80}")
    words = tuple(given)
    if bad := [word for word in words if not isinstance(word, str) or not word.strip()]:
        raise ConfigError(f"{name}: expected words, found {bad[0]!r:.80}")
    return words


def _parse_lines(text: str) -> dict[str, Any]:
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    rows = [[word.strip() for word in line.split(",") if word.strip()] for line in lines if line.strip(" ,")]
    return {"names": tuple(row[0] for row in rows), "synonyms": {row[0]: row[1:] for row in rows if row[1:]}}


def _parse_json(content: Any) -> dict[str, Any]:
    if isinstance(content, list):
        return {"names": tuple(content)}
    if "categories" not in content:
        return {name: content[name] for name in Vocabulary.__dataclass_fields__ if name in content}
    categories = sorted(content["categories"], key=lambda one: one["id"])
    synonyms = {one["name"]: [word for word in one.get("synonyms", ()) if word != one["name"]] for one in categories}
    return {"names": tuple(one["name"] for one in categories), "synonyms": synonyms}


def canonical_json(value: Any) -> str:
    """Give the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_of(value: Any) -> str:
    """Give the digest of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
