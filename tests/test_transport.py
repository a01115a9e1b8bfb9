"""Raw bytes from disks, servers and file systems that behave, break, change and lie."""

from __future__ import annotations

import importlib
import io
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from email.message import Message
from email.utils import formatdate
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from support.misbehaving_server import Answer, MisbehavingServer, busy, random_cuts, redirect, web_page

from sa1b_hf import _http, _resume
from sa1b_hf.errors import (
    ConfigError,
    MissingExtraError,
    MissingShardsError,
    SA1BError,
    SourceChangedError,
    SourceError,
)
from sa1b_hf.transport import SupportsReveal, local_path, open_raw, read_range

DATA = random.Random(1).randbytes(300_007)
OTHER = random.Random(2).randbytes(len(DATA))
CANARY = "canary-4f1c"
TIMEOUT = 0.3


# The name `fsspec.registry` is a mapping that hides the module.
registry = importlib.import_module("fsspec.registry")


class Signed:
    """A stand-in for a signed URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    def reveal(self) -> str:
        return self._url


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Wait milliseconds between attempts, and go to the loopback server without a proxy."""
    monkeypatch.setattr(_resume, "_BACKOFF", 0.002)
    monkeypatch.setattr(_resume, "_MAX_BACKOFF", 0.02)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.delenv("NO_PROXY", raising=False)


@pytest.fixture
def server():
    with MisbehavingServer() as server:
        yield server


def drain(reader, size: int = 1 << 20) -> bytes:
    """Read to the end in calls of ``size`` bytes."""
    out = bytearray()
    buffer = bytearray(size)
    while count := reader.readinto(buffer):
        out += buffer[:count]
    assert reader.readinto(buffer) == 0
    return bytes(out)


def fetch(url, size: int = 1 << 20, **options) -> bytes:
    """Read a source whole with a short timeout."""
    with open_raw(url, **{"timeout": TIMEOUT, **options}) as reader:
        return drain(reader, size)


# --- a healthy source of any kind


@pytest.fixture(params=["path", "pathlike", "file-url", "http", "signed", "memory", "chain", "plugin"])
def place(request, tmp_path, server):
    """The same bytes behind every kind of source."""
    path = tmp_path / "sa 000000.tar"
    path.write_bytes(DATA)
    fsspec.filesystem("memory").pipe_file("/place/sa_000000.tar", DATA)
    url = server.add("/sa_000000.tar", DATA)
    FlakyFileSystem.reset()
    return {
        "path": str(path),
        "pathlike": path,
        "file-url": path.as_uri(),
        "http": url,
        "signed": Signed(f"{url}?oh={CANARY}"),
        "memory": "memory://place/sa_000000.tar",
        "chain": "filecache::memory://place/sa_000000.tar",
        "plugin": "flaky://place/sa_000000.tar",
    }[request.param]


@pytest.mark.parametrize("offset", [0, 1, 70_000, len(DATA)])
@pytest.mark.parametrize("size", [4_099, 1 << 20])
def test_reads_from_any_offset(place, offset, size):
    """Every kind of source gives its bytes from the offset to the end, and knows size and position."""
    with open_raw(place, offset=offset) as reader:
        assert (reader.tell(), reader.size) == (offset, len(DATA))
        assert drain(reader, size) == DATA[offset:]
        assert reader.tell() == len(DATA)
        assert CANARY not in reader.location + repr(reader)
        assert "000000" in reader.location


@pytest.mark.parametrize(("start", "length"), [(0, 10), (5_000, 100_000), (len(DATA) - 3, 3), (7, 0)])
def test_reads_an_exact_range(place, start, length):
    """A range comes back exactly, its last byte included."""
    assert read_range(place, start, length) == DATA[start : start + length]


@pytest.mark.parametrize(("start", "length"), [(len(DATA) - 3, 4), (len(DATA) + 1, 1), (0, len(DATA) + 1)])
def test_range_past_the_end(place, start, length):
    """A range that is not wholly inside the source is an error, never a short answer."""
    with pytest.raises(SourceError) as caught:
        read_range(place, start, length)
    assert caught.value.reason == "past-end"


def test_offset_past_the_end(place):
    """Opening beyond the end is an error that gives both numbers."""
    with pytest.raises(SourceError, match=rf"{len(DATA) + 1}.*{len(DATA)}") as caught:
        open_raw(place, offset=len(DATA) + 1)
    assert caught.value.reason == "past-end"


def test_reads_into_the_middle_of_a_buffer(place):
    """Bytes land in the caller's memory, and nowhere outside the view that was passed."""
    buffer = bytearray(b"x" * 30)
    with open_raw(place) as reader:
        assert reader.readinto(memoryview(buffer)[10:20]) == 10
        assert reader.readinto(bytearray()) == 0
        assert reader.tell() == 10
    assert buffer == b"x" * 10 + DATA[:10] + b"x" * 10


