"""Is a shard file what it should be, and does the answer say so in words?"""

from __future__ import annotations

import hashlib
import json

import pytest
from support.incompressible import compress, make_members, make_tar

from sa1b_hf import verify
from sa1b_hf.catalog import KnownBad, shard_info
from sa1b_hf.errors import ConfigError, MissingShardsError
from sa1b_hf.testing import FAULTS, make_shard
from sa1b_hf.verify import expected_md5, read_checksums, verify_shard, verify_shards

SHARD_FAULTS = sorted(name for name, spec in FAULTS.items() if spec.scope == "shard")
RECORD_FAULTS = ["torn_jpg", "not_a_jpg", "orphan_jpg", "json_truncated", "json_rle_bad_characters"]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make_shard(tmp_path_factory.mktemp("good") / "sa_000000.tar", num_images=15)


def md5_of(path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_a_right_md5_settles_it(good):
    """With the expected MD5 nothing else is looked at, unless it is asked for."""
    checksums = {"sa_000000": md5_of(good.path)}
    report = verify_shard(good.path, checksums=checksums)
    assert (report.status, report.is_ok, report.num_images) == ("verified", True, None)
    assert verify_shard(good.path, checksums=checksums, structure=True).num_documents == 15


def test_without_md5_the_structure_decides(good):
    """A whole file of unknown MD5 is whole, and no more is claimed."""
    report = verify_shard(good.path, checksums=None)
    assert (report.status, report.md5, report.compression) == ("complete-unverified", None, "gzip")
    assert (report.num_images, report.num_documents) == (15, 15)
    assert verify_shard(good.path, checksums={}).md5 == md5_of(good.path)


@pytest.mark.parametrize("fault", SHARD_FAULTS)
def test_damaged_shards_are_never_whole(fault, tmp_path):
    """Each kind of damage to a shard is found by the structure alone."""
    manifest = make_shard(tmp_path / "sa_000000.tar", num_images=15, faults=[fault])
    report = verify_shard(manifest.path, checksums=None)
    assert report.status == "damaged"
    assert report.reason in manifest.reasons[fault]
    assert not report.is_ok


@pytest.mark.parametrize("fault", RECORD_FAULTS)
def test_deep_finds_damaged_images(fault, tmp_path):
    """What the structure cannot show, decoding everything does; the rest is counted as readable."""
    manifest = make_shard(tmp_path / "sa_000000.tar", num_images=15, faults=[fault])
    report = verify_shard(manifest.path, checksums=None, deep=True)
    assert not report.is_ok
    assert report.content.delivered == len(manifest.good_ids)
    assert set(report.content.skipped) <= set(manifest.reasons[fault])


def test_deep_refuses_bad_pixels(tmp_path, monkeypatch):
    """A JPEG that the decoder refuses costs its image, with a reason."""
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=4)

    def refuse(*args, **kwargs):
        raise OSError("broken data stream")

    monkeypatch.setattr("sa1b_hf._deep.Image.open", refuse)
    report = verify_shard(shard.path, checksums=None, deep=True)
    assert report.status == "damaged"
    assert report.content.skipped == {"jpeg-decode": 4}
    assert "broken data stream" in report.content.problems[0]


def test_deep_accepts_a_good_shard(good):
    """Nothing is wrong with a good one."""
    report = verify_shard(good.path, checksums=None, deep=True)
    assert report.is_ok
    assert report.content.delivered == 15


def test_a_wrong_md5_is_explained(good, tmp_path):
    """The message has both hashes, and what else is known."""
    report = verify_shard(good.path)
    assert report.status == "wrong-md5"
    assert shard_info(0).md5 in report.message
    assert md5_of(good.path) in report.message
    assert "packed anew" in report.message
    torn = tmp_path / "sa_000000.tar"
    torn.write_bytes(good.path.read_bytes()[:-30])
    assert "the file is incomplete" in verify_shard(torn).message


def test_known_files_are_named(good, monkeypatch):
    """Bytes of another shard, and damaged copies in circulation, are called by name."""
    found = md5_of(good.path)
    monkeypatch.setattr(verify, "identify_md5", {found: shard_info(7)}.get)
    assert "these are the bytes of sa_000007; rename the file" in verify_shard(good.path).message
    monkeypatch.setattr(verify, "identify_md5", {found: KnownBad(16, found)}.get)
    report = verify_shard(good.path, checksums=None, structure=False)
    assert report.status == "complete-unverified"
    report = verify_shard(good.path)
    assert report.status == "known-bad"
    assert "damaged copy of sa_000016" in report.message


