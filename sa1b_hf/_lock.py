"""One process at a time per shard: `flock` where the file system has it, a file with the owner's name where not."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from pathlib import Path
from types import TracebackType

from ._disk import disk_problem
from ._halt import Halt
from .errors import SourceError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["ShardLock"]

_LOG = logging.getLogger("sa1b_hf.download")
_POLL = 0.5
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK})


class ShardLock:
    """Held while a shard is being worked on; entering waits for another process that has it.

    Parameters
    ----------
    path
        Lock file, beside which ``<path>.owner`` is used without `flock`.
    halt
        Ends the wait.
    doing
        What its holder does, for messages.

    Raises
    ------
    SourceError
        On entering: ``reason="locked"``, a process of another machine holds it and nothing tells whether it lives.

    """

    def __init__(self, path: Path, halt: Halt, doing: str = "downloads") -> None:
        self._path = path
        self._owner = path.with_name(f"{path.name}.owner")
        self._halt = halt
        self._doing = doing
        self._fd = -1
        self._owns = False

    def __enter__(self) -> ShardLock:
        waiting = False
        while not self._try():
            if not waiting:
                _LOG.warning("%s: another process %s this shard; waiting for it", self._path, self._doing)
            waiting = True
            self._halt.sleep(_POLL)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The files stay: unlinking a lock that another process is about to take would give two of them the shard.
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._owns:
            self._owner.unlink(missing_ok=True)
            self._owns = False

    def _try(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise disk_problem(error, self._path) from None
        try:
            _flock(self._fd)
        except OSError as error:
            os.close(self._fd)
            self._fd = -1
            return False if error.errno in _TAKEN else self._try_owner()
        return True

    def _try_owner(self) -> bool:
        """Create the owner's file; take it over from a process of this machine that is no more."""
        me = f"{socket.gethostname()} {os.getpid()}"
        try:
            with self._owner.open("x", encoding="utf-8") as file:
                file.write(me)
        except FileExistsError:
            self._check_owner()
            return False
        except OSError as error:
            raise disk_problem(error, self._owner) from None
        self._owns = True
        return True

    def _check_owner(self) -> None:
        try:
            host, _, pid = self._owner.read_text(encoding="utf-8").partition(" ")
        except OSError:
            return  # gone again
        if host and host != socket.gethostname():
            raise SourceError(
                f"{self._owner}: process {pid} on {host} {self._doing} this shard, and the file system has no locks "
                "that would tell whether it still runs; if it does not, delete this file and run again",
                reason="locked",
            )
        if pid.isdigit() and int(pid) != os.getpid() and not _is_alive(int(pid)):
            with contextlib.suppress(OSError):
                self._owner.unlink()


def _flock(fd: int) -> None:
    if fcntl is None:
        raise OSError(errno.ENOSYS, "no flock on this system")
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end it; a stale file is deleted by hand, as the message of a foreign one says
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
