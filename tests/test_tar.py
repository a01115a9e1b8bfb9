"""The tar walk: every dialect gives the same members, every structural damage a typed reason."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from sa1b_hf.errors import TarError
from sa1b_hf.source import FileCursor, open_shard
from sa1b_hf.tar import Member, SkippedMember, iter_members

CONTENT = {"sa_1.jpg": b"\xff\xd8 image one", "sa_1.json": b"{}" * 400, "sa_22.JSON": b"", "sa_22.jpg": bytes(512)}


def _tar(
    path: Path, names: dict[str, bytes] = CONTENT, *, prefix: str = "./", form: int = tarfile.USTAR_FORMAT
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        if prefix:
            folder = tarfile.TarInfo(prefix)
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        for name, data in names.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(data)
            info.mtime = 1680000000.5 if form == tarfile.PAX_FORMAT else 1680000000
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def _walk(path: Path) -> tuple[list, TarError | None]:
    found: list = []
    with open_shard(path) as cursor:
        try:
            for member in iter_members(cursor):
                found.append((member.name, member.image_id, member.read()) if isinstance(member, Member) else member)
        except TarError as error:
            return found, error
    return found, None


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["./", "", "sa_000000/"])
def test_dialects(tmp_path, form, prefix):
    """Ustar, GNU and pax archives give the same members, whatever folder they stand in."""
    _tar(tmp_path / "a.tar", prefix=prefix, form=form)
    found, error = _walk(tmp_path / "a.tar")
    assert error is None
    assert [(name.lower(), data) for name, _, data in found] == [(n.lower(), data) for n, data in CONTENT.items()]
    assert [image_id for _, image_id, _ in found] == [1, 1, 22, 22]


def test_gnu_long_name_counts(tmp_path):
    """A GNU long name before a member is its name, also when the name itself would do."""
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("x" * 150)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
        info = tarfile.TarInfo("./sa_5.jpg")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    found, error = _walk(tmp_path / "a.tar")
    assert error is None
    assert found == [SkippedMember("x" * 100, "foreign-name", 1024), ("sa_5.jpg", 5, b"abc")]


@pytest.mark.parametrize(
    "name",
    [
        "../sa_1.jpg",
        "/etc/sa_1.jpg",
        "a/b/sa_1.jpg",
        "sa_1.png",
        "sa_.jpg",
        "sa_1.jpg.json",
        "sa_٣.jpg",
        "README",
        "._sa_1.jpg",
    ],
)
def test_foreign_names_are_passed_over(tmp_path, name):
    """What is not named like SA-1B's files is reported and skipped."""
    _tar(tmp_path / "a.tar", {name: b"x", "sa_2.jpg": b"y"}, prefix="")
    found, error = _walk(tmp_path / "a.tar")
    assert error is None
    assert [member.reason for member in found if isinstance(member, SkippedMember)] == ["foreign-name"]
    assert ("sa_2.jpg", 2, b"y") in found


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_special_files_are_passed_over(tmp_path, kind):
    """Links and devices are reported, never followed, even with a plausible name."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("./sa_1.jpg")
        info.type = kind
        info.linkname = "/etc/passwd"
        tar.addfile(info)
        info = tarfile.TarInfo("./sa_2.jpg")
        tar.addfile(info)
    found, error = _walk(tmp_path / "a.tar")
    assert error is None
    assert found == [SkippedMember("./sa_1.jpg", "unsupported-type", 0), ("sa_2.jpg", 2, b"")]


def test_every_truncation(tmp_path):
    """Whichever byte the file ends at, the cut is noticed, and only whole members come out."""
    whole = _tar(tmp_path / "a.tar")
    end = whole.rstrip(b"\0")
    last = (len(end) + 511) // 512 * 512
    for cut in range(1, last + 1024, 97):
        (tmp_path / "b.tar").write_bytes(whole[:cut])
        found, error = _walk(tmp_path / "b.tar")
        assert error is not None, cut
        assert error.reason in {"truncated", "missing-end", "not-a-shard"}, (cut, error)
        assert all(
            CONTENT[name.replace(".json", ".JSON") if "22.j" in name and "json" in name else name] == data
            for name, _, data in found
        )


def _flip(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: _flip(d, 512 + 1, b"X"), "header-checksum"),
        (lambda d: _flip(d, 512 + 148, b"zzzzzz"), "header-checksum"),
        (lambda d: d[:1024] + bytes(512) + d[1024:], "header-checksum"),
        (lambda d: d[:512] + bytes(512) + d[512:], "lone-zero-block"),
        (lambda d: d[:512] + bytes(65536) + d[512:], "data-after-end"),
        (lambda d: d + b"trailing", "data-after-end"),
        (lambda d: b"not a tar at all" * 100, "not-a-shard"),
        (lambda d: bytes(10240), "no-members"),
    ],
)
def test_structural_damage(tmp_path, change, reason):
    """Damage to the structure ends the walk with its reason and its place."""
    path = tmp_path / "a.tar"
    path.write_bytes(change(_tar(path)))
    _, error = _walk(path)
    assert error is not None
    assert error.reason == reason
    assert "uncompressed byte" in str(error)


def test_reader_that_skips_sees_the_same_names(tmp_path):
    """Members that nobody reads are passed over without reading, from files and from streams."""
    data = _tar(tmp_path / "a.tar")
    with open_shard(tmp_path / "a.tar") as cursor:
        assert isinstance(cursor, FileCursor)
        names = [member.name for member in iter_members(cursor)]
    import gzip

    (tmp_path / "b.tar").write_bytes(gzip.compress(data))
    with open_shard(tmp_path / "b.tar") as cursor:
        assert cursor.compression == "gzip"
        assert [member.name for member in iter_members(cursor)] == names


def test_names_in_messages_are_harmless(tmp_path):
    """Control characters of a member's name do not reach the terminal."""
    _tar(tmp_path / "a.tar", {"\x1b[31mred\n": b"x"}, prefix="")
    found, _ = _walk(tmp_path / "a.tar")
    assert found[0].name == r"\x1b[31mred\n"
