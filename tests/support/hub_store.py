"""What a stand-in Hub keeps: repositories, their commits, and the large files."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

ATTRIBUTES = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n*.png filter=lfs diff=lfs merge=lfs -text\n"


class ConflictError(Exception):
    """A commit's parent is not the head of the branch."""


class UnknownObjectError(Exception):
    """A commit names a large file that nobody uploaded."""


@dataclass(frozen=True)
class Entry:
    """A file of a commit: in git itself, or a pointer to a large file."""

    data: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        head = b"version https://git-lfs.github.com/spec/v1\n"
        return head + f"oid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @property
    def blob_id(self) -> str:
        blob = self.pointer if self.is_lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.blob_id

    def describe(self, path: str) -> dict[str, Any]:
        info: dict[str, Any] = {"type": "file", "oid": self.blob_id, "size": len(self.data), "path": path}
        if self.is_lfs:
            info["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": len(self.pointer)}
        return info


@dataclass(frozen=True)
class Commit:
    """A state of a repository."""

    oid: str
    title: str
    files: dict[str, Entry]
    parent: Commit | None = None

    date = "2024-01-01T00:00:00.000Z"

    def is_large(self, path: str, size: int) -> bool:
        """Tell whether the Hub wants a file as a large one: by ``.gitattributes`` or length."""
        attributes = self.files.get(".gitattributes", Entry(b"", is_lfs=False)).data.decode()
        patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
        name = path.rpartition("/")[2]
        return any(fnmatch.fnmatch(name, pattern) for pattern in patterns) or size > 10 << 20

    def listing(self, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """List files and folders below a folder."""
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        found: dict[str, dict[str, Any]] = {}
        for path, entry in sorted(self.files.items()):
            if not path.startswith(prefix):
                continue
            *folders, _ = path[len(prefix) :].split("/")
            for depth in range(1, len(folders) + 1) if recursive else range(1, min(len(folders), 1) + 1):
                name = prefix + "/".join(folders[:depth])
                found[name] = {"type": "directory", "oid": _digest(name), "size": 0, "path": name}
            if recursive or not folders:
                found[path] = entry.describe(path)
        return list(found.values())

    def describe_paths(self, paths: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Describe those of some paths that are there."""
        for path in paths:
            if path in self.files:
                yield self.files[path].describe(path)
            elif any(name.startswith(f"{path.rstrip('/')}/") for name in self.files):
                yield {"type": "directory", "oid": _digest(path), "size": 0, "path": path}


@dataclass
class Repository:
    """A repository with its branches."""

    private: bool = False
    gated: bool = False
    branches: dict[str, Commit] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add("main", "initial commit", {".gitattributes": Entry(ATTRIBUTES, is_lfs=False)})

    def at(self, revision: str) -> Commit | None:
        return self.branches.get(revision) or self.commits.get(revision)

    def add(self, branch: str, title: str, files: dict[str, Entry]) -> Commit:
        """Put a commit on a branch."""
        parent = self.branches.get(branch)
        names = sorted((path, entry.blob_id) for path, entry in files.items())
        oid = _digest(f"{parent.oid if parent else ''} {title} {names} {len(self.commits)}")
        commit = Commit(oid, title, files, parent)
        self.branches[branch] = self.commits[oid] = commit
        return commit

    def history(self, revision: str) -> list[Commit]:
        """Commits of a branch, the newest first."""
        found, commit = [], self.at(revision)
        while commit:
            found.append(commit)
            commit = commit.parent
        return found


class Store:
    """All repositories, and the large files by their SHA-256."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.clear()

    def clear(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.pieces: dict[tuple[str, int], bytes] = {}
        self.uploads: list[str] = []

    def put(self, oid: str, data: bytes) -> bool:
        """Take a large file, if it is what its name says; count it as uploaded."""
        if hashlib.sha256(data).hexdigest() != oid:
            return False
        with self.lock:
            self.uploads.append(oid)
            self.blobs[oid] = data
        return True

    def join(self, oid: str, count: int) -> bool:
        """Make a large file of its pieces."""
        return self.put(oid, b"".join(self.pieces.pop((oid, number)) for number in range(count)))

    def commit(self, repository: Repository, branch: str, payload: bytes) -> Commit:
        """Apply a commit as the Hub's API takes it: a line of JSON for the header and for each operation."""
        with self.lock:
            head = repository.branches[branch]
            files, title = dict(head.files), ""
            for line in payload.splitlines():
                item = json.loads(line)
                value = item["value"]
                if item["key"] == "header":
                    title = value["summary"]
                    if value.get("parentCommit") not in {None, head.oid}:
                        raise ConflictError
                elif item["key"] == "file":
                    files[value["path"]] = Entry(base64.b64decode(value["content"]), is_lfs=False)
                elif item["key"] == "lfsFile":
                    if value["oid"] not in self.blobs:
                        raise UnknownObjectError
                    files[value["path"]] = Entry(self.blobs[value["oid"]], is_lfs=True)
                elif item["key"] == "deletedFile":
                    del files[value["path"]]
                elif item["key"] == "deletedFolder":
                    files = {path: entry for path, entry in files.items() if not path.startswith(value["path"])}
            return repository.add(branch, title, files)


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()