def test_closed_reader_refuses(place):
    """A closed reader closes again in peace and reads no more."""
    reader = open_raw(place)
    reader.close()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.readinto(bytearray(1))


@pytest.mark.parametrize("options", [{"offset": -1}, {"retries": -1}, {"timeout": 0}, {"timeout": float("nan")}])
def test_refuses_senseless_options(options, tmp_path):
    """Options out of range are told apart before anything is opened."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        open_raw(tmp_path / "absent", **options)


def test_refuses_negative_length(tmp_path):
    """A range cannot have a negative length."""
    with pytest.raises(ConfigError, match="length"):
        read_range(tmp_path / "absent", 0, -1)


# --- local files


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("/data/sa_000000.tar", "/data/sa_000000.tar"),
        ("sa_000000.tar", "sa_000000.tar"),
        (Path("a/b.tar"), "a/b.tar"),
        ("file:///data/a%20b.tar", "/data/a b.tar"),
        ("file://localhost/data/a.tar", "/data/a.tar"),
        ("odd::name.tar", "odd::name.tar"),
        ("./what?.tar", "./what?.tar"),
        ("C:/a.tar", "C:/a.tar"),
        ("https://host/a.tar", None),
        ("hf://datasets/a/b/c.tar", None),
        ("simplecache::s3://a/b", None),
        (Signed("https://host/a.tar?x=1"), None),
    ],
)
def test_local_path(source, path):
    """Paths and file URLs are local, all else is not."""
    assert local_path(source) == (None if path is None else Path(path))


def test_signed_protocol():
    """A signed URL is recognised by its `reveal`, not by its class."""
    assert isinstance(Signed("x"), SupportsReveal)
    assert not isinstance(Path("x"), SupportsReveal)


def test_missing_file(tmp_path):
    """A file that is not there is named as a missing shard, which is a FileNotFoundError too."""
    for path in (tmp_path / "sa_000007.tar", tmp_path / "sa_000007.tar" / "below"):
        with pytest.raises(MissingShardsError, match="sa_000007"):
            open_raw(path)
    (tmp_path / "file").touch()
    with pytest.raises(MissingShardsError):
        open_raw(tmp_path / "file" / "below")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_not_a_file(tmp_path, kind):
    """A folder or a named pipe is refused at once; opening the pipe would have waited for ever."""
    path = tmp_path / kind
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(SourceError, match=kind) as caught:
        open_raw(path)
    assert caught.value.reason == "not-a-file"


def test_null_byte_in_path():
    """A path that no system accepts is a configuration error."""
    with pytest.raises(ConfigError, match="null"):
        open_raw("a\0b")


@pytest.mark.parametrize("change", ["shrinks", "grows"])
def test_local_file_changes_size(tmp_path, change):
    """A file that ends elsewhere than it did when it was opened is not passed off as whole."""
    path = tmp_path / "sa_000003.tar"
    path.write_bytes(DATA)
    with open_raw(path) as reader:
        reader.readinto(bytearray(1000))
        if change == "shrinks":
            os.truncate(path, 2000)
        else:
            with path.open("ab") as file:
                file.write(b"more")
        with pytest.raises(SourceChangedError, match=str(len(DATA))) as caught:
            drain(reader)
    assert caught.value.reason == "source-changed"


# --- HTTP: drops that are survived


@pytest.mark.parametrize("seed", range(3))
def test_survives_fifty_random_cuts(server, seed):
    """Through 60 cuts, closed or reset at random places, the bytes are the file's."""
    cuts = random_cuts(60, 9_000, seed)
    url = server.add("/a.tar", DATA, script=cuts)
    assert fetch(url, retries=8) == DATA
    gets = server.gets("/a.tar")
    assert len(gets) == 61
    starts = [seen.range[0] if seen.range else 0 for seen in gets]
    assert starts == sorted(starts)
    assert all(seen.headers["if-range"].startswith('"') for seen in gets if seen.range)


@given(st.lists(st.tuples(st.integers(1, 3000), st.sampled_from(["fin", "reset"])), max_size=12), st.integers(1, 5000))
@settings(max_examples=25, deadline=None)
def test_any_cuts_any_buffer(cuts, size):
    """Wherever the cuts fall and however the caller reads, nothing is lost or doubled."""
    data = DATA[:8_000]
    script = [Answer(cut_after=after, cut_how=how) for after, how in cuts]
    with MisbehavingServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_resume, "_BACKOFF", 0.0005)
        assert fetch(server.add("/a.tar", data, script=script), size, retries=12, timeout=2) == data


