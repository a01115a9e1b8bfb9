"""Downloads that are killed, lose power, run out of disk, or meet each other."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from io import FileIO
from pathlib import Path

import pytest
from support.downloading import NAME, PATH, PIECE, fetch, hurry, md5, shard_bytes
from support.misbehaving_server import Answer, MisbehavingServer, busy
from support.zygote import Zygote

from sa1b_hf import _disk, _lock, _pieces
from sa1b_hf._halt import Halt, HaltedError
from sa1b_hf._journal import Journal, Key, read_journal
from sa1b_hf._lock import ShardLock
from sa1b_hf.download import DownloadOptions, download
from sa1b_hf.errors import SourceError

linux_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
SLOW = Answer(trickle=(2048, 0.005))
POINTS = [
    ("sa1b_hf._fetch:write_at", 1),
    ("sa1b_hf._fetch:write_at", 7),
    ("sa1b_hf._journal:Journal.add", 1),
    ("sa1b_hf._journal:Journal.add", 9),
    ("sa1b_hf._journal:Journal.sync", 1),
    ("sa1b_hf._journal:write_small", 1),
    ("sa1b_hf._disk:publish", 1),
    ("sa1b_hf._disk:publish", 2),
    ("sa1b_hf._disk:sync_folder", 1),
    ("sa1b_hf._disk:sync_folder", 2),
    ("sa1b_hf._shard_download:publish", 1),
    ("sa1b_hf._shard_download:write_receipt", 1),
    ("sa1b_hf._shard_download:verify_shard", 1),
    ("sa1b_hf._shard_download:open_part", 1),
    ("os:fsync", 1),
    ("os:fsync", 2),
    ("os:fsync", 4),
]


class DownloadZygote(Zygote):
    """See `support.download_zygote`."""

    def run(self, folder: Path, url: str, **order) -> list[int]:
        return self.order(folder=folder, url=url, **order)


@pytest.fixture(scope="module")
def zygote():
    zygote = DownloadZygote("download_zygote.py")
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return shard_bytes(tmp_path_factory.mktemp("body"))


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    hurry(monkeypatch)


def recorded(folder: Path) -> set[int]:
    return set(read_journal(folder / ".sa1b" / f"{NAME}.journal")[1])


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.exists() else []


@linux_only
def test_sixty_kills_at_random(zygote, body, tmp_path):
    """Killed at any moment, a download never shows a part, never loses a recorded piece, and ends byte-identical."""
    rng = random.Random(5)
    kills = finished = 0
    with MisbehavingServer() as server:
        url = server.add(PATH, body, then=SLOW).replace(NAME, "{name}")
        while kills < 60:
            folder = tmp_path / str(finished)
            before: set[int] = set()
            while True:
                (code,) = zygote.run(folder, url, delay=rng.uniform(0.01, 0.12))
                kills += code == -9
                if NAME + ".tar" in visible(folder):
                    break
                assert visible(folder) == []
                assert before <= recorded(folder)
                before = recorded(folder)
            assert (folder / f"{NAME}.tar").read_bytes() == body
            finished += 1
            assert finished < 40
    assert finished > 1


@linux_only
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_kills_at_every_step(after, zygote, body, tmp_path):
    """Killed before or after any write, sync or rename, the next run ends byte-identical."""
    with MisbehavingServer() as server:
        url = server.add(PATH, body).replace(NAME, "{name}")
        for number, (point, nth) in enumerate(POINTS):
            folder = tmp_path / str(number)
            assert zygote.run(folder, url, point=point, nth=nth, after=after) == [-9], (point, nth)
            final = folder / f"{NAME}.tar"
            assert not final.exists() or final.read_bytes() == body
            assert zygote.run(folder, url) == [0], (point, nth)
            assert final.read_bytes() == body
            assert not (folder / ".sa1b" / f"{NAME}.part").exists()


@linux_only
def test_two_processes_share_the_work(zygote, body, tmp_path):
    """Two downloads into one folder both succeed, and each shard is fetched once."""
    with MisbehavingServer() as server:
        paths = [f"/m/sa_{number:06d}.tar" for number in range(3)]
        for path in paths:
            server.add(path, body, then=SLOW)
        codes = zygote.run(tmp_path, server.url("/m"), shards="0-2", children=2)
        probes = [seen.path for seen in server.requests if seen.range == (0, 0)]
    assert codes == [0, 0]
    assert sorted(probes) == paths
    assert {path.read_bytes() for path in tmp_path.glob("*.tar")} == {body}
    assert visible(tmp_path) == ["sa_000000.tar", "sa_000001.tar", "sa_000002.tar"]


def begin(folder: Path, server: MisbehavingServer, body: bytes) -> tuple[str, Path, Path]:
    """Fetch about half of a shard."""
    url = server.add(PATH, body, script=[Answer(), *[Answer(cut_after=5 * PIECE)] * 2], then=Answer(status=403))
    with pytest.raises(SourceError):
        fetch(folder, url)
    server.add(PATH, body)
    return url, folder / ".sa1b" / f"{NAME}.part", folder / ".sa1b" / f"{NAME}.journal"


def zero_blocks(part: Path, journal: Path, rng: random.Random) -> None:
    size = part.stat().st_size
    with part.open("r+b") as file:
        for _ in range(8):
            file.seek(rng.randrange(size // 512) * 512)
            file.write(bytes(512))


def shorten_part(part: Path, journal: Path, rng: random.Random) -> None:
    os.truncate(part, rng.randrange(part.stat().st_size))


def zero_journal_tail(part: Path, journal: Path, rng: random.Random) -> None:
    content = journal.read_bytes()
    keep = rng.randrange(len(content))
    journal.write_bytes(content[:keep].ljust(len(content), b"\0"))


def tear_journal(part: Path, journal: Path, rng: random.Random) -> None:
    content = journal.read_bytes()
    journal.write_bytes(content[: rng.randrange(len(content))])


def garble_journal(part: Path, journal: Path, rng: random.Random) -> None:
    content = bytearray(journal.read_bytes())
    for _ in range(3):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    journal.write_bytes(content)


def lose_part(part: Path, journal: Path, rng: random.Random) -> None:
    part.unlink()


def lose_journal(part: Path, journal: Path, rng: random.Random) -> None:
    journal.unlink()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "damage",
    [zero_blocks, shorten_part, zero_journal_tail, tear_journal, garble_journal, lose_part, lose_journal],
    ids=lambda damage: damage.__name__,
)
def test_power_loss_is_found(damage, seed, body, tmp_path):
    """What a power loss can leave of part and journal is found without any MD5, and fetched again."""
    with MisbehavingServer() as server:
        url, part, journal = begin(tmp_path, server, body)
        damage(part, journal, random.Random(seed))
        assert fetch(tmp_path, url).status == "complete-unverified"
    assert (tmp_path / f"{NAME}.tar").read_bytes() == body


def test_only_damaged_pieces_are_fetched_again(body, tmp_path):
    """After a power loss the pieces that are whole are kept."""
    with MisbehavingServer() as server:
        url, part, _ = begin(tmp_path, server, body)
        whole = sum(min(PIECE, len(body) - index * PIECE) for index in recorded(tmp_path))
        index = min(recorded(tmp_path))
        with part.open("r+b") as file:
            file.seek(index * PIECE)
            file.write(bytes(512))
        result = fetch(tmp_path, url)
    assert result.num_fetched == len(body) - whole + PIECE


def test_a_renewed_link_continues(body, tmp_path):
    """Pieces are kept when only host and query of the link change."""
    with MisbehavingServer() as server:
        begin(tmp_path, server, body)
        kept = len(recorded(tmp_path))
        result = fetch(tmp_path, server.url(PATH).replace("127.0.0.1", "localhost") + "?oh=new&oe=7fffffff")
    assert result.num_fetched <= len(body) - (kept - 1) * PIECE


class FullDisk(FileIO):
    """A file on a disk that fills up."""

    left = 0
    error = errno.ENOSPC

    def write(self, data) -> int:
        cls = type(self)
        if cls.left < len(data):
            raise OSError(cls.error, os.strerror(cls.error))
        cls.left -= len(data)
        return super().write(data)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["disk", "quota"])
def test_disk_full(number, body, tmp_path, monkeypatch):
    """A disk that fills up ends the download with a clear error; with space again it goes on where it was."""
    with MisbehavingServer() as server, monkeypatch.context() as patch:
        url = server.add(PATH, body)
        patch.setattr(_pieces, "FileIO", FullDisk)
        patch.setattr(FullDisk, "left", 9 * PIECE)
        patch.setattr(FullDisk, "error", number)
        with pytest.raises(SourceError) as caught:
            fetch(tmp_path, url, connections=1)
        assert caught.value.reason == "disk-full"
        assert visible(tmp_path) == []
        kept = len(recorded(tmp_path))
        assert kept >= 8
        patch.setattr(_pieces, "FileIO", FileIO)
        assert fetch(tmp_path, url).num_fetched == len(body) - kept * PIECE
    assert (tmp_path / f"{NAME}.tar").read_bytes() == body


def test_too_little_space_is_said_before_the_first_byte(body, tmp_path, monkeypatch):
    """Needed space is compared with what is free once the size is known."""
    monkeypatch.setattr(_disk.shutil, "disk_usage", lambda path: type("Usage", (), {"free": _disk.RESERVE + 1000})())
    with MisbehavingServer() as server:
        with pytest.raises(SourceError, match="free some space") as caught:
            fetch(tmp_path, server.add(PATH, body))
        assert len(server.requests) == 1
    assert caught.value.reason == "disk-full"
    with pytest.raises(SourceError, match="GB free"):
        list(download(tmp_path, source="/nowhere", subset="1pct", options=DownloadOptions(progress=False)))


@pytest.mark.parametrize("what", ["folder", "file", "lock"])
def test_read_only_target(what, body, tmp_path, monkeypatch):
    """A folder that cannot be written to is an error that says so, whoever finds out."""

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with MisbehavingServer() as server, monkeypatch.context() as patch:
        url = server.add(PATH, body)
        patch.setattr(
            *{"folder": (Path, "mkdir"), "file": (_pieces, "open_part"), "lock": (_lock.os, "open")}[what], refuse
        )
        if what == "file":
            patch.setattr("sa1b_hf._shard_download.open_part", refuse)
        with pytest.raises(SourceError) as caught:
            fetch(tmp_path / "out", url)
    assert caught.value.reason == "read-only"
    assert visible(tmp_path / "out") == []


@pytest.fixture
def no_flock(monkeypatch):
    """A file system without locks, such as some network ones."""

    def refuse(fd, how):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(_lock.fcntl, "flock", refuse)


@linux_only
@pytest.mark.usefixtures("no_flock")
class TestWithoutFlock:
    """The owner's file stands in for the lock."""

    def test_download(self, body, tmp_path):
        """A download works and leaves no owner's file."""
        with MisbehavingServer() as server:
            fetch(tmp_path, server.add(PATH, body))
        assert (tmp_path / f"{NAME}.tar").read_bytes() == body
        assert not list(tmp_path.glob(".sa1b/*.owner"))

    def test_a_dead_owner_is_replaced(self, tmp_path):
        """A file that a killed process left behind stops nobody."""
        child = os.spawnlp(os.P_NOWAIT, "true", "true")
        os.waitpid(child, 0)
        (tmp_path / "lock.owner").write_text(f"{_lock.socket.gethostname()} {child}")
        with ShardLock(tmp_path / "lock", Halt()):
            assert str(os.getpid()) in (tmp_path / "lock.owner").read_text()

    def test_an_owner_on_another_machine(self, tmp_path):
        """Nothing tells whether it lives: the message says what to do."""
        (tmp_path / "lock.owner").write_text("elsewhere 12")
        with (
            pytest.raises(SourceError, match=r"process 12 on elsewhere.*delete this file") as caught,
            ShardLock(tmp_path / "lock", Halt()),
        ):
            pass
        assert caught.value.reason == "locked"

    def test_the_second_waits(self, tmp_path, monkeypatch):
        """A living owner is waited for."""
        check_waiting(tmp_path / "lock", monkeypatch)


