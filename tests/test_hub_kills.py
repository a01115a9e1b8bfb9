"""Pushes through trouble: killed at each request, refused for now, cut off, overtaken by others."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
from support.hub_store import Entry
from support.push_zygote import COMMIT_FILES
from support.pushing import is_true
from support.stand_in_hub import Fault

from sa1b_hf.convert import ConvertOptions, process_shard
from sa1b_hf.errors import SourceError
from sa1b_hf.hub import push

REPO = "ada/subset"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client's own HTTP client

ZYGOTE = Path(__file__).parent / "support" / "push_zygote.py"
# A push of three files in two commits, and of the card; every kind of request is in it.
KINDS = ("info", "create", "tree", "resolve", "preupload", "lfs-batch", "lfs-put", "lfs-verify", "commit", "yaml")


@pytest.fixture(scope="module")
def converted(shards, tmp_path_factory):
    """A converted shard in three parts."""
    out = tmp_path_factory.mktemp("converted")
    process_shard(shards[0].path, out, ConvertOptions(part_bytes=35_000, row_group_rows=4))
    assert len(list(out.glob("data/train/*"))) == 3
    return out


@pytest.fixture
def waits(monkeypatch):
    """Nobody waits for real; how long they would have is kept."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    monkeypatch.setattr("sa1b_hf.hub._COMMIT_FILES", COMMIT_FILES)
    return found


@pytest.fixture
def reference(hub, converted, waits):
    """Files of an undisturbed push, and the kinds of its requests."""
    push(converted, REPO, include_images=True)
    files, kinds = hub.files(REPO), hub.kinds()
    assert set(kinds) == set(KINDS)
    hub.clear()
    return files, kinds


def check(hub, files) -> None:
    """The repository is as it should be, and nothing was uploaded twice."""
    assert hub.files(REPO) == files
    assert len(hub.store.uploads) == len(set(hub.store.uploads))
    assert hub.repository(REPO).private


class Zygote:
    """Pushes in processes of their own."""

    def __init__(self, hub, folder) -> None:
        self.order = {"folder": str(folder), "repo": REPO, "endpoint": hub.url, "token": hub.token}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(ZYGOTE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"
        self.child: queue.Queue[int] = queue.Queue()

    def push(self) -> int:
        """Give the exit status of a push."""
        self.process.stdin.write(json.dumps(self.order) + "\n")
        self.process.stdin.flush()
        self.child.put(int(self.process.stdout.readline()))
        status = int(self.process.stdout.readline())
        while not self.child.empty():
            self.child.get()
        return status

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="module")
def zygote(converted):
    from conftest import HUB

    found = Zygote(HUB, converted)
    yield found
    found.close()


def kill_at(hub, zygote, number: int, when: str) -> None:
    """Let the process die at a request, before or after the Hub does what it asks for."""

    def watch(request, moment):
        if request.number == number and moment == when:
            os.kill(zygote.child.get(timeout=20), signal.SIGKILL)
            return True
        return False

    hub.watch = watch


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_request(when, hub, zygote, converted, reference):
    """SIGKILL at any request, then the same push: the same repository, nothing uploaded twice, no card that lies."""
    files, kinds = reference
    killed = 0
    for number, kind in enumerate(kinds, 1):
        if when == "before" and kind in {"info", "tree", "resolve", "yaml", "preupload"}:
            continue  # these change nothing: before and after are the same
        hub.clear()
        kill_at(hub, zygote, number, when)
        assert zygote.push() == -signal.SIGKILL
        hub.watch = lambda request, moment: None
        assert not hub.store.repositories or is_true(hub.files(REPO))
        push(converted, REPO, include_images=True)
        check(hub, files)
        killed += 1
    assert killed >= 15