@pytest.mark.parametrize(
    "answer",
    [
        Answer(cut_after=50_000, cut_how="stall"),
        Answer(cut_after=50_000, cut_how="reset"),
        Answer(cut_after=50_000),
        Answer(cut_after=0),
        Answer(cut_after=0, cut_how="stall"),
        Answer(cut_after=150_000, framing="chunked"),
        Answer(cut_after=150_000, framing="chunked", cut_how="stall"),
        Answer(cut_after=150_000, framing="chunked", cut_how="reset"),
        Answer(cut_after=150_000, ignore_range=True),
        Answer(delay=0.5),
        busy(503),
        busy(500),
        busy(429, "0"),
        busy(503, formatdate(time.time() - 5, usegmt=True)),
        busy(503, "soon"),
    ],
)
@pytest.mark.parametrize("begun", [False, True], ids=["first", "later"])
def test_survives_passing_troubles(server, answer, begun, caplog):
    """Cuts, stalls, resets, late and refused answers pass, at the first request and at a later one."""
    script = [Answer(cut_after=1000), answer] if begun else [answer]
    url = server.add("/a.tar", DATA, script=script)
    assert fetch(url) == DATA
    assert len(server.gets("/a.tar")) == len(script) + 1
    warnings = [record for record in caplog.records if record.name.startswith("sa1b_hf")]
    assert len(warnings) == len(script)
    assert all(record.levelno == logging.WARNING and url in record.getMessage() for record in warnings)


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_unknown_length(server, framing):
    """A server that tells no length is read to its end."""
    url = server.add("/a.tar", DATA, then=Answer(framing=framing))
    with open_raw(url) as reader:
        assert reader.size is None
        assert drain(reader) == DATA
        assert reader.size == len(DATA)


def test_cut_in_a_body_without_length_right_at_its_end(server):
    """When all bytes but not the last chunk arrived, asking for more is answered 416: that is the end."""
    url = server.add("/a.tar", DATA, script=[Answer(cut_after=len(DATA), framing="chunked")])
    assert fetch(url) == DATA
    assert server.gets("/a.tar")[-1].range == (len(DATA), None)


def test_server_that_ignores_ranges(server):
    """Without ranges the same file is read again up to the place of the drop."""
    script = [Answer(cut_after=n, ignore_range=True) for n in (100_000, 50_000, 200_000)]
    url = server.add("/a.tar", DATA, script=script, then=Answer(ignore_range=True))
    assert fetch(url) == DATA
    assert fetch(url, offset=123_456) == DATA[123_456:]


def test_reset_before_a_full_read_still_makes_progress(server):
    """A line that always dies early is read in smaller pieces instead of being given up."""
    data = DATA[:100_000]
    url = server.add("/a.tar", data, then=Answer(cut_after=30_000, cut_how="reset"))
    assert fetch(url) == data


def test_trickle_is_not_a_stall(server):
    """A slow server is waited for as long as it sends anything within the timeout."""
    url = server.add("/a.tar", DATA[:2000], script=[Answer(trickle=(500, 0.1))])
    assert fetch(url) == DATA[:2000]
    assert len(server.gets("/a.tar")) == 1


def test_retry_after_is_honoured(server):
    """The next attempt comes no sooner than the server asked."""
    url = server.add("/a.tar", DATA, script=[busy(503, "1")])
    began = time.monotonic()
    assert fetch(url) == DATA
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("100000", 120, 120),
        ("999999999999999999999", 0, 0),
        ("-5", 0, 0),
        ("", 0, 0),
        ("soon", 0, 0),
        ("Mon, 99 Foo", 0, 0),
        (lambda: formatdate(time.time() + 60, usegmt=True), 20, 60),
        (lambda: formatdate(time.time() + 9e6, usegmt=True), 120, 120),
        (lambda: formatdate(time.time() - 60, usegmt=True), 0, 0),
    ],
)
def test_retry_after_values(value, low, high):
    """Seconds and dates are understood and capped, nonsense counts as nothing."""
    headers = Message()
    # a date is made now, not when the tests were collected
    headers["Retry-After"] = value() if callable(value) else value
    assert low <= _http._retry_after(headers) <= high


# --- HTTP: when to give up


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(cut_after=0), "truncated-source"),
        (Answer(cut_after=0, cut_how="stall"), "timeout"),
        (Answer(cut_after=0, cut_how="reset"), "connection-lost"),
        (Answer(cut_after=0, framing="chunked"), "truncated-source"),
        (busy(503), "http-503"),
        (busy(429), "http-429"),
    ],
)
def test_gives_up_without_progress(server, answer, reason):
    """After ``retries`` further attempts in a row without a byte the error says why and where."""
    url = server.add("/sa_000004.tar", DATA, script=[Answer(cut_after=1000)], then=answer)
    with open_raw(url, retries=2, timeout=0.1) as reader, pytest.raises(SourceError, match="byte 1000") as caught:
        drain(reader)
    assert (caught.value.reason, caught.value.shard, caught.value.where) == (reason, "sa_000004", {"offset": 1000})
    assert len(server.gets("/sa_000004.tar")) == 3


