"""gzip on the fly: one engine switch, every member's CRC checked, and nothing good lost before damage."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from .errors import CompressionError, ConfigError

__all__ = ["CHECKPOINT", "ENGINES", "GZIP_MAGIC", "Chunk", "iter_inflated", "resolve_engine"]

GZIP_MAGIC: Final = b"\x1f\x8b"
Chunk: TypeAlias = bytes | bytearray
ENGINES: Final = ("zlib-ng", "isal", "zlib")
_MODULES: Final = {"zlib-ng": "zlib_ng.zlib_ng", "isal": "isal.isal_zlib", "zlib": "zlib"}

_GZIP_WBITS: Final = 31  # RFC 1952 framing: the engine itself checks CRC32 and length
_MAX_OUTPUT: Final = 4 << 20  # bounds what one call may produce, whatever a bomb would like
CHECKPOINT: Final = 1 << 20
"""Compressed bytes between two copies of the engine's state; the chunks since then are kept, and should fit a cache."""

_REPLAY_STEPS: Final = (4096, 64, 1)


def resolve_engine(name: str = "auto") -> tuple[str, Any]:
    """Find the module that inflates.

    Parameters
    ----------
    name
        ``"zlib-ng"``, ``"isal"``, ``"zlib"``, or ``"auto"`` for the first of these that is installed.

    Returns
    -------
    tuple of str and module
        The engine's name, and a module with zlib's ``decompressobj``.

    Raises
    ------
    ConfigError
        The engine is unknown, or named explicitly and not installed.

    """
    if name != "auto" and name not in ENGINES:
        raise ConfigError(f"engine: expected 'auto' or one of {list(ENGINES)}, found {name!r}")
    for candidate in ENGINES if name == "auto" else (name,):
        try:
            return candidate, importlib.import_module(_MODULES[candidate])
        except ImportError:
            continue
    raise ConfigError(f"engine: {name!r} is not installed; run  pip install {name}, or use engine='auto'")


def iter_inflated(chunks: Iterator[Chunk], *, engine: str = "auto", shard: str | None = None) -> Iterator[bytes]:
    """Inflate a gzip stream of one or more members.

    Parameters
    ----------
    chunks
        The compressed stream in order, in non-empty pieces of any size (256 KiB is good).
    engine
        See `resolve_engine`.
    shard
        Name for error messages.

    Yields
    ------
    bytes
        Uncompressed data, at most 4 MiB at a time, never empty.

    Raises
    ------
    CompressionError
        ``reason`` is ``"gzip-truncated"``, ``"gzip-data"`` (the stream is damaged), ``"gzip-crc"`` (checksum or length
        differ) or ``"gzip-trailing-data"``. Everything that could be inflated before the damage has been yielded.

    """
    module = resolve_engine(engine)[1]
    feed = _Feed(chunks)
    first = True
    while feed.skip_padding():
        if not feed.starts_with(GZIP_MAGIC):
            raise _error("gzip-truncated" if first else "gzip-trailing-data", shard, feed.position)
        yield from _inflate_member(module, feed, shard)
        first = False
    if first:
        raise _error("gzip-truncated", shard, feed.position)


class _Feed:
    """The compressed chunks, with push-back and a position."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._pending: Chunk = b""
        self._pulled = 0

    @property
    def position(self) -> int:
        return self._pulled - len(self._pending)

    def pull(self) -> Chunk:
        """Give the next bytes, empty at the end."""
        if data := self._pending:
            self._pending = b""
            return data
        data = next(self._chunks, b"")
        self._pulled += len(data)
        return data

    def push_back(self, data: Chunk) -> None:
        self._pending = data

    def skip_padding(self) -> bool:
        """Drop zero bytes, legal around members; True if anything follows."""
        while data := self.pull():
            if rest := data.lstrip(b"\0"):
                self.push_back(rest)
                return True
        return False

    def starts_with(self, magic: bytes) -> bool:
        head = self.pull()
        while len(head) < len(magic) and (more := self.pull()):
            head = bytes(head) + more
        self.push_back(head)
        return head.startswith(magic)


class _Checkpoint:
    """The engine's state some megabytes ago, and what was fed since: the way back to the byte before damage."""

    def __init__(self, decoder: Any) -> None:
        # An engine whose state cannot be copied loses at most the output of one chunk before damage.
        self._state = decoder.copy() if hasattr(decoder, "copy") else None
        self._fed: list[Chunk] = []
        self._size = 0
        self.produced = 0

    def add(self, data: Chunk) -> None:
        self._fed.append(data)
        self._size += len(data)

    @property
    def is_due(self) -> bool:
        return self._size >= CHECKPOINT

    def salvage(self, error: type[Exception]) -> Iterator[bytes]:
        """Inflate again in ever smaller steps and give what the failing call kept for itself."""
        if self._state is None:
            return
        skip = self.produced
        decoder, data = self._state, b"".join(self._fed)
        for step in _REPLAY_STEPS:
            while data:
                before = decoder.copy()
                try:
                    out = decoder.decompress(data[:step])
                except error:
                    decoder, data = before, data[:step]
                    break
                data = data[step:]
                if len(out) > skip:
                    yield out[skip:]
                skip = max(0, skip - len(out))


def _inflate_member(module: Any, feed: _Feed, shard: str | None) -> Iterator[bytes]:
    decoder = module.decompressobj(_GZIP_WBITS)
    checkpoint = _Checkpoint(decoder)
    while not decoder.eof:
        data = feed.pull()
        if not data:
            raise _error("gzip-truncated", shard, feed.position)
        if checkpoint.is_due:
            checkpoint = _Checkpoint(decoder)
        checkpoint.add(data)
        while data and not decoder.eof:
            try:
                out = decoder.decompress(data, _MAX_OUTPUT)
            except module.error as error:
                yield from checkpoint.salvage(module.error)
                reason = "gzip-crc" if "check" in str(error) and "header" not in str(error) else "gzip-data"
                raise _error(reason, shard, feed.position, str(error)) from None
            if out:
                checkpoint.produced += len(out)
                yield out
            data = decoder.unconsumed_tail
    feed.push_back(decoder.unused_data)


_EXPLANATIONS: Final = {
    "gzip-truncated": "the gzip stream ends before its trailer: the file is incomplete",
    "gzip-data": "the gzip stream is damaged",
    "gzip-crc": "the gzip checksum does not match what was inflated: some bytes of this shard are wrong",
    "gzip-trailing-data": "after the gzip trailer comes something that is not gzip",
}


def _error(reason: str, shard: str | None, position: int, detail: str = "") -> CompressionError:
    message = f"{_EXPLANATIONS[reason]} (near compressed byte {position:,}{'; ' + detail if detail else ''})"
    return CompressionError(
        f"{message}; compare its MD5 with the catalogue and download it again",
        reason=reason,
        shard=shard,
        compressed_offset=position,
    )
