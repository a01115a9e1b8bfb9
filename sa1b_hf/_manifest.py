"""What a conversion leaves behind about each shard, so that a rerun knows what is done and what changed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ._parts import Part
from ._receipt import Places, read_receipt
from .errors import ConfigError
from .reports import PassReport
from .sources import ShardSource
from .transport import local_path, open_raw

__all__ = ["Input", "Manifest", "OutPlaces", "read_input", "read_manifest", "read_manifests"]

_VERSION: Final = 1
_FOLDER: Final = "manifests"

Input = Mapping[str, Any]
"""What tells a shard's file from others: size, and as far as known md5, mtime_ns, etag …"""


@dataclass(frozen=True)
class Manifest:
    """What became of one shard.

    Attributes
    ----------
    shard
        Name, such as ``sa_000016``.
    input
        Identity of its file: ``size``, and as far as known ``md5``, ``mtime_ns``, ``etag`` …
    config
        The options, in values that JSON has.
    fingerprint
        Of `config`, hexadecimal.
    parts
        What was written.
    report
        What was delivered, filtered, skipped and found broken.

    """

    shard: str
    input: Input
    config: Mapping[str, Any]
    fingerprint: str
    parts: tuple[Part, ...]
    report: PassReport

    def is_of(self, source: Input, fingerprint: str) -> bool:
        """Tell whether it is about this file and these options."""
        return self.fingerprint == fingerprint and _is_same(self.input, source)

    def is_there(self, out: Path) -> bool:
        """Tell whether all parts are where they were put, as long as they were."""
        return all(_fits(out / part.path, part.size) for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, ready for JSON."""
        values = {name: getattr(self, name) for name in ("shard", "input", "config", "fingerprint")}
        parts = [asdict(part) for part in self.parts]
        return {"version": _VERSION, **values, "parts": parts, "report": self.report.to_dict()}

    def to_json(self) -> str:
        """Give the text of its file."""
        return json.dumps(self.to_dict(), indent=1) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """Give back what `to_dict` gave."""
        plain = {name: values[name] for name in ("shard", "input", "config", "fingerprint")}
        parts = tuple(Part(**part) for part in values["parts"])
        return cls(**plain, parts=parts, report=PassReport.from_dict(values["report"]))


@dataclass(frozen=True)
class OutPlaces:
    """Where the files of one shard's conversion are.

    Attributes
    ----------
    out
        Folder of the conversion.
    shard
        Name.

    """

    out: Path
    shard: str

    @property
    def hidden(self) -> Path:
        """Folder of everything unfinished."""
        return self.out / ".sa1b"

    @property
    def drafts(self) -> Path:
        """Parts that are being written."""
        return self.hidden / self.shard

    @property
    def lock(self) -> Path:
        """See `sa1b_hf._lock`."""
        return self.hidden / f"{self.shard}.convert.lock"

    @property
    def plan(self) -> Path:
        """List of the parts that may lie around while no manifest says so."""
        return self.hidden / f"{self.shard}.plan.json"

    @property
    def manifest(self) -> Path:
        """See `Manifest`."""
        return self.out / _FOLDER / f"{self.shard}.json"


def read_manifest(path: Path) -> Manifest | None:
    """Read a manifest; None if there is none that can be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Manifest.from_dict(values) if values["version"] == _VERSION else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_manifests(folder: str | os.PathLike[str]) -> list[Manifest]:
    """Read what a conversion wrote.

    Parameters
    ----------
    folder
        Where `sa1b_hf.convert` wrote to.

    Returns
    -------
    list of Manifest
        One for each shard that is complete, by name.

    Raises
    ------
    ConfigError
        The folder has none, or one that cannot be read.

    """
    paths = sorted((Path(folder) / _FOLDER).glob("*.json"))
    found = {path: read_manifest(path) for path in paths}
    if unreadable := [path.name for path, manifest in found.items() if manifest is None]:
        advice = "delete them and convert these shards again"
        raise ConfigError(f"{folder}: expected manifests of version {_VERSION}, found others: {unreadable}; {advice}")
    if not found:
        raise ConfigError(f"{folder}: expected a converted folder with {_FOLDER}/, found none; run sa1b convert first")
    return [manifest for manifest in found.values() if manifest is not None]


def read_input(source: ShardSource, storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Find out what tells a shard's file from others, without reading it.

    Raises
    ------
    MissingShardsError, SourceError
        It is not there, or cannot be had.

    """
    path = local_path(source.location)
    if path is None:
        return _read_remote(source, storage_options)
    with open_raw(source.location):
        stat = path.stat()
    found: dict[str, Any] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    receipt = read_receipt(Places(path.parent, source.name).receipt)
    if receipt and receipt.md5 and path.name == f"{source.name}.tar" and receipt.fits(path):
        found["md5"] = receipt.md5
    return found


def _read_remote(source: ShardSource, storage_options: Mapping[str, Any] | None) -> dict[str, Any]:
    with open_raw(source.location, storage_options=storage_options) as raw:
        raw.readinto(bytearray(1))  # now the server has told
        identity = getattr(raw, "identity", {})
        if not isinstance(identity, Mapping):
            identity = dict(zip(("size", "etag", "last_modified"), identity, strict=True))
        known = {key: value for key, value in identity.items() if value is not None}
        return {**known, "size": raw.size}


def _is_same(one: Input, other: Input) -> bool:
    if one.get("size") != other.get("size"):
        return False
    if "md5" in one and "md5" in other:
        return bool(one["md5"] == other["md5"])
    return all(one[key] == other[key] for key in one.keys() & other.keys())


def _fits(path: Path, size: int) -> bool:
    try:
        return path.is_dir() or path.stat().st_size == size
    except OSError:
        return False
