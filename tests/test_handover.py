"""What readers of parts leave for one another: the same rows sooner, and never anything wrong."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from support.incompressible import compress, make_members, make_tar

from sa1b_hf import _handover, parts
from sa1b_hf._covers import Cover, iter_uncovered
from sa1b_hf._gzip_walk import Point
from sa1b_hf._restarts import Restart
from sa1b_hf.filters import ImageFilter
from sa1b_hf.gzsync import START, Joint
from sa1b_hf.parts import PartReader
from sa1b_hf.reader import ReadOptions, iter_batches
from sa1b_hf.reports import PassReport

NUM_IMAGES = 24
MISSING_DOCUMENT, MISSING_IMAGE = 5, 9


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    members = make_members(NUM_IMAGES, seed=3, least=100_000, most=400_000)
    absent = f"./sa_{MISSING_DOCUMENT}.json", f"./sa_{MISSING_IMAGE}.jpg"
    path = tmp_path_factory.mktemp("shard") / "sa_000000.tar"
    path.write_bytes(compress(make_tar([member for member in members if member[0] not in absent]), "gnu-6"))
    return path


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    """The folder in which readers leave things, written to often."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(parts, "HAND_OVER_EVERY", 1 << 19)
    monkeypatch.setattr(
        PartReader.__init__, "__kwdefaults__", {**PartReader.__init__.__kwdefaults__, "lookback": 1 << 20}
    )
    return tmp_path / f"sa1b_hf-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def iter_rows(path, part, report=None, **options):
    options = {"on_error": "warn", "batch_rows": 1, **options}
    for batch in iter_batches(path, "sa_000000", ReadOptions(**options), report, part):
        yield from batch.to_pylist()


