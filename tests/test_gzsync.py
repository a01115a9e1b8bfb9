"""Parts of a shard, read on their own, are together exactly the shard; what cannot be certain is read in one part."""

from __future__ import annotations

import gzip
import random
import struct
import tarfile
import zlib

import pytest
from support.incompressible import COMPRESSORS, compress, jpeg, make_members, make_tar

from sa1b_hf._crc import crc32_combine
from sa1b_hf._deflate import stands_at_stored, start_at_stored
from sa1b_hf._gzip_walk import Checksums, GzipWalk, Point
from sa1b_hf._part_cursor import PartCursor, iter_part_members, open_between
from sa1b_hf._random_bytes import RandomBytes
from sa1b_hf.errors import CompressionError, ConfigError, ShardError
from sa1b_hf.gzsync import START, Joint, find_between, find_part
from sa1b_hf.source import open_shard
from sa1b_hf.tar import Member, iter_members

PARTS = (2, 3, 4, 8, 16, 64)
LOOKBACK = 1 << 20


def _read(cursor, members):
    with cursor:
        return [(member.name, member.read()) for member in members if isinstance(member, Member)]


def _read_whole(path):
    cursor = open_shard(path)
    return _read(cursor, iter_members(cursor))


def open_part(path, index, of, **options):
    data = RandomBytes(path)
    begin, end = find_part(data, index, of, **options)
    return begin and open_between(data, begin, end)


def _read_parts(path, of, **options):
    """Members of each part, and the parts' checksums."""
    parts, sums = [], []
    for index in range(of):
        cursor = open_part(path, index, of, **options)
        parts.append([] if cursor is None else _read(cursor, iter_part_members(cursor)))
        sums += [] if cursor is None else [cursor.checksums]
    return parts, sums


def _check_parts(path, of, *, is_gzip=True, **options) -> int:
    """Compare all parts with the sequential read; give the number of parts with members."""
    parts, sums = _read_parts(path, of, **options)
    assert [member for part in parts for member in part] == _read_whole(path)
    assert not is_gzip or Checksums.agree(sums)
    return sum(map(bool, parts))


@pytest.fixture(scope="module")
def tar():
    return make_tar(make_members(16))


@pytest.mark.parametrize("how", COMPRESSORS)
def test_parts_are_the_whole(tmp_path, tar, how):
    """For every compressor and number of parts, the parts in order are the sequential read, and its checksum holds."""
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(tar, how))
    for of in PARTS:
        assert _check_parts(path, of, is_gzip=how != "none", lookback=LOOKBACK) >= (1 if "isal" in how else 2)


@pytest.mark.parametrize("lookback", [1 << 17, 1 << 19, 1 << 30])
def test_lookback_changes_no_result(tmp_path, tar, lookback):
    """From wherever a joint is approached, the parts are the same members."""
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(tar, "gnu-6"))
    for of in (3, 16):
        assert _check_parts(path, of, lookback=lookback) > of // 2


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("how", ["gnu-6", "none"])
def test_extended_headers_stay_with_their_member(tmp_path, tar_format, how):
    """A part never begins between a pax header and the member that it describes."""
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(make_tar(make_members(20, least=3000, most=90_000), tar_format), how))
    for of in PARTS:
        _check_parts(path, of, is_gzip=how != "none", lookback=LOOKBACK)


def _fake_blocks() -> bytes:
    """What looks like stored blocks, over and over."""
    return b"".join(
        struct.pack("<HH", size, size ^ 0xFFFF) + random.Random(size).randbytes(size) + b"\0"
        for size in (32768, 33000, 5000, 40000)
    )


def _inner(kind: str) -> list[bytes]:
    tar = make_tar(make_members(3, seed=5, least=8000, most=20_000, first_id=900))
    noise = random.Random(1).randbytes(150_000)
    return {
        "stored-blocks": [_fake_blocks()],
        "gzip": [gzip.compress(noise, level) for level in (0, 1, 6)],
        "tar": [bytes(7) + tar, bytes(200) + tar],
        "tar.gz": [gzip.compress(tar, 0), gzip.compress(tar, 6)],
        "zeros": [bytes(600_000)],
        "text": [b"the same again and again " * 20_000],
    }[kind]


@pytest.mark.parametrize("how", ["gnu-6", "zlib-0", "members", "none"])
@pytest.mark.parametrize("kind", ["stored-blocks", "gzip", "tar", "tar.gz", "zeros", "text"])
def test_content_that_looks_like_structure(tmp_path, kind, how):
    """Images that hold block headers, gzip files or whole shards, or nothing that is stored, are never misread."""
    members = make_members(9, seed=2, least=30_000, most=120_000, inner=_inner(kind))
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(make_tar(members), how))
    for of in (2, 16):
        _check_parts(path, of, is_gzip=how != "none", lookback=LOOKBACK)


def test_nothing_stored_means_one_part(tmp_path):
    """A shard that compresses throughout has no joints, and is read in one part."""
    members = [(f"./sa_{number}.json", b'{"annotations": [1, 2, 3]}' * 20_000) for number in range(1, 6)]
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(make_tar(members), "gnu-6"))
    assert _check_parts(path, 8) == 1