def test_killed_again_and_again(hub, zygote, reference):
    """Each run gets a few requests further than the one before, and is killed; the work still comes to its end."""
    files, _ = reference
    runs = 0
    status = -signal.SIGKILL
    while status:
        kill_at(hub, zygote, len(hub.requests) + 9 + 3 * runs, "after")
        status = zygote.push()
        hub.watch = lambda request, moment: None
        assert is_true(hub.files(REPO))
        runs += 1
        assert runs < 20
    assert runs > 3
    check(hub, files)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 429, "headers": {"Retry-After": "7"}},
        {"cut": "before"},
        {"cut": "after"},
    ],
    ids=["503", "429", "cut-before", "cut-after"],
)
def test_trouble_that_passes(fault, kind, hub, converted, reference, waits):
    """The second request of a kind, and the one after it, fail: the push comes through, and waits as asked."""
    files, kinds = reference
    hub.faults.append(Fault(kind, first=min(2, kinds.count(kind)), times=2, **fault))
    push(converted, REPO, include_images=True)
    assert hub.files(REPO) == files
    assert hub.repository(REPO).private
    assert waits
    if fault.get("status") == 429 and kind != "resolve":
        assert max(waits) >= 7
    if "status" in fault or kind != "lfs-put":
        check(hub, files)


@pytest.mark.parametrize("status", [409, 412])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_commits_in_the_way(status, first, hub, converted, reference, waits):
    """A commit that is refused because of another one is tried again, from the newest state."""
    files, _ = reference
    hub.faults.append(Fault("commit", status=status, first=first, times=3))
    push(converted, REPO, include_images=True)
    check(hub, files)
    assert hub.kinds().count("commit") == 6


@pytest.mark.parametrize("first", [1, 2, 3])
def test_somebody_else_commits(first, hub, converted, reference):
    """Another commit between ours is kept; of files that it removed, none is missing in the end."""
    files, _ = reference
    left = [first]

    def overtake(request, moment):
        if request.kind == "commit" and moment == "before":
            left[0] -= 1
            if left[0] == 0:
                others = dict(hub.repository(REPO).branches["main"].files)
                others = {path: entry for path, entry in others.items() if not path.startswith("data/")}
                hub.repository(REPO).add("main", "theirs", {**others, "notes.txt": Entry(b"theirs", is_lfs=False)})

    hub.watch = overtake
    push(converted, REPO, include_images=True)
    assert hub.files(REPO) == {**files, "notes.txt": b"theirs"}
    assert 412 in {request.status for request in hub.requests}


def test_a_hub_that_loses_a_file(hub, converted, reference):
    """What the card will promise is looked up before the last commit, whatever earlier ones were told."""
    files, _ = reference

    def lose(request, moment):
        if request.kind == "commit" and moment == "after" and hub.kinds().count("commit") == 1:
            there = hub.repository(REPO).branches["main"].files
            del there[next(path for path in there if path.startswith("data/"))]

    hub.watch = lose
    push(converted, REPO, include_images=True)
    check(hub, files)


@pytest.mark.parametrize("kind", ["info", "lfs-put", "commit"])
def test_trouble_that_stays(kind, hub, converted, reference, waits):
    """After many attempts the push gives up with a reason and goes on later; the card is not there."""
    files, _ = reference
    hub.faults.append(Fault(kind, status=503, first=2, times=10_000))
    with pytest.raises(SourceError, match="run the same push again") as caught:
        push(converted, REPO, include_images=True)
    assert caught.value.reason == "hub-503"
    assert "README.md" not in hub.files(REPO) if hub.store.repositories else True
    assert len(waits) < 100
    hub.faults.clear()
    push(converted, REPO, include_images=True)
    check(hub, files)


@pytest.mark.skipif(huggingface_hub.__version__ < "1", reason="older clients look at the switch only once")
def test_a_client_that_stays_at_home(hub, converted, waits, monkeypatch):
    """Where the client refuses to go online, nobody waits for it to change its mind."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="offline"):
        push(converted, REPO)
    assert not waits
    assert not hub.requests


def test_mistakes_are_not_trouble(hub, converted, monkeypatch):
    """An error that is nobody's trouble but a program's comes through as it is."""
    from huggingface_hub import HfApi

    def broken(self, *args, **kwargs):
        raise TypeError("a mistake")

    monkeypatch.setattr(HfApi, "create_commit", broken)
    with pytest.raises(TypeError, match="a mistake"):
        push(converted, REPO)


def test_an_interrupt(hub, converted, reference, monkeypatch):
    """Ctrl-C comes through at once; the same push goes on."""
    files, _ = reference
    from huggingface_hub import HfApi

    original = HfApi.create_commit

    def interrupted(self, *args, **kwargs):
        original(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(HfApi, "create_commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        push(converted, REPO, include_images=True)
    monkeypatch.setattr(HfApi, "create_commit", original)
    push(converted, REPO, include_images=True)
    check(hub, files)
