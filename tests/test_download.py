"""Downloads where all goes well: sources, choices, process-and-delete, rates, and what is said beforehand."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import fsspec
import pytest
from support.downloading import NAME, PATH, PIECE, fetch, hurry, md5, shard_bytes
from support.misbehaving_server import Answer, MisbehavingServer

from sa1b_hf import _progress
from sa1b_hf._forecast import forecast_expiry
from sa1b_hf._halt import Halt, HaltedError, RateLimit
from sa1b_hf._journal import read_journal
from sa1b_hf._origins import choose_shards, find_origins
from sa1b_hf._pieces import Claims
from sa1b_hf.catalog import SUBSETS, KnownBad, shard_info
from sa1b_hf.download import DownloadOptions, download
from sa1b_hf.errors import ConfigError, LinkExpiredError, LinksError, MissingShardsError, SourceError

OPTIONS = {"connections": 2, "retries": 2, "timeout": 0.4, "progress": False, "checksums": None}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    hurry(monkeypatch)


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return shard_bytes(tmp_path_factory.mktemp("body"))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory, body):
    """A folder with three shards."""
    folder = tmp_path_factory.mktemp("mirror")
    for number in range(3):
        (folder / f"sa_{number:06d}.tar").write_bytes(body + bytes(number))
    return folder


def links_text(server: MisbehavingServer, mirror: Path, oe: str = "7fffffff", numbers=range(3)) -> str:
    rows = [
        f"sa_{n:06d}.tar\t{server.add(f'/x{n}.tar', mirror / f'sa_{n:06d}.tar')}?oh=canary&oe={oe}" for n in numbers
    ]
    return "\n".join(["file_name\tcdn_link", *rows])


@pytest.mark.parametrize("kind", ["folder", "template", "file-url", "http", "memory", "links"])
def test_sources(kind, mirror, tmp_path):
    """Folders, templates, URLs, fsspec stores and links files all give the same files."""
    with MisbehavingServer() as server:
        links = source = None
        if kind == "links":
            links = tmp_path / "links.txt"
            links.write_text(links_text(server, mirror))
        elif kind == "http":
            for path in mirror.iterdir():
                server.add(f"/m/{path.name}", path)
            source = server.url("/m/")
        elif kind == "memory":
            store = fsspec.filesystem("memory")
            for path in mirror.iterdir():
                store.pipe_file(f"/mirror/{path.name}", path.read_bytes())
            source = "memory://mirror"
        else:
            source = {"folder": mirror, "template": f"{mirror}/sa_{{number:06d}}.tar", "file-url": f"file://{mirror}"}[
                kind
            ]
        options = DownloadOptions(**OPTIONS)
        results = list(download(tmp_path / "out", links=links, source=source, shards="0-2", options=options))
    assert sorted(result.name for result in results) == [f"sa_{number:06d}" for number in range(3)]
    for result in results:
        assert result.status == "complete-unverified"
        assert result.num_fetched == result.size
        assert result.path.read_bytes() == (mirror / result.path.name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file()) == sorted(
        path.name for path in mirror.iterdir()
    )


def test_a_rerun_fetches_nothing(mirror, tmp_path):
    """Finished shards are recognised by their receipts; a file that changed since is checked anew and replaced."""
    options = DownloadOptions(**OPTIONS)
    list(download(tmp_path, source=mirror, shards="0-1", options=options))
    assert [result.num_fetched for result in download(tmp_path, source=mirror, shards="0-1", options=options)] == [0, 0]
    torn = tmp_path / "sa_000000.tar"
    torn.write_bytes(torn.read_bytes()[:-100])
    fetched = {
        result.name: result.num_fetched for result in download(tmp_path, source=mirror, shards="0-1", options=options)
    }
    assert fetched == {"sa_000000": (mirror / "sa_000000.tar").stat().st_size, "sa_000001": 0}
    assert torn.read_bytes() == (mirror / "sa_000000.tar").read_bytes()
    assert (tmp_path / ".sa1b" / "sa_000000.rejected").exists()


def test_a_good_file_without_receipt_is_kept(mirror, tmp_path):
    """Shards that were fetched by other means are checked, and not fetched again."""
    (tmp_path / "sa_000000.tar").write_bytes((mirror / "sa_000000.tar").read_bytes())
    (result,) = download(tmp_path, source="/nowhere", shards=0, options=DownloadOptions(**OPTIONS))
    assert (result.status, result.num_fetched) == ("complete-unverified", 0)


def test_an_md5_that_is_asked_for_later_is_checked_later(mirror, tmp_path, body):
    """A receipt without MD5 does not stand in for one."""
    list(download(tmp_path, source=mirror, shards=0, options=DownloadOptions(**OPTIONS)))
    with_md5 = DownloadOptions(**{**OPTIONS, "checksums": {NAME: md5(body)}})
    (result,) = download(tmp_path, source=mirror, shards=0, options=with_md5)
    assert (result.status, result.md5, result.num_fetched) == ("verified", md5(body), 0)


class TestProcessAndDelete:
    """`delete_after` keeps no more on the disk than what is being worked on."""

    def test_each_shard_is_there_in_the_body_only(self, mirror, tmp_path):
        """A shard is deleted when the next one is asked for; a rerun knows all of them."""
        options = DownloadOptions(**OPTIONS, shards_at_once=1)
        seen = []
        for shard in download(tmp_path, source=mirror, shards="0-2", delete_after=True, options=options):
            assert [path.name for path in tmp_path.glob("*.tar")] == [f"{shard.name}.tar"]
            seen.append(shard.name)
        assert len(seen) == 3
        assert not list(tmp_path.glob("*.tar"))
        assert list(download(tmp_path, source=mirror, shards="0-2", delete_after=True, options=options)) == []
        again = download(tmp_path, source=mirror, shards="0-2", options=options)
        assert [shard.num_fetched > 0 for shard in again] == [True] * 3

    @pytest.mark.parametrize("how", ["raise", "break"])
    def test_a_body_that_does_not_finish_keeps_its_shard(self, how, mirror, tmp_path):
        """Processing that failed is done again by the next run."""
        options = DownloadOptions(**OPTIONS, shards_at_once=1)
        stream = download(tmp_path, source=mirror, shards="0-2", delete_after=True, options=options)
        failed = next(stream)
        if how == "raise":
            with pytest.raises(ZeroDivisionError):
                stream.throw(ZeroDivisionError())
        stream.close()
        assert failed.path.exists()
        rest = download(tmp_path, source=mirror, shards="0-2", delete_after=True, options=options)
        assert sorted(shard.name for shard in rest) == ["sa_000000", "sa_000001", "sa_000002"]


def test_errors_of_one_shard(mirror, tmp_path):
    """By default the first failure ends the run; with ``"warn"`` it is yielded and the others go on."""
    with MisbehavingServer() as server:
        links = links_text(server, mirror)
        server.add("/x1.tar", b"<html>", then=Answer(status=404))
        options = DownloadOptions(**OPTIONS, on_error="warn")
        results = {shard.number: shard for shard in download(tmp_path, links=links, shards="0-2", options=options)}
        assert {number: shard.status for number, shard in results.items()} == {
            0: "complete-unverified", 1: "failed", 2: "complete-unverified",
        }  # fmt: skip
        assert results[1].error.reason == "http-404"
        with pytest.raises(SourceError, match=r"fresh links file from https://ai.meta.com") as caught:
            list(download(tmp_path, links=links, shards="0-2", options=DownloadOptions(**OPTIONS)))
        assert caught.value.shard == "sa_000001"


def test_refused_links_end_the_run(mirror, tmp_path):
    """What all links would meet is not tried with each of them."""
    with MisbehavingServer() as server:
        links = links_text(server, mirror)
        for number in range(3):
            server.add(f"/x{number}.tar", b"", then=Answer(status=403, delay=0.2 * number))
        options = DownloadOptions(**OPTIONS, on_error="warn", shards_at_once=1)
        with pytest.raises(SourceError, match="403"):
            list(download(tmp_path, links=links, shards="0-2", options=options))
        assert len(server.requests) == 1


def test_expired_links_are_refused_before_a_byte_is_sent(mirror, tmp_path):
    """The time in the link is looked at first; shards that are there need no link."""
    with MisbehavingServer() as server:
        good = links_text(server, mirror)
        options = DownloadOptions(**OPTIONS)
        list(download(tmp_path, links=good, shards=0, options=options))
        num_requests = len(server.requests)
        expired = links_text(server, mirror, oe="60000000")
        with pytest.raises(LinkExpiredError, match=r"1 of 1 links have expired.*2021"):
            download(tmp_path, links=expired, shards="0-1", options=options)
        assert len(list(download(tmp_path, links=expired, shards=0, options=options))) == 1
        assert len(server.requests) == num_requests


def test_a_slow_clock_changes_nothing_for_the_worse(mirror, tmp_path, monkeypatch):
    """With a clock that runs behind, the server says that the link has expired, and the advice is the same."""
    with MisbehavingServer() as server:
        links = links_text(server, mirror, oe=f"{int(time.time()) - 3600:x}")
        server.add("/x0.tar", b"", then=Answer(status=403))
        monkeypatch.setattr("sa1b_hf._urls.datetime", SlowClock)
        with pytest.raises(SourceError, match="fresh links file") as caught:
            list(download(tmp_path, links=links, shards=0, options=DownloadOptions(**OPTIONS)))
    assert caught.value.reason == "http-403"
    assert len(server.requests) == 1


class SlowClock(datetime):
    """A day late."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) - timedelta(days=1)