def test_progress_resets_the_count(server):
    """Many more drops than ``retries`` are survived as long as each attempt gains something."""
    url = server.add("/a.tar", DATA, script=[Answer(cut_after=20_000)] * 14)
    assert fetch(url, retries=1) == DATA


def test_nobody_listens():
    """A refused connection is tried again, then told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceError, match="refused") as caught:
        open_raw(f"http://127.0.0.1:{port}/a.tar", retries=1)
    assert caught.value.reason == "connection-lost"


@pytest.mark.parametrize("begun", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "token"), (403, "fresh links file"), (404, "address"), (410, "mirror"), (418, "browser")],
)
def test_refusals_stop_at_once(server, status, advice, begun):
    """A final answer is not asked for twice, and says what to do."""
    script = [Answer(cut_after=1000)] if begun else []
    url = server.add("/a.tar", DATA, script=script, then=Answer(status=status))
    with pytest.raises(SourceError, match=advice) as caught:
        fetch(url)
    assert caught.value.reason == f"http-{status}"
    assert len(server.gets("/a.tar")) == len(script) + 1


# --- HTTP: files that change and servers that lie


REPLACED = [
    Answer(body=OTHER),
    Answer(body=OTHER, ignore_if_range=True),
    Answer(body=OTHER, headers={"ETag": None, "Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}),
    Answer(body=OTHER, headers={"ETag": None, "Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}, ignore_if_range=True),
    Answer(body=DATA + b"!", headers={"ETag": None, "Last-Modified": None}),
    Answer(body=DATA + b"!", headers={"ETag": None, "Last-Modified": None}, ignore_range=True),
    Answer(body=DATA[:500], headers={"ETag": None, "Last-Modified": None}, ignore_if_range=True),
    Answer(headers={"ETag": '"v2"'}),
]


@pytest.mark.parametrize("answer", REPLACED)
def test_changed_file_is_never_spliced(server, answer):
    """Another ETag, date or length after a drop ends the reading; no byte of the new file is delivered."""
    url = server.add("/sa_000004.tar", DATA, script=[Answer(cut_after=1000)], then=answer)
    buffer = bytearray(1 << 20)
    with open_raw(url) as reader:
        assert reader.readinto(buffer) == 1000
        with pytest.raises(SourceChangedError, match="start this shard again") as caught:
            reader.readinto(buffer)
        assert reader.tell() == 1000
    assert caught.value.reason == "source-changed"
    assert len(server.gets("/sa_000004.tar")) == 2


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"ETag": 'W/"weak"'}, {"ETag": 'W/"weak"'}),
        ({"ETag": 'W/"same"'}, {"ETag": '"same"'}),
        ({"ETag": None}, {"ETag": None}),
        ({"ETag": None, "Last-Modified": None}, {"ETag": None, "Last-Modified": None}),
        ({}, {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}),
    ],
)
@pytest.mark.parametrize("ignore_range", [False, True])
def test_unchanged_file_goes_on(server, first, then, ignore_range):
    """Weak or missing validators do not hinder resuming; an equal ETag outweighs a new date."""
    script = [Answer(cut_after=1000, headers=first)]
    url = server.add("/a.tar", DATA, script=script, then=Answer(headers=then, ignore_range=ignore_range))
    assert fetch(url) == DATA
    validator = server.gets("/a.tar")[1].headers.get("if-range", "")
    assert not validator.startswith("W/")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 0-299006/300007"},
        {"Content-Range": "bytes 999-300006/300007"},
        {"Content-Range": "bytes 1001-300006/300007"},
        {"Content-Range": "bytes 1000-300006/*"},
        {"Content-Range": "bytes 1000-300007/300007"},
        {"Content-Range": "bytes 1000-999/300007"},
        {"Content-Range": "bytes 1000-200000/300007"},
        {"Content-Range": "items 1000-300006/300007"},
        {"Content-Range": "nonsense" * 100},
        {"Content-Range": None},
    ],
)
def test_wrong_content_range(server, headers):
    """A 206 that does not begin exactly at the byte asked for, or contradicts itself, is refused."""
    url = server.add("/a.tar", DATA, script=[Answer(cut_after=1000)], then=Answer(headers=headers))
    with pytest.raises(SourceError) as caught:
        fetch(url)
    assert caught.value.reason == "wrong-range"
    assert len(str(caught.value)) < 400


def test_range_shorter_than_asked(server):
    """A server that gives less than the rest in a 206 is asked for what is missing."""
    part = Answer(body=DATA[:5000], headers={"Content-Range": f"bytes 1000-4999/{len(DATA)}"}, ignore_if_range=True)
    etag = {"ETag": '"one"'}
    script = [Answer(cut_after=1000, headers=etag), Answer(**{**part.__dict__, "headers": {**part.headers, **etag}})]
    url = server.add("/a.tar", DATA, script=script, then=Answer(headers=etag))
    assert fetch(url) == DATA


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (web_page(), "not-a-shard"),
        (Answer(headers={"Content-Encoding": "gzip"}), "content-encoding"),
        (redirect("/a.tar"), "bad-redirect"),
        (redirect("ftp://127.0.0.1/a.tar"), "bad-redirect"),
        (redirect("file:///etc/hostname"), "bad-redirect"),
        (redirect("http://[broken/"), "bad-redirect"),
        (Answer(status=302), "bad-redirect"),
    ],
)
@pytest.mark.parametrize("begun", [False, True], ids=["first", "later"])
def test_answers_that_are_no_shard(server, answer, reason, begun):
    """Web pages, encoded bodies and redirects to nowhere are refused at once."""
    url = server.add("/a.tar", DATA, script=[Answer(cut_after=1000)] if begun else [], then=answer)
    with pytest.raises(SourceError) as caught:
        fetch(url)
    assert caught.value.reason == reason


def test_identity_encoding_is_asked_for(server):
    """The request asks for the file's own bytes, and for no range where none is needed."""
    url = server.add("/a.tar", DATA)
    fetch(url)
    (seen,) = server.gets("/a.tar")
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.range is None