def test_unpaired_members(tmp_path):
    """As many images as documents, or it is said."""
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=8, faults=["orphan_jpg"])
    report = verify_shard(shard.path, checksums=None)
    assert report.reason == "unpaired"


def test_missing_files_and_empty_folders(tmp_path):
    """A file that is not there is a report, a folder without shards an error."""
    assert verify_shard(tmp_path / "sa_000003.tar").status == "missing"
    with pytest.raises(MissingShardsError, match="expected files named"):
        list(verify_shards([tmp_path]))


def test_folders(good, tmp_path):
    """Folders stand for the shards in them, and hidden work is none."""
    (tmp_path / ".sa1b").mkdir()
    for place in (tmp_path / "sa_000001.tar", tmp_path / "other.tar", tmp_path / ".sa1b" / "sa_000002.part"):
        place.write_bytes(good.path.read_bytes())
    reports = list(verify_shards([tmp_path], checksums=None))
    assert [report.shard for report in reports] == ["other", "sa_000001"]


def test_checksums():
    """Own lists, the catalogue, or none."""
    assert expected_md5("sa_000005", "catalogue") == shard_info(5).md5
    assert expected_md5("other", "catalogue") is None
    assert expected_md5("sa_000005", {"sa_000005": "x"}) == "x"
    assert expected_md5("sa_000005", None) is None
    with pytest.raises(ConfigError, match="checksums: expected"):
        expected_md5("sa_000005", "sha256")


def test_reports_are_json(good):
    """Everything that was found goes through JSON."""
    values = json.loads(verify_shard(good.path, checksums=None, deep=True).to_json())
    assert values["is_ok"] is True
    assert values["content"]["delivered"] == 15


def test_salvage_says_what_can_still_be_read(tmp_path):
    """Behind damage in the middle of a shard images are still found; whole shards are not decoded for it."""
    folder = tmp_path / "shards"
    folder.mkdir()
    body = compress(make_tar(make_members(30)), "gnu-6")
    middle = len(body) // 2
    (folder / "sa_000001.tar").write_bytes(body[:middle] + bytes(200_000) + body[middle + 200_000 :])
    make_shard(folder / "sa_000002.tar", num_images=5)
    salvaged, whole = verify_shards([folder], checksums=None, salvage=True)
    (plain,) = verify_shards([folder / "sa_000001.tar"], checksums=None, deep=True)
    assert salvaged.status == "damaged"
    assert whole.salvage is None
    assert plain.content.delivered < salvaged.salvage.num_images <= 30
    assert salvaged.salvage.lost


@pytest.mark.parametrize(
    "line",
    [
        "{md5}  sa_000020.tar",
        "{md5} *mirror/sa_000020.tar",
        "MD5 (sa_000020.tar) = {md5}",
        "sa_000020.tar,{md5}",
        "{MD5}\tsa_000020",
    ],
)
def test_lists_of_md5s(line, tmp_path):
    """What md5sum and its relatives write is understood; headings and other files are passed over."""
    md5 = "0123456789abcdef" * 2
    path = tmp_path / "MD5SUMS"
    path.write_text(f"\ufefffile,md5\n{md5}  README.md\n\n{line.format(md5=md5, MD5=md5.upper())}\n", encoding="utf-8")
    assert read_checksums(path) == {"sa_000020": md5}
    assert expected_md5("sa_000020", {"sa_000020": md5.upper()}) == md5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected lines such as"),
        ("sa_000020.tar " + "0" * 31, "expected lines such as"),
        (f"sa_000020.tar {'0' * 32} {'1' * 32}", "line 1: expected one file name and one MD5, found 1 and 2"),
        (f"sa_000020.tar {'0' * 32}\nsa_000020.tar {'1' * 32}", "line 2: expected one MD5 of sa_000020"),
        ("\0" * ((4 << 20) + 1), "more than 4 MiB"),
        (None, "cannot be read"),
    ],
    ids=["empty", "short", "two", "contradiction", "huge", "absent"],
)
def test_lists_that_make_no_sense(text, message, tmp_path):
    """What was expected is said, with the line."""
    path = tmp_path / "MD5SUMS"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_checksums(path)