def alone(path, part, report=None, **options):
    """The rows of a part as on a machine of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_handover.Handover, "open_spool", lambda *_: None)
        patch.setattr(_handover.Handover, "read_covers", lambda *_: [])
        return list(iter_rows(path, part, report, **options))


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.spool"))


class Searched(list):
    """The regions in which readers looked for what was missing."""


@pytest.fixture
def searched(monkeypatch):
    regions = Searched()
    open_members = PartReader._members

    def noting(self, begin, end, start=None):
        regions.append((begin, end, start))
        return open_members(self, begin, end, start)

    monkeypatch.setattr(PartReader, "_members", noting)
    return regions


@pytest.mark.parametrize("of", [2, 3, 5])
def test_later_readers_take_what_earlier_ones_met(shard, root, searched, of):
    """The last part to be read finds all it misses in files; rows and their order are those of readers alone."""
    expected = [alone(shard, (index, of)) for index in range(of)]
    for index in range(of - 1):
        assert list(iter_rows(shard, (index, of))) == expected[index]
    assert len(files(root)) == of - 1
    searched.clear()
    assert list(iter_rows(shard, (of - 1, of))) == expected[-1]
    assert len(searched) == 1, "nothing but the part itself was read"
    assert list(root.iterdir()) == []


def test_readers_at_the_same_time(shard, root, searched):
    """Who finishes first searches only what the other has not read yet, from the middle of its part on."""
    expected = [alone(shard, (index, 2)) for index in range(2)]
    searched.clear()
    total, reports = PassReport(), (PassReport(), PassReport())
    other = iter_rows(shard, (1, 2), reports[1])
    first = next(other)
    assert list(iter_rows(shard, (0, 2), reports[0])) == expected[0]
    assert [first, *other] == expected[1]
    for report in reports:
        total.merge(report)
    assert total.skipped == {"no-json": 1, "no-jpg": 1}
    assert total.seen == NUM_IMAGES
    assert [start is None for _, _, start in searched] == [True, True, False], searched
    assert list(root.iterdir()) == []


def test_readers_of_different_epochs(shard, root, searched):
    """A reader that is at it again keeps its file when the others end the epoch before, which use its last one."""
    expected = [alone(shard, (index, 2)) for index in range(2)]
    assert list(iter_rows(shard, (0, 2))) == expected[0]
    again = iter_rows(shard, (0, 2))
    first = next(again)
    assert len(files(root)) == 2
    searched.clear()
    assert list(iter_rows(shard, (1, 2))) == expected[1]
    assert len(searched) == 1
    assert len(files(root)) == 1
    assert [first, *again] == expected[0]
    searched.clear()
    assert list(iter_rows(shard, (1, 2))) == expected[1]
    assert len(searched) == 1
    assert files(root) == []


def test_files_cut_and_damaged_anywhere(shard, root):
    """A file of a writer that was killed, or whose bytes changed, is used as far as it is good."""
    expected = alone(shard, (1, 2))
    list(iter_rows(shard, (0, 2)))
    (path,) = files(root)
    data = path.read_bytes()
    for number in range(30):
        cut = len(data) * number // 30
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data[:cut] if number % 2 else data[:cut] + bytes(64) + data[cut + 64 :])
        assert list(iter_rows(shard, (1, 2))) == expected, (number, cut)


def test_other_wishes_are_other_files(shard, root):
    """A reader that wants few images leaves few documents, and nobody takes them for all there are."""
    expected = alone(shard, (1, 2))
    list(iter_rows(shard, (0, 2), image_filter=ImageFilter(ids=frozenset({1, 2}))))
    list(iter_rows(shard, (0, 2), image_filter=ImageFilter(sample_fraction=0.1)))
    assert len(files(root)) == 2
    assert list(iter_rows(shard, (1, 2))) == expected


def test_another_file_of_that_name(shard, root, tmp_path):
    """What was left of a shard that was replaced meanwhile is not used."""
    path = tmp_path / "sa_000000.tar"
    path.write_bytes(compress(make_tar(make_members(NUM_IMAGES, seed=1, least=100_000, most=400_000)), "gnu-6"))
    list(iter_rows(path, (0, 2)))
    time.sleep(0.01)
    path.write_bytes(shard.read_bytes())
    assert list(iter_rows(path, (1, 2))) == alone(shard, (1, 2))


def test_a_reader_that_is_left_early_leaves_nothing(shard, root):
    """Its file disappears, and others do without."""
    batches = iter_batches(shard, "sa_000000", ReadOptions(on_error="warn", batch_rows=1), None, (0, 2))
    next(batches)
    assert len(files(root)) == 1
    batches.close()
    assert files(root) == []


@pytest.mark.skipif(not hasattr(os, "getuid") or os.name == "nt", reason="needs owners of files")
def test_a_folder_open_to_others_is_not_used(shard, root):
    """Somebody else could have prepared it."""
    root.mkdir(mode=0o777)
    root.chmod(0o777)
    expected = alone(shard, (0, 2)) + alone(shard, (1, 2))
    assert [*iter_rows(shard, (0, 2)), *iter_rows(shard, (1, 2))] == expected
    assert list(root.iterdir()) == []


def test_a_full_disk(shard, root, monkeypatch):
    """Nothing is left on a disk that is nearly full, and no row is lost."""
    expected = alone(shard, (0, 2))
    monkeypatch.setattr(_handover, "_KEEP_FREE", 1 << 62)
    assert list(iter_rows(shard, (0, 2))) == expected
    assert [path.stat().st_size for path in files(root)] == [0], "only a note that this part is done"


def test_old_and_too_many_files_go(shard, root, monkeypatch):
    """What readers that were killed left is removed by the next one, and so is the oldest of too much."""
    for number, age in enumerate((4 * 3600, 300, 200)):
        folder = root / str(number)
        folder.mkdir(parents=True, mode=0o700)
        (folder / "0-x.spool").write_bytes(bytes(1000))
        for path in (folder / "0-x.spool", folder):
            os.utime(path, (time.time() - age,) * 2)
    root.chmod(0o700)
    monkeypatch.setattr(_handover, "_MOST_BYTES", 1500)
    next(iter_rows(shard, (0, 2)))
    assert {path.name for path in root.iterdir() if len(path.name) == 1} == {"2"}


def test_files_that_go_while_they_are_counted(shard, root):
    """Another reader that removes its files at this moment does not keep this one from leaving its own."""
    (root / "other").mkdir(parents=True)
    (root / "other" / "0-gone.spool").symlink_to(root / "nowhere")
    root.chmod(0o700)
    list(iter_rows(shard, (0, 2)))
    assert [path.name for path in files(root) if path.stat(follow_symlinks=False).st_size > 1000], "nothing was left"


def test_a_place_that_does_not_fit(shard, root, monkeypatch):
    """A document without a place cannot be handed over: then nothing is."""
    monkeypatch.setattr("sa1b_hf._track.Track.place", lambda *_: b"")
    expected = alone(shard, (0, 2))
    assert list(iter_rows(shard, (0, 2))) == expected
    assert [path.stat().st_size for path in files(root)] == [0], "only a note that this part is done"


def test_documents_wait_on_disk(shard):
    """What waits in the scratch file is handed over, and still there for its own image."""
    expected = [alone(shard, (index, 3)) for index in range(3)]
    assert [list(iter_rows(shard, (index, 3), ram_cap=0)) for index in range(3)] == expected


def test_what_is_left_to_search():
    """The stretches between covers, the rest of those that are not complete, and the end of the file."""
    joints = [START, *(Joint(Point(at, is_stored=True), 7) for at in (100, 200, 300))]
    start = Restart(Point(150, is_stored=True), 60), 64
    own = Cover(joints[0], joints[1], is_complete=True)
    partly = Cover(joints[1], joints[2], start)
    assert list(iter_uncovered([own])) == [(joints[1], None, None)]
    assert list(iter_uncovered([partly, own])) == [(joints[1], joints[2], start), (joints[2], None, None)]
    last = Cover(joints[3], None, is_complete=True)
    assert list(iter_uncovered([last, own])) == [(joints[1], joints[3], None)]
    assert list(iter_uncovered([last])) == [(START, joints[3], None)]
    assert list(iter_uncovered([Cover(START, None, is_complete=True)])) == []