def test_range_request_to_a_server_without_ranges(server):
    """A random access is refused rather than turned into a download of the whole shard."""
    url = server.add("/a.tar", DATA, then=Answer(ignore_range=True))
    assert read_range(url, 0, 100) == DATA[:100]
    with pytest.raises(SourceError, match="download") as caught:
        read_range(url, 1, 100)
    assert caught.value.reason == "no-ranges"


def test_range_survives_a_drop(server):
    """One request for the range, and one for what was missing."""
    url = server.add("/a.tar", DATA, script=[Answer(cut_after=10_000)])
    assert read_range(url, 5000, 50_000) == DATA[5000:55_000]
    assert [seen.range for seen in server.gets("/a.tar")] == [(5000, 54_999), (15_000, 54_999)]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_follows_redirects_anew_after_a_drop(server, status):
    """A drop goes back to the first address, since the place it redirected to may have expired."""
    url = server.add("/a.tar", b"", script=[redirect("/b.tar?sig=1", status)], then=redirect("/c.tar?sig=2", status))
    etag = {"ETag": '"same"'}
    server.add("/b.tar", DATA, script=[Answer(cut_after=1000, headers=etag)], then=Answer(status=403))
    server.add("/c.tar", DATA, then=Answer(headers=etag))
    assert fetch(url) == DATA


def test_redirect_to_an_expired_link(server):
    """A redirect to a link that has expired is told as what it is."""
    url = server.add("/a.tar", b"", then=redirect(f"/b.tar?sig={CANARY}"))
    server.add("/b.tar", DATA, then=Answer(status=403))
    with pytest.raises(SourceError, match="fresh links file") as caught:
        fetch(url)
    assert CANARY not in str(caught.value)


def test_credentials_stay_at_their_origin(server):
    """Token, headers and user information reach the server they are for, and follow a redirect only within it."""
    with MisbehavingServer() as elsewhere:
        away = elsewhere.add("/c.tar", DATA)
        server.add("/a.tar", b"", then=redirect("/b.tar"))
        server.add("/b.tar", b"", then=redirect(away))
        assert fetch(server.url("/a.tar"), token="hf_x", storage_options={"headers": {"Cookie": "k"}}) == DATA
        for seen in server.requests:
            assert (seen.headers["authorization"], seen.headers["cookie"]) == ("Bearer hf_x", "k")
        (seen,) = elsewhere.requests
        assert not {"authorization", "cookie"} & seen.headers.keys()


def test_user_information_becomes_basic_authorization(server):
    """``user:password@`` in an address is sent as the header it stands for, never as part of the host."""
    server.add("/a.tar", DATA)
    url = f"http://me:p%40ss@127.0.0.1:{server.port}/a.tar"
    with open_raw(url) as reader:
        assert drain(reader) == DATA
        assert reader.location == server.url("/a.tar")
    assert server.requests[0].headers["authorization"] == "Basic bWU6cEBzcw=="
    assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


