"""Every error that the package raises.

::

    SA1BError
    ├── ConfigError (ValueError)             an option, or a combination of options, makes no sense
    ├── MissingShardsError (FileNotFoundError)  shards that a subset needs are not in the source
    ├── MissingExtraError (ImportError)      an optional dependency is not installed
    ├── LinksError (ValueError)              the links file cannot be understood
    │   └── LinkExpiredError (PermissionError)  a signed link is past its time
    ├── ShardError (OSError)                 reading a shard failed; knows shard, offset, reason
    │   ├── SourceError                      bytes cannot be had from disk, server or bucket
    │   │   └── SourceChangedError           the file is no longer the one that was begun
    │   ├── CompressionError                 the gzip stream is damaged or cut off
    │   └── TarError                         the tar structure is damaged, cut off or hostile
    └── RecordError (ValueError)             one image is unusable; its shard goes on
        ├── PairingError                     half of a pair is missing, or there twice
        ├── AnnotationError                  a JSON document is not what SA-1B's are
        ├── ImageError                       a JPEG is torn, or not as large as its JSON says
        └── RLEError                         a mask's run lengths are malformed

``reason`` is a short stable word (``"truncated"``, ``"duplicate"`` …): reports count by it.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AnnotationError",
    "CompressionError",
    "ConfigError",
    "ImageError",
    "LinkExpiredError",
    "LinksError",
    "MissingExtraError",
    "MissingShardsError",
    "PairingError",
    "RLEError",
    "RecordError",
    "SA1BError",
    "ShardError",
    "SourceChangedError",
    "SourceError",
    "TarError",
]


class SA1BError(Exception):
    """Base class of everything that `sa1b_hf` raises on purpose."""


class ConfigError(SA1BError, ValueError):
    """An option, or a combination of options, makes no sense."""


class MissingShardsError(SA1BError, FileNotFoundError):
    """Shards that were asked for are not in the source; the message lists them."""


class MissingExtraError(SA1BError, ImportError):
    """An optional dependency is not installed; the message has the line to type."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency: run  pip install 'sa1b_hf[{extra}]'")


class LinksError(SA1BError, ValueError):
    """A links file cannot be understood."""


class LinkExpiredError(LinksError, PermissionError):
    """A signed link is past its time."""


class _LocatedError(SA1BError):
    """An error at a place in a shard; survives pickling with its attributes."""

    def __init__(self, message: str, *, reason: str, shard: str | None = None, **where: Any) -> None:
        self.message = message
        self.reason = reason
        self.shard = shard
        self.where = where
        super().__init__(message)

    def __str__(self) -> str:
        """State the place first, so that a long log can be scanned."""
        return f"{self.shard}: {self.message}" if self.shard else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep keyword arguments through multiprocessing."""
        return _rebuild, (type(self), self.message, self.reason, self.shard, self.where)


def _rebuild(cls: type[_LocatedError], message: str, reason: str, shard: str | None, where: dict[str, Any]) -> Any:
    return cls(message, reason=reason, shard=shard, **where)


class ShardError(_LocatedError, OSError):
    """Reading a shard failed.

    Attributes
    ----------
    reason
        Short stable word, the key under which reports count this failure.
    shard
        Shard name such as ``sa_000020``, when known.
    where
        Further coordinates, for example ``offset`` (bytes into the uncompressed tar) or ``member``.
    """


class SourceError(ShardError):
    """Bytes cannot be had from disk, server or bucket."""


class SourceChangedError(SourceError):
    """The remote or local file is no longer the one that reading began with."""


class CompressionError(ShardError):
    """The gzip stream is damaged or cut off."""


class TarError(ShardError):
    """The tar structure is damaged, cut off or hostile."""


class RecordError(_LocatedError, ValueError):
    """One image or document is unusable; the rest of its shard is not affected.

    Attributes
    ----------
    reason
        Short stable word, the key under which reports count this failure.
    shard
        Shard name such as ``sa_000020``, when known.
    where
        Further coordinates, for example ``image_id``, ``member`` or ``annotation_id``.
    """


class PairingError(RecordError):
    """Half of a pair is missing, or there twice."""


class AnnotationError(RecordError):
    """A JSON document is not what SA-1B's documents are."""


class ImageError(RecordError):
    """A JPEG is torn, or not as large as its JSON says."""


class RLEError(RecordError):
    """A mask's run lengths are malformed; the message names the mask."""