def test_two_readings_of_one_stream(tmp_path):
    """A stream made so that inflate from some places gives other bytes and never fails is read from its beginning."""
    data = bytearray(make_tar(make_members(30)))
    block, stream = 40_000, bytearray(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
    # In the middle of each block, a header that leads to the middle of the next one, and so on.
    fake = b"\0" + struct.pack("<HH", block, block ^ 0xFFFF)
    spots = range(block // 2, len(data) - block, block)
    for at in spots:
        data[at : at + 5] = fake
    for at in range(0, len(data), block):
        piece = bytes(data[at : at + block])
        stream += bytes([at + block >= len(data)]) + struct.pack("<HH", len(piece), len(piece) ^ 0xFFFF) + piece
    stream += struct.pack("<II", zlib.crc32(data), len(data))
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(stream)
    for of in (2, 5):
        assert _check_parts(path, of, lookback=LOOKBACK) > 1


@pytest.mark.parametrize("how", ["gnu-6", "none"])
def test_tar_within_a_member_larger_than_the_lookback(tmp_path, how):
    """Where a cut is approached from within an image that holds a whole shard, the part before says so."""
    inner = make_tar(make_members(40, seed=7, first_id=700))
    members = [("./sa_1.jpg", jpeg(100_000, 1, inner)), ("./sa_1.json", b"{}"), *make_members(3, first_id=2)]
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(make_tar(members), how))
    with pytest.raises(ShardError) as caught:
        _read_parts(path, 4, lookback=1 << 19)
    assert caught.value.reason == "gzip-joint"
    assert "without splitting" in str(caught.value)
    _check_parts(path, 4, is_gzip=how != "none")


def test_a_wrong_joint_is_noticed(tmp_path, tar):
    """A reader that arrives at its end in another state, or at another entry, raises."""
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(tar, "gnu-6"))
    with RandomBytes(path) as data:
        joint = find_part(data, 1, 2)[0]
        for wrong in (
            joint._replace(skip=joint.skip + 512),
            Joint(Point(joint.point.compressed + 1, is_stored=True), joint.skip),
            Joint(Point(joint.point.compressed, is_stored=False), joint.skip),
        ):
            cursor = PartCursor(data, START, wrong, shard="sa_000000")
            with pytest.raises(CompressionError) as caught:
                list(iter_part_members(cursor))
            assert caught.value.reason == "gzip-joint"


def test_checksum_of_all_parts(tmp_path, tar):
    """A wrong byte in a stored block, which no decoder notices, shows when the parts' checksums are put together."""
    data = bytearray(compress(tar, "gnu-6"))
    with_joint = tmp_path / "sa_000000.tar"
    with_joint.write_bytes(data)
    with RandomBytes(with_joint) as source:
        at = find_between(source, 1 << 20, len(data)).point.compressed + 1000
    data[at] ^= 1
    with_joint.write_bytes(data)
    _, sums = _read_parts(with_joint, 4)
    assert not Checksums.agree(sums)
    assert not Checksums.agree(sums[:-1])


def test_damage_before_a_cut(tmp_path, tar):
    """Behind damage there are no joints from the beginning, and the first part raises."""
    data = bytearray(compress(tar, "gnu-6"))
    data[200_000:270_000] = bytes(70_000)
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(data)
    with pytest.raises(ShardError):
        _read_parts(path, 4, lookback=1 << 30)


def test_remote_parts(tmp_path, tar):
    """Parts are read by range requests as they are from disk."""
    from support.misbehaving_server import MisbehavingServer

    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(tar, "gnu-6"))
    with MisbehavingServer() as server:
        url = server.add("/sa_000000.tar", path.read_bytes())
        parts, sums = _read_parts(url, 3, lookback=LOOKBACK)
    assert [member for part in parts for member in part] == _read_whole(path)
    assert Checksums.agree(sums)


@pytest.mark.parametrize("index", [-1, 2])
def test_no_such_part(tmp_path, tar, index):
    """Parts are counted from 0."""
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(tar)
    with pytest.raises(ConfigError, match="0 <= index < of"):
        open_part(path, index, 2)


@pytest.mark.parametrize("name", ["zlib", "zlib_ng.zlib_ng"])
def test_proof(name):
    """A decoder passes for one at a stored block only there."""
    module = pytest.importorskip(name)
    noise = random.Random(0).randbytes(200_000)
    data = compress(noise, "zlib-6")[10:]
    accepted = []
    decoder = module.decompressobj(-15)
    for at in range(1, 80_000):
        decoder.decompress(data[at - 1 : at])
        if stands_at_stored(decoder):
            accepted.append(at)
    lengths = [
        int.from_bytes(data[at : at + 2], "little") ^ int.from_bytes(data[at + 2 : at + 4], "little") for at in accepted
    ]
    assert accepted
    assert set(lengths) == {0xFFFF}
    assert stands_at_stored(start_at_stored(module))


def test_gzip_headers_with_all_fields():
    """Names, comments, extra fields and header checksums are passed over, in pieces of any size."""
    raw = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = raw.compress(b"content") + raw.flush()
    header = b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03" + b"\x03\0abc" + b"name\0" + b"comment\0" + b"\0\0"
    member = header + body + struct.pack("<II", zlib.crc32(b"content"), 7)
    for step in (1, 5, 1000):
        walk = GzipWalk(zlib, START.point)
        stream = member + bytes(9) + member
        out = b"".join(piece for at in range(0, len(stream), step) for piece in walk.feed(stream[at : at + step]))
        walk.finish()
        assert out == b"contentcontent"
        assert walk.member_starts == [(0, 0), (len(member) + 9, 7)]
        assert Checksums.agree([walk.checksums])


@pytest.mark.parametrize("length", [0, 1, 7, 4096, 100_003])
def test_crc32_combine(length):
    """Joining checksums is the same as the checksum of the joined data."""
    rng = random.Random(length)
    first, second = rng.randbytes(1000), rng.randbytes(length)
    assert crc32_combine(zlib.crc32(first), zlib.crc32(second), length) == zlib.crc32(first + second)