def test_proxy_of_the_environment_is_used(server, monkeypatch):
    """``http_proxy`` is honoured."""
    monkeypatch.setenv("http_proxy", server.url(""))
    server.add("/a.tar", DATA)
    assert fetch("http://shards.invalid/a.tar") == DATA
    assert server.requests[0].target == "http://shards.invalid/a.tar"


def test_unusual_characters_in_a_url(server):
    """Spaces and letters beyond ASCII are escaped, what is escaped stays so."""
    server.add("/a%20b%C3%A9%2F.tar", DATA)
    assert fetch(server.url("/a bé%2F.tar?q=ü")) == DATA
    assert server.requests[0].target.endswith("?q=%C3%BC")


@pytest.mark.parametrize(
    "url", ["http://", "https:///a.tar", "http://[::1/a", "http://h:99999/a", "http://h:x/a", "http://a b/c", "http://" + "a" * 300 + "/"]
)  # fmt: skip
def test_senseless_urls(url):
    """An address that cannot be asked is a configuration error, not a failed connection."""
    with pytest.raises((ConfigError, SourceError)) as caught:
        open_raw(url, retries=0)
    assert isinstance(caught.value, ConfigError) or len(url) > 300


def test_senseless_proxy(server, monkeypatch):
    """A proxy of a kind that is not spoken here is a configuration error."""
    monkeypatch.setenv("http_proxy", "socks9://localhost:1")
    with pytest.raises(ConfigError, match="proxy"):
        open_raw(server.url("/a.tar"))


def test_http_takes_no_other_options(server):
    """Options that HTTP would ignore are refused, by name only."""
    with pytest.raises(ConfigError, match="client_kwargs") as caught:
        open_raw(server.url("/a.tar"), storage_options={"client_kwargs": CANARY})
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01 binary\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
    ],
)
def test_broken_http(raw):
    """Whatever comes instead of HTTP ends in a typed error and not in a crash, a hang or silence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(raw)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(SourceError) as caught:
            fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/a.tar", retries=1)
        if raw.endswith(b"abc"):
            with socket.create_connection(listener.getsockname()):
                pass
        thread.join(5)
    assert caught.value.reason in {"connection-lost", "truncated-source", "wrong-range"}


def test_interrupt_passes_and_loses_nothing(server):
    """Ctrl-C in the middle of a read comes through at once, and reading on afterwards goes on at the right byte."""
    url = server.add("/a.tar", DATA, script=[Answer(trickle=(50_000, 0.1))])
    with open_raw(url, timeout=20) as reader:
        assert reader.readinto(bytearray(1000)) == 1000
        timer = threading.Timer(0.25, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        timer.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            reader.readinto(bytearray(1 << 20))
        assert time.monotonic() - began < 5
        timer.join()
        assert reader.tell() == 1000
        assert drain(reader) == DATA[1000:]


# --- file systems


class FlakyFile(io.BytesIO):
    """Fails or ends early after some reads."""

    def readinto(self, buffer) -> int:
        fault = FlakyFileSystem.faults.pop(0) if FlakyFileSystem.faults else None
        if isinstance(fault, Exception):
            raise fault
        if fault == "short":
            return 0
        return super().readinto(memoryview(buffer)[: fault or 100_000])


class FlakyFileSystem(fsspec.AbstractFileSystem):
    """A file system in memory whose connections drop as told, as a Hub's or a bucket's do."""

    protocol = "flaky"
    cachable = False

    @classmethod
    def reset(cls) -> None:
        cls.data, cls.identity, cls.faults, cls.opened, cls.options = DATA, "v1", [], [], {}

    def __init__(self, *args, **options) -> None:
        super().__init__(*args)
        type(self).options = options

    def info(self, path, **kwargs):
        kind = "directory" if path.endswith("folder") else "file"
        return {"name": path, "type": kind, "size": len(self.data), "ETag": self.identity}

    def _open(self, path, mode="rb", block_size=None, **kwargs):
        FlakyFileSystem.opened.append(path)
        if path.endswith("absent.tar"):
            raise FileNotFoundError(f"https://host/x?{CANARY}")
        return FlakyFile(self.data)

    def cat_file(self, path, start=None, end=None, **kwargs):
        fault = FlakyFileSystem.faults.pop(0) if FlakyFileSystem.faults else None
        if isinstance(fault, Exception):
            raise fault
        return self.data[start:end]


fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)


@pytest.fixture
def flaky():
    FlakyFileSystem.reset()
    return FlakyFileSystem


class HttpStatusError(Exception):
    """As the Hub's client raises them."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} for https://host/x?{CANARY}")
        self.response = type("Response", (), {"status_code": status})()


