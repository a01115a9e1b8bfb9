"""Fetching by the program aria2c, for those who have it; whether the result is right is decided by our own checks."""

from __future__ import annotations

import errno
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ._connections import Line
from ._disk import allocated, disk_problem
from ._halt import Halt, HaltedError
from ._remote import Remote
from ._resume import refused
from ._version import __version__
from .errors import ConfigError, SA1BError

__all__ = ["check_aria2c", "control_file", "run_aria2c"]

_PROGRAM: Final = "aria2c"
_POLL: Final = 0.2
_FAREWELL: Final = 10.0
_MAX_CONNECTIONS: Final = 16
_MAX_HEAD: Final = 256
_DISK_FULL: Final = 9
# Exit statuses in aria2c's manual after which going on makes sense.
_PASSING: Final = {
    2: "time-out",
    3: "not found",
    6: "network problem",
    7: "interrupted",
    19: "name not resolved",
    22: "refused",
    24: "not authorised",
    29: "server busy",
}


def check_aria2c() -> None:
    """Raise `ConfigError` if the program is not there."""
    if shutil.which(_PROGRAM) is None:
        raise ConfigError(
            "engine: 'aria2c' needs the program aria2c, which was not found; install it (apt install aria2, brew "
            "install aria2), or use the built-in engine"
        )


def control_file(part: Path) -> Path:
    """Give the place where aria2c notes which bytes of a file are there."""
    return part.with_name(f"{part.name}.aria2")


def run_aria2c(remote: Remote, part: Path, size: int, *, line: Line, halt: Halt) -> None:
    """Fetch a file, or go on with it.

    Parameters
    ----------
    remote
        Where from.
    part
        Where to; `control_file` of it belongs to it.
    size
        Bytes of the whole file.
    line
        How the bytes may arrive.
    halt
        Ends the work; a later run goes on.

    Raises
    ------
    ConfigError
        The address is none that aria2c can be trusted with.
    SourceError
        It cannot be had; ``reason="aria2c"`` where the server, asked once more, sees no problem.
    HaltedError
        It was called off.

    """
    if _noted_size(part) != size:
        # Nobody knows which bytes of the file are there, or they are of one that a server told a wrong length of.
        _discard(part)
    order = _order(remote, part)
    # Its output quotes signed URLs. A session of its own keeps Ctrl-C from it, which comes through `halt`.
    process = subprocess.Popen(  # noqa: S603 -- the addresses go through standard input
        [shutil.which(_PROGRAM) or _PROGRAM, *_arguments(line)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        status = _wait(process, order, _counter(part, line), halt)
    finally:
        _end(process)
    if halt.is_set():
        raise HaltedError
    if status:
        raise _problem(remote, part, status)


def _arguments(line: Line) -> list[str]:
    connections = min(line.connections, _MAX_CONNECTIONS)
    options = {
        "input-file": "-",
        "no-conf": "true",
        "no-netrc": "true",
        "quiet": "true",
        "continue": "true",
        "auto-file-renaming": "false",
        "file-allocation": "none",
        "auto-save-interval": "5",
        "follow-metalink": "false",
        "follow-torrent": "false",
        "split": connections,
        "max-connection-per-server": connections,
        "min-split-size": "1M",
        "max-tries": line.retries + 1,
        "retry-wait": "1",
        "timeout": max(int(line.timeout), 1),
        "connect-timeout": max(int(line.timeout), 1),
        "user-agent": f"sa1b_hf/{__version__}",
        # If we are killed, it would go on alone.
        "stop-with-process": os.getpid(),
    }
    if line.limit.share is not None:
        options["max-overall-download-limit"] = max(int(line.limit.share), 1)
    if authorities := os.environ.get("SSL_CERT_FILE"):
        options["ca-certificate"] = authorities
    return [f"--{name}={value}" for name, value in options.items()]


def _order(remote: Remote, part: Path) -> bytes:
    """Say what to fetch, in the form of an input file."""
    if not remote.is_http or remote.has_headers:
        raise ConfigError(
            f"engine: 'aria2c' is for http:// and https:// addresses without token or headers, which it would hand on "
            f"to wherever the server redirects; found {remote.location}: use the built-in engine"
        )
    address = remote.reveal()
    if re.search(r"[\x00-\x20\x7f]", address):
        raise ConfigError(f"engine: 'aria2c' takes no address with blanks, found {remote.location}")
    return f"{address}\n  dir={part.parent.resolve()}\n  out={part.name}\n".encode()


def _counter(part: Path, line: Line) -> Callable[[], None]:
    """Count the bytes that arrive by the blocks that the file takes on the disk."""
    before = allocated(part)

    def count() -> None:
        nonlocal before
        now = allocated(part)
        if now > before:
            line.on_bytes(now - before)
            before = now

    return count


def _wait(process: subprocess.Popen[bytes], order: bytes, count: Callable[[], None], halt: Halt) -> int | None:
    """Wait for the program's end, or for the halt; None in that case."""
    pending: bytes | None = order
    while not halt.is_set():
        try:
            process.communicate(pending, timeout=_POLL)
        except subprocess.TimeoutExpired:
            pending = None
            count()
        else:
            count()
            return process.returncode
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program, with time to note what is there."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _problem(remote: Remote, part: Path, status: int) -> SA1BError:
    if status == _DISK_FULL:
        return disk_problem(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), part)
    if status not in _PASSING:
        _discard(part)  # what it noted may be what it stumbles over
    remote.probe()  # which knows how to say what is wrong with a link
    message = f"aria2c ended with status {status} ({_PASSING.get(status, 'see its manual')}); run again, or use the "
    return refused(remote.location, f"{message}built-in engine", "aria2c")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    control_file(part).unlink(missing_ok=True)


def _noted_size(part: Path) -> int | None:
    """Read the length of the whole file off a control file; None if there is none that can be understood.

    Its first fields, in network order: version, 1 (2 bytes), flags (4), length of a hash (4), the hash, length of a
    piece (4), length of the file (8); see "Control file" in aria2's technical notes.
    """
    try:
        head = control_file(part).read_bytes()[:_MAX_HEAD]
        version, _, hash_length = struct.unpack_from(">HII", head)
        _, size = struct.unpack_from(">IQ", head, struct.calcsize(">HII") + hash_length)
    except (OSError, struct.error):
        return None
    return int(size) if version == 1 else None
