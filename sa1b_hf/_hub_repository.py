"""One dataset repository on the Hub, as a push sees it: who can read it, what is in it, and commits that hold."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from ._hub_trouble import persist
from .errors import ConfigError

__all__ = ["HubRepository", "LocalFile", "RemoteFile"]

_TYPE: Final = "dataset"


@dataclass(frozen=True)
class LocalFile:
    """A file to be pushed.

    Attributes
    ----------
    path
        In the repository, with slashes.
    content
        Bytes, or where they are.
    sha256, size
        Of the bytes; hexadecimal.

    """

    path: str
    content: Path | bytes = field(repr=False)
    sha256: str
    size: int

    @classmethod
    def of_bytes(cls, path: str, content: bytes) -> LocalFile:
        """Describe a small file."""
        return cls(path, content, hashlib.sha256(content).hexdigest(), len(content))

    def is_same(self, remote: RemoteFile | None) -> bool:
        """Tell whether a file of the repository has the same bytes."""
        if remote is None or remote.size != self.size:
            return False
        return remote.digest == (self.sha256 if remote.is_large else self._blob_id())

    def _blob_id(self) -> str:
        """Name the content as git does; only small files are in git itself."""
        data = self.content if isinstance(self.content, bytes) else self.content.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class RemoteFile:
    """A file of the repository: ``digest`` is the SHA-256 of a large file, and git's blob id of another one."""

    digest: str
    size: int
    is_large: bool


def _nothing(there: Mapping[str, RemoteFile]) -> Sequence[str]:  # noqa: ARG001
    return ()


class HubRepository:
    """A dataset repository.

    Parameters
    ----------
    api
        Client, with endpoint and token.
    repo
        ``"user/name"``.
    revision
        Branch, made if it is not there; the default branch if None.
    public
        Whether the repository may be one that everybody reads.

    Attributes
    ----------
    is_private
        As last seen; before, as it would be made.
    uploaded
        Files that were put in by commits.
    removed
        Paths that were removed.

    """

    def __init__(self, api: HfApi, repo: str, *, revision: str | None = None, public: bool = False) -> None:
        self._api = api
        self._repo = repo
        self._revision = revision
        self._public = public
        self._trees: dict[str, dict[str, RemoteFile]] = {}
        self.is_private = not public
        self.uploaded: list[LocalFile] = []
        self.removed: list[str] = []

    def head(self) -> str | None:
        """Give the newest commit, having made sure that those who can read it may; None if there is none.

        Raises
        ------
        ConfigError
            Everybody can read the repository, and ``public`` is False.

        """
        info = persist(self._find, "asking for the repository", self._repo)
        if info is None:
            return None
        self.is_private = bool(info.private)
        if not self.is_private and not self._public:
            raise ConfigError(
                f"{self._repo}: expected a private repository, found one that everybody can read; push to another one, "
                "make it private in its settings, or say that you want it with public=True (--public)"
            )
        return info.sha if info.sha is None else str(info.sha)

    def open(self) -> str:
        """Make the repository and the branch if they are not there; give the newest commit."""
        head = self.head()
        if head is None:
            persist(self._create, "making the repository", self._repo)
            head = self.head()
        if head is None:
            raise ConfigError(f"{self._repo}: expected the repository that was just made, found none; try again")
        return head

    def files(self, head: str) -> Mapping[str, RemoteFile]:
        """List the files of a commit."""
        if head not in self._trees:
            found = persist(lambda: self._list(head), "listing the files", self._repo)
            self._trees = {head: found}
        return self._trees[head]

    def forget(self) -> None:
        """List anew at the next occasion, whatever was committed before."""
        self._trees = {}

    def read(self, path: str, head: str) -> bytes:
        """Give the content of a small file."""

        def download() -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                place = self._api.hf_hub_download(self._repo, path, repo_type=_TYPE, revision=head, local_dir=folder)
                return Path(place).read_bytes()

        return persist(download, f"reading {path}", self._repo)

    def commit(
        self,
        title: str,
        files: Sequence[LocalFile],
        stale: Callable[[Mapping[str, RemoteFile]], Sequence[str]] = _nothing,
    ) -> None:
        """Commit what is missing, on top of what others may have committed meanwhile.

        Parameters
        ----------
        title
            Of the commit.
        files
            To be there; those that are there already are left out.
        stale
            Given what is there, says which paths are to be removed.

        Notes
        -----
        If the answer to a commit is lost, the next attempt finds its files there and has nothing left to do.

        """
        operations: dict[str, CommitOperationAdd] = {}

        def attempt() -> None:
            head = self.open()
            there = self.files(head)
            add = [file for file in files if not file.is_same(there.get(file.path))]
            remove = stale(there)
            for file in add:
                operations.setdefault(file.path, _operation(file))
            if add or remove:
                done = self._commit(title, head, [operations[file.path] for file in add], remove)
                kept = {path: file for path, file in there.items() if path not in remove}
                new = {file.path: RemoteFile(file.sha256, file.size, is_large=True) for file in add}
                self._trees = {done: {**kept, **new}}  # saves a listing before the next commit
            self.uploaded += [file for file in files if file.path in operations]
            self.removed += remove

        persist(attempt, "committing", self._repo)

    def _commit(self, title: str, head: str, add: Sequence[CommitOperationAdd], remove: Sequence[str]) -> str:
        done = self._api.create_commit(
            self._repo,
            [*add, *(CommitOperationDelete(path, is_folder=False) for path in remove)],
            commit_message=title,
            repo_type=_TYPE,
            revision=self._revision,
            parent_commit=head,
        )
        return str(done.oid)

    def _find(self) -> Any:
        try:
            return self._api.repo_info(self._repo, repo_type=_TYPE, revision=self._revision)
        except RevisionNotFoundError:
            # who can read it does not depend on the branch
            info = self._api.repo_info(self._repo, repo_type=_TYPE)
            info.sha = None
            return info
        except RepositoryNotFoundError as error:
            if getattr(error.response, "status_code", None) == 404:  # noqa: PLR2004 -- 401 is no answer to the question
                return None
            raise
        except HFValidationError as error:
            raise ConfigError(f"repo_id: expected a name that the Hub takes, found {self._repo!r}: {error}") from None

    def _create(self) -> None:
        self._api.create_repo(self._repo, repo_type=_TYPE, private=not self._public, exist_ok=True)
        if self._revision is not None:
            self._api.create_branch(self._repo, repo_type=_TYPE, branch=self._revision, exist_ok=True)

    def _list(self, head: str) -> dict[str, RemoteFile]:
        tree = self._api.list_repo_tree(self._repo, repo_type=_TYPE, revision=head, recursive=True)
        return {item.path: _remote(item) for item in tree if hasattr(item, "blob_id")}


def _remote(item: Any) -> RemoteFile:
    large = item.lfs
    return RemoteFile(large.sha256 if large else item.blob_id, item.size, large is not None)


def _operation(file: LocalFile) -> CommitOperationAdd:
    operation = CommitOperationAdd(file.path, file.content)
    # known already: the client need not read the file only to hash it once more
    operation.upload_info.sha256 = bytes.fromhex(file.sha256)
    return operation
