"""Downloads through aria2c: right bytes or no file, resumed, and its command line without secrets."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.downloading import NAME, PATH, fetch, hurry, md5, shard_bytes
from support.misbehaving_server import Answer, MisbehavingServer, web_page

from sa1b_hf import _shard_download
from sa1b_hf._aria2c import control_file
from sa1b_hf.download import DownloadOptions, download
from sa1b_hf.errors import ConfigError, SourceError

CANARY = "canary-5c2e8"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    hurry(monkeypatch)


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return shard_bytes(tmp_path_factory.mktemp("body"))


def part_of(folder: Path) -> Path:
    return folder / ".sa1b" / f"{NAME}.aria2c"


def is_clean(folder: Path) -> bool:
    """Nothing unfinished is left."""
    return not [path.name for path in (folder / ".sa1b").iterdir() if path.suffix not in {".json", ".lock"}]


def test_absent_program(tmp_path, monkeypatch):
    """Without the program the error says so at once, and how to get it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt install aria2"):
        download(tmp_path, source="https://example.org", shards=0, options=DownloadOptions(engine="aria2c"))


def test_places_that_are_not_for_it(body, tmp_path, monkeypatch):
    """Local files are copied by the built-in engine only; a token is not handed on to another program."""
    monkeypatch.setattr("shutil.which", lambda name: "/nowhere/aria2c")
    (tmp_path / f"{NAME}.tar").write_bytes(body)
    with pytest.raises(ConfigError, match="use the built-in engine"):
        fetch(tmp_path / "out", str(tmp_path / f"{NAME}.tar"), engine="aria2c")
    with MisbehavingServer() as server, pytest.raises(ConfigError, match="without token"):
        fetch(tmp_path / "out", server.add(PATH, body), engine="aria2c", token="t")