@linux_only
def test_the_second_waits(tmp_path, monkeypatch):
    """With `flock` the second one waits for the first, and stops waiting when called off."""
    check_waiting(tmp_path / "lock", monkeypatch)


def check_waiting(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_lock, "_POLL", 0.02)
    order = []

    def second() -> None:
        with ShardLock(path, Halt()):
            order.append("second")

    with ShardLock(path, Halt()):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
        halt = Halt()
        halt.set()
        with pytest.raises(HaltedError), ShardLock(path, halt):
            pass
    thread.join(5)
    assert order == ["first", "second"]


def test_ctrl_c_leaves_everything_resumable(body, tmp_path, monkeypatch):
    """An interrupt ends all threads at once; the same call goes on."""

    def interrupt(*args, **kwargs):
        time.sleep(0.4)
        raise KeyboardInterrupt

    before = threading.active_count()
    with MisbehavingServer() as server:
        url = server.add(PATH, body, then=Answer(cut_after=4 * PIECE, cut_how="stall"))
        with monkeypatch.context() as patch:
            patch.setattr("sa1b_hf.download.wait", interrupt)
            with pytest.raises(KeyboardInterrupt):
                fetch(tmp_path, url, timeout=30)
        kept = len(recorded(tmp_path))
        assert kept >= 2
        server.add(PATH, body)
        assert fetch(tmp_path, url).num_fetched == len(body) - kept * PIECE
    assert threading.active_count() <= before


