"""Several threads inflate exactly what one does, of whole streams and of damaged ones."""

from __future__ import annotations

import gzip
import random
import threading

import pytest
from support.incompressible import compress

from sa1b_hf import _parallel_inflate
from sa1b_hf._parallel_inflate import iter_inflated_parallel
from sa1b_hf.errors import CompressionError, ConfigError
from sa1b_hf.inflate import iter_inflated
from sa1b_hf.reader import ReadOptions, iter_batches
from sa1b_hf.testing import make_shard


@pytest.fixture(autouse=True)
def _small_spans(monkeypatch):
    monkeypatch.setattr(_parallel_inflate, "_SPAN", 1 << 18)
    monkeypatch.setattr(_parallel_inflate, "_MAX_OUTPUT", 1 << 20)
    monkeypatch.setattr(_parallel_inflate, "_WINDOW", 1 << 18)


def _content() -> bytes:
    """Stretches that compress, by little and by much, between stretches that do not."""
    rng = random.Random(0)
    pieces = []
    for _ in range(12):
        pieces += [rng.randbytes(rng.randrange(50_000, 300_000)), bytes(rng.choices(b"abcd \n", k=30_000))]
    return b"".join([*pieces[:8], bytes(5 << 20), *pieces[8:]])


CONTENT = _content()


def _inflate(inflate, data: bytes, *args) -> tuple[bytes, str | None]:
    out = []
    try:
        for piece in inflate((data[at : at + 100_000] for at in range(0, len(data), 100_000)), *args):
            out.append(piece)
    except CompressionError as error:
        return b"".join(out), error.reason
    return b"".join(out), None


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("how", ["gnu-1", "gnu-6", "zlib-0", "zlib-9", "zlib-ng-6", "isal-1", "members"])
def test_same_as_one(how, threads):
    """For every compressor the content comes out whole, and no thread is left behind."""
    assert _inflate(iter_inflated_parallel, compress(CONTENT, how), threads) == (CONTENT, None)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sa1b_hf-inflate")]


def test_guesses_are_used(monkeypatch):
    """Most of a stream is inflated ahead; a failing proof changes only the speed."""
    data = compress(CONTENT, "gnu-6")
    careful = []
    original = _parallel_inflate._inflate_carefully
    monkeypatch.setattr(
        _parallel_inflate,
        "_inflate_carefully",
        lambda walk, part: careful.append(sum(map(len, part))) or original(walk, part),
    )
    assert _inflate(iter_inflated_parallel, data, 2) == (CONTENT, None)
    assert sum(careful) < len(data) / 2
    monkeypatch.setattr(_parallel_inflate.GzipWalk, "is_at_stored", lambda self: False)
    careful.clear()
    assert _inflate(iter_inflated_parallel, data, 2) == (CONTENT, None)
    assert sum(careful) > len(data) / 2


@pytest.mark.parametrize("block", range(4))
def test_damage(block):
    """Whatever is wrong with a stream, the same bytes come out before the same kind of error."""
    clean = compress(CONTENT, "gnu-6")
    for trial in range(12):
        rng = random.Random(f"{block} {trial}")
        data = bytearray(clean)
        at = rng.randrange(20, len(data) - 8)
        if trial % 3 == 0:
            del data[at:]
        elif trial % 3 == 1:
            data[at] ^= 1 << rng.randrange(8)
        else:
            data[at : at + 3000] = rng.randbytes(3000)
        found, reason = _inflate(iter_inflated_parallel, bytes(data), 2)
        expected, expected_reason = _inflate(iter_inflated, bytes(data))
        assert reason == expected_reason
        assert found == expected


def test_gzip_within():
    """Gzip files and block headers in the content lead to guesses that are thrown away."""
    rng = random.Random(2)
    inner = gzip.compress(rng.randbytes(700_000), 1)
    content = rng.randbytes(300_000) + inner * 3 + rng.randbytes(200_000)
    for how in ("gnu-6", "zlib-0"):
        assert _inflate(iter_inflated_parallel, compress(content, how), 2) == (content, None)


def test_abandoned():
    """A reader that stops early leaves no thread behind."""
    data = compress(CONTENT, "gnu-6")
    pieces = iter_inflated_parallel(iter([data]), 2)
    next(pieces)
    pieces.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sa1b_hf-inflate")]


def test_reader(tmp_path):
    """The option changes no row."""
    manifest = make_shard(tmp_path / "sa_000000.tar", num_images=20)
    one = [batch.to_pylist() for batch in iter_batches(manifest.path, "sa_000000")]
    two = [batch.to_pylist() for batch in iter_batches(manifest.path, "sa_000000", ReadOptions(inflate_threads=2))]
    assert one == two
    with pytest.raises(ConfigError, match="inflate_threads"):
        ReadOptions(inflate_threads=0)