@pytest.mark.parametrize(
    "fault", [OSError("gone"), TimeoutError(), ConnectionResetError(), RuntimeError("odd client"), HttpStatusError(503)]
)
def test_file_system_is_reopened_in_place(flaky, fault, caplog):
    """Errors of any class in mid-file lead to reopening at the same byte."""
    flaky.faults = [5000, fault, fault, 7000, fault, "short", 1]
    assert fetch("flaky://shards/sa_000000.tar") == DATA
    assert len(flaky.opened) == 5
    assert len(caplog.records) == 4
    assert CANARY not in caplog.text


def test_file_system_range_is_retried(flaky):
    """A range from a file system is one request, repeated when it fails."""
    flaky.faults = [OSError("gone"), HttpStatusError(502)]
    assert read_range("flaky://a/b.tar", 10, 2_000_000 // 10) == DATA[10 : 10 + 200_000]
    assert flaky.opened == []


@pytest.mark.parametrize("change", ["identity", "size"])
def test_file_system_notices_change(flaky, change):
    """Another ETag or size at reopening ends the reading."""
    flaky.faults = [5000]
    with open_raw("flaky://shards/sa_000001.tar") as reader:
        reader.readinto(bytearray(1 << 20))
        flaky.faults = [OSError()]
        if change == "identity":
            flaky.identity = "v2"
        else:
            flaky.data = DATA + b"!"
        with pytest.raises(SourceChangedError, match="sa_000001"):
            drain(reader)


def test_file_system_with_a_short_file(flaky):
    """A file that keeps ending before its size is told as truncated."""
    flaky.faults = [5000] + ["short"] * 9
    with pytest.raises(SourceError, match="byte 5000") as caught:
        fetch("flaky://shards/sa_000001.tar", retries=2)
    assert caught.value.reason == "truncated-source"


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        (PermissionError(CANARY), SourceError, "permission-denied"),
        (HttpStatusError(403), SourceError, "http-403"),
        (HttpStatusError(404), SourceError, "http-404"),
        (IsADirectoryError(CANARY), SourceError, "not-a-file"),
        (FileNotFoundError(CANARY), MissingShardsError, None),
        (ImportError(CANARY), ConfigError, None),
    ],
)
def test_file_system_final_errors(flaky, fault, error, reason):
    """What no second attempt would mend is raised at once, without the client's own text."""
    flaky.faults = [1000, fault]
    with pytest.raises(error) as caught:
        fetch("flaky://shards/sa_000001.tar")
    assert getattr(caught.value, "reason", None) == reason
    assert len(flaky.opened) == 1
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_file_system_folder_and_missing_file(flaky):
    """A folder and an absent file are told apart."""
    with pytest.raises(SourceError, match="folder"):
        open_raw("flaky://a/folder")
    with pytest.raises(MissingShardsError, match=r"absent\.tar"):
        open_raw("flaky://a/absent.tar")
    with pytest.raises(MissingShardsError):
        open_raw("memory://nowhere/absent.tar")
    with pytest.raises(MissingShardsError):
        read_range("memory://nowhere/absent.tar", 0, 1)


def test_file_system_options_arrive(flaky):
    """Storage options reach the file system."""
    fetch("flaky://a/b.tar", storage_options={"endpoint": "x"})
    assert flaky.options == {"endpoint": "x"}


def test_token_for_the_hub(monkeypatch):
    """A token is handed to the Hub's file system, and to no other."""
    seen = []

    class Hub(MemoryFileSystem):
        protocol = "hf"
        cachable = False

        def __init__(self, *args, token=None, **kwargs) -> None:
            seen.append(token)
            super().__init__()

        @classmethod
        def _strip_protocol(cls, path):
            return MemoryFileSystem._strip_protocol(path.replace("hf://", "memory://"))

    monkeypatch.setitem(registry._registry, "hf", Hub)
    fsspec.filesystem("memory").pipe_file("/datasets/a/sa_000000.tar", DATA)
    assert fetch("hf://datasets/a/sa_000000.tar", token="hf_x") == DATA
    assert fetch("memory://datasets/a/sa_000000.tar", token="hf_x") == DATA
    assert seen == ["hf_x"]


def test_unknown_protocol():
    """An address of an unknown kind is told with the kinds that are known."""
    with pytest.raises(ConfigError, match="hf://"):
        open_raw("nonsense://a/b")


def test_missing_package_of_a_file_system(monkeypatch):
    """A file system whose package is absent is told with fsspec's own hint."""
    entry = {"class": "no_such_package_here.FS", "err": "Install needyfs"}
    monkeypatch.setitem(registry.known_implementations, "needy", entry)
    with pytest.raises(ConfigError, match="Install needyfs"):
        open_raw("needy://a/b")