def test_the_catalogue_refuses_by_length(mirror, tmp_path):
    """A file of another length than the original is refused before it is fetched, a known bad copy by name."""
    with MisbehavingServer() as server:
        links = links_text(server, mirror)
        with pytest.raises(SourceError, match="expected 11,222,978,468 bytes") as caught:
            list(download(tmp_path, links=links, shards=0, options=DownloadOptions(progress=False)))
        assert caught.value.reason == "wrong-length"
        assert len(server.requests) == 1


def test_known_bad_copies_are_named(body, tmp_path, monkeypatch):
    """A damaged copy that circulates on mirrors is recognised by its MD5, and the advice says where to get a good one."""
    bad = KnownBad(0, md5(body), size_bytes=len(body))
    monkeypatch.setattr("sa1b_hf.verify.identify_md5", {bad.md5: bad}.get)
    info = replace(shard_info(0), size_bytes=None, known_bad=(bad,))
    monkeypatch.setattr("sa1b_hf._shard_download.shard_info", lambda number: info)
    message = r"damaged copy of sa_000000.*Meta's links file"
    with MisbehavingServer() as server, pytest.raises(SourceError, match=message) as caught:
        fetch(tmp_path, server.add(PATH, body), checksums="catalogue")
    assert caught.value.reason == "known-bad"


