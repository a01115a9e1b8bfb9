"""gzip streams of every kind inflate exactly, and damaged ones give all that stands before the damage."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from sa1b_hf.errors import CompressionError, ConfigError
from sa1b_hf.inflate import ENGINES, iter_inflated, resolve_engine


def _pieces(data: bytes, size: int = 1 << 14):
    return (data[at : at + size] for at in range(0, len(data), size))


def _content(size: int, seed: int = 0) -> bytes:
    """Half incompressible, half compressible, as shards are."""
    rng = random.Random(seed)
    return b"".join(rng.randbytes(4096) + bytes(rng.choices(b"abc ", k=1024)) for _ in range(size // 5120))


def _inflate_all(data: bytes, engine: str = "auto", size: int = 1 << 14) -> tuple[bytes, CompressionError | None]:
    out = []
    try:
        for piece in iter_inflated(_pieces(data, size), engine=engine, shard="sa_000007"):
            out.append(piece)
    except CompressionError as error:
        return b"".join(out), error
    return b"".join(out), None


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_whole_stream(engine, size, level):
    """Every engine gives the content back, whatever the pieces and the level."""
    content = _content(60_000)
    assert _inflate_all(gzip.compress(content, level), engine, size) == (content, None)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("padding", [b"", bytes(700)])
def test_several_members(engine, padding):
    """Members one after the other, with or without zero padding, are one stream."""
    content = _content(60_000)
    data = b"".join(gzip.compress(content[at : at + 7000]) + padding for at in range(0, len(content), 7000))
    assert _inflate_all(data, engine, 1000) == (content, None)


@pytest.mark.parametrize("keep", [0, 1, 9, 18, 5000, -9, -8, -1])
def test_truncated(keep):
    """A cut anywhere is an error, and what came before is delivered."""
    content = _content(60_000)
    data = gzip.compress(content)
    found, error = _inflate_all(data[:keep])
    assert error is not None
    assert error.reason == "gzip-truncated"
    assert content.startswith(found)
    if keep < 0:
        assert found == content


@pytest.mark.parametrize("engine", ["zlib-ng", "zlib"])
def test_nothing_before_the_damage_is_lost(engine):
    """The bytes inflated before an invalid block come out although their chunk failed."""
    content = _content(400_000)
    compressor = zlib.compressobj(6, wbits=31)
    head = compressor.compress(content) + compressor.flush(zlib.Z_FULL_FLUSH)
    damaged = head + b"\x07" + bytes(100_000)  # block type 3 does not exist
    found, error = _inflate_all(damaged, engine, 1 << 18)
    assert error is not None
    assert error.reason == "gzip-data"
    assert found == content


@pytest.mark.parametrize("engine", ["zlib-ng", "zlib"])
@pytest.mark.parametrize("field", [-8, -4])
def test_wrong_trailer(engine, field):
    """A wrong checksum or length is an error after all data."""
    content = _content(60_000)
    data = bytearray(gzip.compress(content))
    data[field] ^= 1
    found, error = _inflate_all(bytes(data), engine, 1 << 20)
    assert error is not None
    assert error.reason == "gzip-crc"
    assert found == content


def test_trailing_data():
    """What follows the trailer and is not gzip is an error after all data."""
    content = _content(60_000)
    found, error = _inflate_all(gzip.compress(content) + b"<html>")
    assert error is not None
    assert error.reason == "gzip-trailing-data"
    assert found == content
    assert "sa_000007" in str(error)
    assert "download it again" in str(error)


@pytest.mark.parametrize("engine", ENGINES)
def test_bomb_comes_in_small_pieces(engine):
    """A thousandfold inflation is handed out 4 MiB at a time."""
    bomb = gzip.compress(bytes(64 << 20), 9)
    sizes = [len(piece) for piece in iter_inflated(iter([bomb]), engine=engine)]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 4 << 20


def test_engines():
    """Auto prefers zlib-ng; unknown names are refused with the list of known ones."""
    assert resolve_engine()[0] == "zlib-ng"
    with pytest.raises(ConfigError, match="zlib-ng"):
        resolve_engine("lzma")