def test_ctrl_c_does_not_wait_for_retry_after(body, tmp_path, monkeypatch):
    """A server that asks for a minute does not keep anybody from leaving."""

    def interrupt(*args, **kwargs):
        time.sleep(0.2)
        raise KeyboardInterrupt

    monkeypatch.setattr("sa1b_hf.download.wait", interrupt)
    began = time.monotonic()
    with MisbehavingServer() as server:
        url = server.add(PATH, body, then=busy(503, "60"))
        with pytest.raises(KeyboardInterrupt):
            fetch(tmp_path, url)
    assert time.monotonic() - began < 10


def test_a_journal_is_of_one_file_only(tmp_path):
    """Records beyond the file, and unreadable headers, are no records."""
    key = Key("sa_000000", "/a.tar", 10 * PIECE, PIECE, None, None)
    with Journal(tmp_path / "journal", key, {1: 2}) as journal:
        journal.add(3, 4)
        journal.add(10, 4)
    assert read_journal(tmp_path / "journal") == (key, {1: 2, 3: 4})
    content = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(content.replace(b"00000003 00000004", b"00000005 00000004"))
    assert read_journal(tmp_path / "journal") == (key, {1: 2})
    (tmp_path / "journal").write_text('{"version": 9}\n')
    assert read_journal(tmp_path / "journal") == (None, {})