def test_missing_extra_for_http_in_a_chain():
    """A chain over fsspec's HTTP without aiohttp names this package's extra; plain HTTP needs none of it."""
    code = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "from sa1b_hf.errors import MissingExtraError\n"
        "from sa1b_hf.transport import open_raw\n"
        "try: open_raw('simplecache::https://u:canary-4f1c@host/a.tar?canary-4f1c')\n"
        "except MissingExtraError as error: print(error)\n"
        "assert 'aiohttp.client' not in sys.modules, 'heavy import'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "sa1b_hf[http]" in done.stdout
    assert CANARY not in done.stdout
    assert issubclass(MissingExtraError, ImportError)


def test_senseless_file_system_options():
    """Options that a file system does not take are a configuration error without their values."""
    with pytest.raises(ConfigError, match="storage_options") as caught:
        open_raw("zip://a::memory://absent.zip", storage_options={"zip": CANARY})
    assert CANARY not in str(caught.value)


# --- secrets


SECRET_SCRIPTS = [
    ("gives up", [], Answer(cut_after=0)),
    ("stalls", [], Answer(cut_after=0, cut_how="stall")),
    ("resets", [Answer(cut_after=10)], Answer(cut_after=0, cut_how="reset")),
    ("refuses", [Answer(cut_after=10)], Answer(status=403)),
    ("busy", [Answer(cut_after=10)], busy(503, "0")),
    ("changes", [Answer(cut_after=10)], Answer(body=OTHER)),
    ("page", [], web_page()),
    ("range", [Answer(cut_after=10)], Answer(headers={"Content-Range": "bytes 0-1/2"})),
    ("redirects", [], redirect(f"/sa_000000.tar?x={CANARY}")),
    ("leads away", [], redirect(f"ftp://u:{CANARY}@host/?{CANARY}")),
    ("leads to port", [], redirect(f"http://u:{CANARY}@127.0.0.1:bad/?{CANARY}")),
    ("leads nowhere", [], redirect(f"http://u:{CANARY}@127.0.0.1:1/?{CANARY}")),
    ("encodes", [], Answer(headers={"Content-Encoding": "br"})),
]


@pytest.mark.parametrize(("script", "then"), [item[1:] for item in SECRET_SCRIPTS], ids=[i[0] for i in SECRET_SCRIPTS])
def test_no_secret_ever_shows(server, script, then, caplog):
    """Neither error, traceback, chain, repr nor log at DEBUG holds a query, password, header or token."""
    caplog.set_level(logging.DEBUG)
    server.add("/sa_000000.tar", DATA, script=script, then=then)
    url = f"http://me:{CANARY}@127.0.0.1:{server.port}/sa_000000.tar?oh={CANARY}#{CANARY}"
    options = {"retries": 1, "timeout": 0.1, "token": CANARY, "storage_options": {"headers": {"Cookie": CANARY}}}
    with pytest.raises(SA1BError) as caught:
        fetch(Signed(url), **options)
    error = caught.value
    shown = [str(error), repr(error), repr(error.__dict__), caplog.text]
    while error is not None:
        shown += [repr(error), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    assert any("/sa_000000.tar" in text for text in shown)
    assert not [text for text in shown if CANARY in text]
    assert any(CANARY in seen.target for seen in server.requests)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://u:p@host:8/a?b#c", "https://host:8/a"),
        ("hf://datasets/a/b@main/c.tar", "hf://datasets/a/b@main/c.tar"),
        ("simplecache::https://u:p@h/a?x=1::memory://y", "simplecache::https://h/a"),
        ("zip://a.tar::s3://key:secret@bucket/b.zip", "zip://a.tar::s3://bucket/b.zip"),
        ("https://h/a?x\ny=secret", "https://h/a"),
    ],
)
def test_masking(url, masked):
    """What remains of an address is what may be printed."""
    assert _resume.masked(url) == masked


# --- the server itself


def test_server_behaves_when_not_told_otherwise(server):
    """HEAD, ranges and validators are those of a good server."""
    import http.client

    server.add("/a.tar", DATA)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)

    def ask(method: str, **headers: str) -> tuple[int, Message, bytes]:
        connection.request(method, "/a.tar", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    status, headers, body = ask("HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(DATA)), b"")
    etag = headers["ETag"]
    assert ask("GET", Range="bytes=-5")[2] == DATA[-5:]
    status, headers, body = ask("GET", Range="bytes=10-19", **{"If-Range": etag})
    assert (status, headers["Content-Range"], body) == (206, f"bytes 10-19/{len(DATA)}", DATA[10:20])
    assert ask("GET", Range="bytes=10-19", **{"If-Range": '"x"'})[0] == 200
    assert ask("GET", Range=f"bytes={len(DATA)}-")[0] == 416
    connection.request("GET", "/absent")
    assert connection.getresponse().status == 404
    connection.close()
    assert [seen.method for seen in server.requests] == ["HEAD"] + ["GET"] * 5