@pytest.fixture
def spied_program(tmp_path, monkeypatch):
    """A stand-in called aria2c that notes its arguments and its input, and then fails."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "aria2c"
    program.write_text(f'#!/bin/sh\necho "$@" > {folder}/arguments\ncat > {folder}/input\nenv > {folder}/env\nexit 1\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_secrets_go_through_standard_input(spied_program, body, tmp_path):
    """The signed URL is in no argument and no environment variable, where other users could read it."""
    with MisbehavingServer() as server:
        links = tmp_path / "links.txt"
        links.write_text(f"{NAME}.tar\t{server.add(PATH, body)}?oh={CANARY}&oe=7fffffff\n")
        options = DownloadOptions(engine="aria2c", checksums=None, progress=False, max_rate=4e6, shards_at_once=2)
        with pytest.raises(SourceError, match="aria2c ended with status 1") as caught:
            list(download(tmp_path / "out", links=links, shards=0, options=options))
    assert caught.value.reason == "aria2c"
    assert CANARY in (spied_program / "input").read_text()
    arguments = (spied_program / "arguments").read_text()
    assert "--max-overall-download-limit=2000000" in arguments
    assert CANARY not in arguments + (spied_program / "env").read_text() + str(caught.value)
    for path in (tmp_path / "out").rglob("*"):
        assert CANARY not in str(path)
        assert path.is_dir() or CANARY.encode() not in path.read_bytes()


@pytest.mark.skipif(shutil.which("aria2c") is None, reason="needs aria2c")
class TestTheProgram:
    """With the real one."""

    def test_fetches_and_is_checked(self, body, tmp_path):
        """The right bytes come out verified, and nothing else stays."""
        with MisbehavingServer() as server:
            result = fetch(tmp_path, server.add(PATH, body), engine="aria2c", checksums={NAME: md5(body)})
        assert (result.status, result.num_fetched > 0) == ("verified", True)
        assert result.path.read_bytes() == body
        assert is_clean(tmp_path)

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (Answer(status=403), "http-403"),
            (Answer(status=404), "http-404"),
            (web_page(), "not-a-shard"),
            (Answer(headers={"Content-Encoding": "gzip"}), "content-encoding"),
        ],
        ids=["403", "404", "page", "encoded"],
    )
    def test_refusals_in_mid_download(self, answer, reason, body, tmp_path):
        """What the server says after the first answer is told as the built-in engine tells it."""
        with MisbehavingServer() as server:
            url = server.add(PATH, body, script=[Answer()], then=answer)
            with pytest.raises(SourceError) as caught:
                fetch(tmp_path, url, engine="aria2c", retries=0)
        assert caught.value.reason == reason
        assert not (tmp_path / f"{NAME}.tar").exists()

    def test_a_flipped_byte_is_found(self, body, tmp_path):
        """The program trusts what it gets; our check does not, with an MD5 and without."""
        wrong = bytearray(body)
        wrong[len(wrong) // 2] ^= 1
        with MisbehavingServer() as server:
            url = server.add(PATH, bytes(wrong))
            for checksums in ({NAME: md5(body)}, None):
                with pytest.raises(SourceError, match="next run begins anew"):
                    fetch(tmp_path, url, engine="aria2c", checksums=checksums)
                assert not (tmp_path / f"{NAME}.tar").exists()
            server.add(PATH, body)
            fetch(tmp_path, url, engine="aria2c")
        assert (tmp_path / f"{NAME}.tar").read_bytes() == body

    def test_replaced_files_are_not_spliced(self, body, tmp_path, caplog):
        """A file that is replaced while the program fetches it is begun again."""
        other = bytes(reversed(body))
        with MisbehavingServer() as server:
            url = server.add(PATH, other, script=[Answer(), Answer(trickle=(8192, 0.02))])
            timer = threading.Timer(0.4, server.add, (PATH, body))
            timer.start()
            fetch(tmp_path, url, engine="aria2c", connections=1)
            timer.join()
        assert "beginning again" in caplog.text
        assert (tmp_path / f"{NAME}.tar").read_bytes() == body

    def test_goes_on_where_it_was(self, body, tmp_path):
        """An interrupted download leaves what the program needs to go on, and the next run does."""
        with MisbehavingServer() as server:
            slow = Answer(trickle=(16384, 0.1))
            url = server.add(PATH, body, then=slow)
            stop = threading.Event()
            self.interrupt(tmp_path, url, stop)
            assert control_file(part_of(tmp_path)).exists()
            assert not (tmp_path / f"{NAME}.tar").exists()
            server.add(PATH, body)
            before = len(server.requests)
            result = fetch(tmp_path, url, engine="aria2c", checksums={NAME: md5(body)})
            later = [seen.range for seen in server.requests[before:] if seen.range]
        assert result.status == "verified"
        assert result.path.read_bytes() == body
        assert max(first for first, _ in later) > 0
        assert is_clean(tmp_path)

    @staticmethod
    def interrupt(folder: Path, url: str, stop: threading.Event) -> None:
        """Call a download off in its middle, as Ctrl-C does."""
        source = url.replace(NAME, "{name}")
        halts = []
        original = _shard_download.run_aria2c

        def noting(*args, halt, **kwargs):
            halts.append(halt)
            return original(*args, halt=halt, **kwargs)

        _shard_download.run_aria2c = noting
        try:
            options = DownloadOptions(engine="aria2c", checksums=None, progress=False, connections=1)
            thread = threading.Thread(
                target=lambda: _swallow(download(folder, source=source, shards=0, options=options))
            )
            thread.start()
            deadline = time.monotonic() + 10
            while not (halts and part_of(folder).exists()) and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(0.5)
            halts[0].set()
            thread.join(15)
            assert not thread.is_alive()
        finally:
            _shard_download.run_aria2c = original

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
    def test_ends_when_we_are_killed(self, body, tmp_path):
        """The program does not go on alone after its caller was killed, and the next run does."""
        code = (
            "import sys; from sa1b_hf.download import *; options = DownloadOptions(engine='aria2c', checksums=None)\n"
            "list(download(sys.argv[1], source=sys.argv[2], shards=0, options=options))"
        )
        with MisbehavingServer() as server:
            url = server.add(PATH, body, then=Answer(trickle=(4096, 0.1)))
            line = [sys.executable, "-c", code, str(tmp_path), url.replace(NAME, "{name}")]
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
            with subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL) as process:
                wait_for(lambda: part_of(tmp_path).exists())
                (program,) = children_of(process.pid)
                process.kill()
            wait_for(lambda: not Path(f"/proc/{program}/cmdline").exists() or is_zombie(program))
            assert not (tmp_path / f"{NAME}.tar").exists()
            server.add(PATH, body)
            fetch(tmp_path, url, engine="aria2c")
        assert (tmp_path / f"{NAME}.tar").read_bytes() == body

    def test_holes_without_notes_are_not_trusted(self, body, tmp_path):
        """A file of full length whose notes are gone is fetched anew."""
        with MisbehavingServer() as server:
            url = server.add(PATH, body)
            part_of(tmp_path).parent.mkdir()
            part_of(tmp_path).write_bytes(bytes(len(body)))
            fetch(tmp_path, url, engine="aria2c")
        assert (tmp_path / f"{NAME}.tar").read_bytes() == body

    def test_engines_can_take_turns(self, body, tmp_path):
        """What the other engine left behind neither hinders nor stays."""
        with MisbehavingServer() as server:
            url = server.add(PATH, body, script=[Answer(), Answer(cut_after=70_000)], then=Answer(status=403))
            with pytest.raises(SourceError):
                fetch(tmp_path, url, connections=1)
            assert (tmp_path / ".sa1b" / f"{NAME}.journal").exists()
            server.add(PATH, body)
            fetch(tmp_path, url, engine="aria2c")
        assert (tmp_path / f"{NAME}.tar").read_bytes() == body
        assert is_clean(tmp_path)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _stat(pid: str) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def is_zombie(pid: str) -> bool:
    try:
        return _stat(pid)[0] == "Z"
    except OSError:
        return True


def children_of(parent: int) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if _stat(path.name)[1] == str(parent):
                found.append(path.name)
    return found


def _swallow(stream) -> None:
    with contextlib.suppress(Exception):
        list(stream)