@pytest.mark.parametrize("connections", [1, 3])
def test_rate_limit_holds_for_everything(connections, body, tmp_path):
    """Connections together stay below the rate."""
    with MisbehavingServer() as server:
        url = server.add(PATH, body)
        began = time.monotonic()
        fetch(tmp_path, url, connections=connections, max_rate=len(body) / 0.6)
    assert 0.5 < time.monotonic() - began < 3


def test_several_connections_beat_a_throttle(body, tmp_path):
    """Where the server throttles each connection, four of them are about four times as fast."""
    seconds = {}
    with MisbehavingServer() as server:
        url = server.add(PATH, body, then=Answer(trickle=(8192, 0.04)))
        for connections in (1, 4):
            began = time.monotonic()
            fetch(tmp_path / str(connections), url, connections=connections)
            seconds[connections] = time.monotonic() - began
    assert seconds[1] / seconds[4] > 2


def test_pieces_are_shared_out():
    """Every missing piece is fetched once, whoever is slow."""
    claims = Claims(100, {3, 4, 50}, 3)
    lock = threading.Lock()
    fetched: list[int] = []

    def work(delay: float) -> None:
        while (claim := claims.take()) is not None:
            more = True
            while more:
                with lock:
                    fetched.append(claim.next)
                time.sleep(delay)
                more = claims.finish_piece(claim)

    threads = [threading.Thread(target=work, args=(delay,)) for delay in (0.0001, 0.0005, 0.005)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fetched) == [index for index in range(100) if index not in {3, 4, 50}]