def test_a_rejected_file_is_kept_aside(body, tmp_path):
    """What does not have the right MD5 never gets the final name, and the next run begins anew."""
    with MisbehavingServer() as server:
        url = server.add(PATH, body)
        with pytest.raises(SourceError, match=r"expected MD5 0000.*packed anew.*\.rejected") as caught:
            fetch(tmp_path, url, checksums={NAME: "0" * 32})
        assert caught.value.reason == "wrong-md5"
        assert (tmp_path / ".sa1b" / f"{NAME}.rejected").read_bytes() == body
        result = fetch(tmp_path, url, checksums={NAME: md5(body)})
    assert (result.status, result.num_fetched) == ("verified", len(body))


def test_bytes_are_durable_before_the_name(body, tmp_path, monkeypatch):
    """Every name is given after the file behind it was synced, the shard's after its receipt's."""
    events: list[tuple[str, str]] = []
    sync, replace = os.fsync, Path.replace

    def traced_sync(fd: int) -> None:
        sync(fd)
        events.append(("sync", Path(f"/proc/self/fd/{fd}").readlink().name))

    def traced_replace(path: Path, target: Path) -> Path:
        events.append(("name", f"{path.name} {target.name}"))
        return replace(path, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to name files")
    monkeypatch.setattr(os, "fsync", traced_sync)
    monkeypatch.setattr(Path, "replace", traced_replace)
    with MisbehavingServer() as server:
        fetch(tmp_path, server.add(PATH, body), connections=1)
    names = [event[1].split() for event in events if event[0] == "name"]
    assert [target for _, target in names] == [f"{NAME}.journal", f"{NAME}.json", f"{NAME}.tar"]
    for source, target in names:
        at = events.index(("name", f"{source} {target}"))
        assert ("sync", source) in events[:at]
        assert events[at + 1] == ("sync", ".sa1b" if not target.endswith(".tar") else tmp_path.name)
    assert events.index(("sync", f"{NAME}.part")) < events.index(("sync", f"{NAME}.journal"))