def test_what_is_given_back_is_taken_again():
    """A connection that gives up leaves its pieces to the others."""
    claims = Claims(4, set(), 1)
    claim = claims.take()
    claims.finish_piece(claim)
    claims.give_back(claim)
    again = claims.take()
    assert (again.next, again.end) == (1, 4)


def test_one_bad_connection_is_given_up(body, tmp_path):
    """A server that refuses the second connection is downloaded from through the first."""
    refusals = [Answer(status=503)] * 4
    with MisbehavingServer() as server:
        url = server.add(PATH, body, script=[Answer(), Answer(trickle=(4096, 0.01)), *refusals])
        assert fetch(tmp_path, url).status == "complete-unverified"
    assert (tmp_path / f"{NAME}.tar").read_bytes() == body


def test_halts():
    """Waiting ends as soon as the work, or all work, is called off."""
    parent = Halt()
    halt = Halt(parent)
    threading.Timer(0.05, parent.set).start()
    began = time.monotonic()
    with pytest.raises(HaltedError):
        halt.sleep(30)
    with pytest.raises(HaltedError):
        RateLimit(1.0).take(30, halt)
    assert time.monotonic() - began < 2


def test_forecast():
    """The first shard that will begin too late is named, with both times."""
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    oe = f"{int((now + timedelta(seconds=25)).timestamp()):x}"
    text = "\n".join(f"https://example.org/sa_{number:06d}.tar?oe={oe}" for number in range(5))
    waiting = [(origin, 1000) for origin in find_origins(range(5), links=text)]
    assert forecast_expiry(waiting, 1000.0, now) is None
    sentence = forecast_expiry(waiting, 100.0, now)
    assert sentence.startswith("at the present 0.0 MB/s sa_000003 begins around 2026-01-01 00:00 UTC")
    assert "MB/s sa_000002 begins" in forecast_expiry(waiting, 100.0, now, ahead=1000)
    assert forecast_expiry(waiting, 0.0, now) is None
    assert forecast_expiry([], 1.0, now) is None


def test_forecast_is_said_during_the_download(mirror, tmp_path, monkeypatch, caplog):
    """Whoever downloads at a rate at which the links will not last is told so, once."""
    monkeypatch.setattr("sa1b_hf.download._FORECAST_AFTER", 0.0)
    soon = f"{int(time.time()) + 600:x}"
    with MisbehavingServer() as server:
        links = links_text(server, mirror, oe=soon)
        options = DownloadOptions(**OPTIONS, shards_at_once=1, max_rate=200_000)
        list(download(tmp_path, links=links, shards="0-2", options=options))
    # The shards to come count with their real sizes of 11 GB.
    (warning,) = [record.getMessage() for record in caplog.records if "get a fresh links file" in record.getMessage()]
    assert "sa_000002 begins around" in warning
    assert "canary" not in warning


def test_choices():
    """Subsets, ranges, both; never everything by accident."""
    assert choose_shards("1pct", None) == tuple(range(10))
    assert choose_shards(None, "3,0-1") == (0, 1, 3)
    assert choose_shards("1pct", "9") == (9,)
    assert len(choose_shards("full", None)) == len(SUBSETS["full"])
    for subset, shards in ((None, None), ("1pct", "10"), ("2pct", None), (None, "1000")):
        with pytest.raises(ConfigError):
            choose_shards(subset, shards)


@pytest.mark.parametrize(
    ("places", "error", "message"),
    [
        ({}, ConfigError, "expected one of links="),
        ({"links": "a", "source": "b"}, ConfigError, "found both or none"),
        ({"source": ""}, ConfigError, "empty"),
        ({"source": "https://example.org/d?sig=canary"}, ConfigError, "has a query"),
        ({"source": "https://example.org/{name.nope}"}, ConfigError, "template"),
        ({"source": "https://example.org/{file"}, ConfigError, "template"),
        ({"links": "https://example.org/sa_000009.tar"}, MissingShardsError, "no link for sa_000000"),
        ({"links": "/nowhere/links.txt"}, LinksError, "links file"),
    ],
)
def test_places_that_make_no_sense(places, error, message):
    """What was expected is said, and no secret."""
    with pytest.raises(error, match=message) as caught:
        find_origins((0,), **places)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"connections": 0},
        {"shards_at_once": 0},
        {"retries": -1},
        {"timeout": 0},
        {"max_rate": 0},
        {"on_error": "ignore"},
        {"checksums": "md5"},
    ],
)
def test_options_that_make_no_sense(options):
    """Options are checked when they are made."""
    with pytest.raises(ConfigError, match=f"{next(iter(options))}: expected"):
        DownloadOptions(**options)


def test_progress_counts_every_byte(body, tmp_path, monkeypatch):
    """There is one bar for everything and one for each shard, and what was there already is no progress."""
    bars = []

    class Bar:
        def __init__(self, **options) -> None:
            self.n = self.initial = options["initial"]
            self.total, self.desc, self.closed = options["total"], options["desc"], False
            bars.append(self)

        def update(self, count) -> None:
            self.n += count

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(_progress, "tqdm", Bar)
    monkeypatch.setattr(_progress, "are_bars_disabled", lambda: False)
    with MisbehavingServer() as server:
        url = server.add(PATH, body, script=[Answer(), *[Answer(cut_after=4 * PIECE)] * 2], then=Answer(status=403))
        with pytest.raises(SourceError):
            fetch(tmp_path, url, progress=True)
        kept = len(read_journal(tmp_path / ".sa1b" / f"{NAME}.journal")[1]) * PIECE
        bars.clear()
        server.add(PATH, body)
        fetch(tmp_path, url, progress=True)
    overall, fetching, checking = bars
    assert (overall.n, overall.total, overall.initial) == (len(body), len(body), kept)
    assert (fetching.desc, fetching.n, fetching.total, fetching.initial) == (NAME, len(body), len(body), kept)
    assert checking.desc == f"{NAME} checking"
    assert all(bar.closed for bar in bars)


def test_nothing_but_whole_shards_is_visible(mirror, tmp_path):
    """Journals, receipts and locks are in the hidden folder; receipts are JSON without secrets."""
    with MisbehavingServer() as server:
        list(download(tmp_path, links=links_text(server, mirror), shards=0, options=DownloadOptions(**OPTIONS)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".sa1b", "sa_000000.tar"]
    receipt = json.loads((tmp_path / ".sa1b" / "sa_000000.json").read_text())
    assert receipt["status"] == "complete-unverified"
    assert "canary" not in str(receipt)


def test_a_logged_warning_says_what_happened(body, tmp_path, caplog):
    """A file that is replaced half-way is said to be another one."""
    with MisbehavingServer() as server, caplog.at_level(logging.WARNING, logger="sa1b_hf"):
        url = server.add(PATH, body, script=[Answer(), *[Answer(cut_after=4 * PIECE)] * 2], then=Answer(status=403))
        with pytest.raises(SourceError):
            fetch(tmp_path, url)
        server.add(PATH, body + b"\0")
        fetch(tmp_path, url)
    assert "is another file than the one that was begun" in caplog.text
    assert (tmp_path / f"{NAME}.tar").read_bytes() == body + b"\0"
