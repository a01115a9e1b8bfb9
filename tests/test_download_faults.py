"""A server with every fault: a download ends with the right bytes, or with an error and no file."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace

import pytest
from support.downloading import NAME, PATH, PIECE, fetch, hurry, md5, shard_bytes
from support.misbehaving_server import Answer, MisbehavingServer, busy, redirect, web_page

from sa1b_hf import _connections
from sa1b_hf._journal import read_journal
from sa1b_hf.errors import SA1BError, SourceError

TOLD_TYPE = {"Content-Type": "application/octet-stream"}
# Where a splice of two gzip streams is found depends on where it is.
SPLICED = frozenset(
    {"gzip-data", "gzip-crc", "gzip-truncated", "header-checksum", "header-number", "gzip-trailing-data"}
)
NO_VALIDATORS = {"ETag": None, "Last-Modified": None}


@dataclass(frozen=True)
class Scenario:
    """How the server behaves, and what has to come of it.

    ``script`` and ``then`` are functions of (the shard, another one of equal length). ``reasons`` is what a refusal may
    be called, empty when the download must succeed; ``without_md5`` the same when no MD5 is known, where that differs.
    """

    script: object = lambda good, other: []
    then: object = lambda good, other: Answer()
    reasons: frozenset[str] = frozenset()
    without_md5: frozenset[str] | None = None
    other_is_fine: bool = False
    paths: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


def always(answer: Answer, *reasons: str, **more) -> Scenario:
    return Scenario(then=lambda good, other: answer, reasons=frozenset(reasons), **more)


def at_first(*answers: Answer) -> Scenario:
    """The probe is answered well, then come some bad answers, then good ones."""
    return Scenario(script=lambda good, other: [Answer(), *answers])


def serve_other(**options) -> Answer:
    return lambda good, other: Answer(body=other, **options)


def same_etag(body: bytes, good: bytes, **options) -> Answer:
    import hashlib

    return Answer(body=body, headers={"ETag": f'"{hashlib.sha256(good).hexdigest()[:16]}"'}, **options)


SCENARIOS = {
    "healthy": Scenario(),
    "early-fin": at_first(*[Answer(cut_after=9000)] * 4),
    "fin-at-once": at_first(*[Answer(cut_after=0)] * 3),
    "reset": at_first(*[Answer(cut_after=30000, cut_how="reset")] * 4),
    "stall": at_first(*[Answer(cut_after=9000, cut_how="stall")] * 2),
    "stall-before-headers": at_first(Answer(delay=0.6)),
    "http-503-retry-after": at_first(busy(503, "0"), busy(503, "0")),
    "http-429-retry-after": at_first(busy(429, "0"), busy(429, "0")),
    "http-500": at_first(Answer(status=500), Answer(status=502)),
    "http-503-for-ever": always(busy(503), "http-503"),
    "http-401": always(Answer(status=401), "http-401"),
    "http-403": always(Answer(status=403), "http-403"),
    "http-404": always(Answer(status=404), "http-404"),
    "http-410": always(Answer(status=410), "http-410"),
    "http-403-midway": Scenario(
        script=lambda good, other: [Answer(), Answer(cut_after=20000), Answer(cut_after=20000)],
        then=lambda good, other: Answer(status=403),
        reasons=frozenset({"http-403"}),
    ),
    "content-length-too-long": Scenario(
        then=lambda good, other: Answer(ignore_range=True, headers={"Content-Length": str(len(good) + 1000)}),
        reasons=frozenset({"truncated-source", "connection-lost", "source-changed", "timeout"}),
    ),
    "content-length-too-short": Scenario(
        then=lambda good, other: Answer(ignore_range=True, headers={"Content-Length": str(len(good) - 1000)}),
        reasons=frozenset({"wrong-md5"}),
        without_md5=frozenset({"gzip-truncated"}),
    ),
    "range-length-wrong": always(Answer(headers={"Content-Length": "77"}), "wrong-range"),
    "range-ignored": always(Answer(ignore_range=True)),
    "range-ignored-and-cut": Scenario(
        script=lambda good, other: [Answer(ignore_range=True)] * 1 + [Answer(ignore_range=True, cut_after=50000)] * 3,
        then=lambda good, other: Answer(ignore_range=True),
    ),
    "range-ignored-midway": Scenario(
        script=lambda good, other: [Answer(), Answer(cut_after=20000), Answer(cut_after=20000)],
        then=lambda good, other: Answer(ignore_range=True),
        reasons=frozenset({"no-ranges"}),
    ),
    "range-capped": always(Answer(max_range=5000)),
    "wrong-content-range": Scenario(
        script=lambda good, other: [Answer()],
        then=lambda good, other: Answer(headers={"Content-Range": f"bytes 0-99/{len(good)}"}),
        reasons=frozenset({"wrong-range"}),
    ),
    "garbled-content-range": always(Answer(headers={"Content-Range": "bytes some-of-it"}), "wrong-range"),
    "content-range-of-another-size": Scenario(
        script=lambda good, other: [Answer()],
        then=lambda good, other: Answer(headers={"Content-Range": f"bytes 0-99/{len(good) + 5}"}),
        reasons=frozenset({"wrong-range", "source-changed"}),
    ),
    "etag-changes-midway": Scenario(
        script=lambda good, other: [Answer(), Answer(cut_after=20000), Answer(cut_after=20000)],
        then=serve_other(),
        reasons=frozenset({"wrong-md5"}),
        without_md5=frozenset(),
        other_is_fine=True,
    ),
    "etag-changes-and-if-range-is-ignored": Scenario(
        script=lambda good, other: [Answer(), Answer(cut_after=20000), Answer(cut_after=20000)],
        then=serve_other(ignore_if_range=True),
        reasons=frozenset({"wrong-md5"}),
        without_md5=frozenset(),
        other_is_fine=True,
    ),
    "content-changes-unannounced": Scenario(
        script=lambda good, other: [Answer(), same_etag(good, good, cut_after=20000)] * 1,
        then=lambda good, other: same_etag(other, good),
        reasons=frozenset({"wrong-md5"}),
        without_md5=SPLICED,
    ),
    "content-changes-without-validators": Scenario(
        script=lambda good, other: [Answer(headers=NO_VALIDATORS), Answer(headers=NO_VALIDATORS, cut_after=20000)],
        then=serve_other(headers=NO_VALIDATORS),
        reasons=frozenset({"wrong-md5"}),
        without_md5=frozenset(),
        other_is_fine=True,
    ),
    "without-validators": always(Answer(headers=NO_VALIDATORS)),
    "web-page": always(web_page(), "not-a-shard"),
    "web-page-midway": Scenario(
        script=lambda good, other: [Answer(), Answer(cut_after=20000), Answer(cut_after=20000)],
        then=lambda good, other: web_page(),
        reasons=frozenset({"not-a-shard"}),
    ),
    "web-page-that-says-it-is-a-tar": always(
        replace(web_page(), headers=TOLD_TYPE), "wrong-md5", without_md5=frozenset({"not-a-shard"})
    ),
    "content-encoding": always(Answer(headers={"Content-Encoding": "gzip"}), "content-encoding"),
    "redirect": always(redirect("/elsewhere"), paths={"/elsewhere": Answer()}),
    "redirect-to-expired": always(redirect("/elsewhere"), "http-403", paths={"/elsewhere": Answer(status=403)}),
    "redirect-in-circles": always(redirect(PATH), "bad-redirect"),
    "trickle": always(
        Answer(trickle=(20, 0.02)), "too-slow", "truncated-source", "connection-lost", "timeout", options={"retries": 1}
    ),
    "cut-at-the-same-place": Scenario(
        then=lambda good, other: Answer(ignore_range=True, cut_after=len(good) // 2),
        reasons=frozenset({"truncated-source"}),
    ),
    "flipped-byte": Scenario(
        then=lambda good, other: same_etag(flipped(good), good),
        reasons=frozenset({"wrong-md5"}),
        without_md5=SPLICED,
    ),
    "chunked": always(Answer(framing="chunked", ignore_range=True)),
    "chunked-and-cut-for-ever": Scenario(
        then=lambda good, other: Answer(framing="chunked", ignore_range=True, cut_after=len(good) // 2),
        reasons=frozenset({"truncated-source"}),
    ),
    "no-length": always(Answer(framing="close", ignore_range=True)),
    "no-length-and-cut": Scenario(
        then=lambda good, other: Answer(framing="close", ignore_range=True, cut_after=len(good) // 2),
        reasons=frozenset({"wrong-md5"}),
        without_md5=frozenset({"gzip-truncated"}),
    ),
    "empty": always(Answer(body=b""), "empty"),
    "not-satisfiable": always(Answer(status=416), "past-end"),
    "another-file": Scenario(
        then=serve_other(), reasons=frozenset({"wrong-md5"}), without_md5=frozenset(), other_is_fine=True
    ),
}


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """A shard, and the bytes of another one of equal length."""
    folder = tmp_path_factory.mktemp("bodies")
    good = shard_bytes(folder, seed=1, num_images=90)
    other = shard_bytes(folder, seed=2)
    # Zero bytes after the trailer are legal gzip padding: they bring another whole shard to the same length.
    assert len(other) < len(good)
    return good, other.ljust(len(good), b"\0")


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    hurry(monkeypatch)
    monkeypatch.setattr(_connections, "_MIN_RATE", 60_000.0)


def begin(folder, server, good) -> None:
    """Leave a download half done."""
    url = server.add(PATH, good, script=[Answer(), *[Answer(cut_after=3 * PIECE + 5)] * 2], then=Answer(status=403))
    with pytest.raises(SourceError):
        fetch(folder, url)
    key, pieces = read_journal(folder / ".sa1b" / f"{NAME}.journal")
    assert key is not None
    assert 0 < len(pieces) < key.num_pieces


@pytest.mark.parametrize("md5_known", [True, False], ids=["md5", "no-md5"])
@pytest.mark.parametrize("resumed", [False, True], ids=["fresh", "resumed"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_right_bytes_or_no_file(name, resumed, md5_known, bodies, tmp_path):
    """Whatever the server does: the right file, or a typed error and no file; and then a healthy server mends it."""
    good, other = bodies
    scenario = SCENARIOS[name]
    checksums = {NAME: md5(good)} if md5_known else None
    final = tmp_path / f"{NAME}.tar"
    with MisbehavingServer() as server:
        if resumed:
            begin(tmp_path, server, good)
        script, then = scenario.script(good, other), scenario.then(good, other)
        url = server.add(PATH, good, script=script, then=then)
        for path, answer in scenario.paths.items():
            server.add(path, good, then=answer)
        reasons = scenario.reasons if md5_known or scenario.without_md5 is None else scenario.without_md5
        began = time.monotonic()
        if reasons:
            with pytest.raises(SA1BError) as caught:
                fetch(tmp_path, url, checksums=checksums, **scenario.options)
            assert caught.value.reason in reasons, str(caught.value)
            assert not final.exists()
        else:
            result = fetch(tmp_path, url, checksums=checksums, **scenario.options)
            assert result.status == ("verified" if md5_known else "complete-unverified")
            assert final.read_bytes() in ([good, other] if scenario.other_is_fine else [good])
        assert time.monotonic() - began < 20
        if reasons:
            url = server.add(PATH, good)
            assert fetch(tmp_path, url, checksums={NAME: md5(good)}).status == "verified"
            assert final.read_bytes() == good


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refusals_stop_at_once(status, bodies, tmp_path):
    """A server that says no is not asked a second time."""
    with MisbehavingServer() as server:
        url = server.add(PATH, bodies[0], then=Answer(status=status))
        with pytest.raises(SourceError) as caught:
            fetch(tmp_path, url)
        assert caught.value.reason == f"http-{status}"
        assert len(server.gets(PATH)) == 1


def test_retry_after_is_kept(bodies, tmp_path):
    """A server that asks for a second is left alone for one."""
    with MisbehavingServer() as server:
        url = server.add(PATH, bodies[0], script=[busy(503, "1")])
        began = time.monotonic()
        fetch(tmp_path, url)
        assert time.monotonic() - began >= 1


def test_every_request_names_file_and_range(bodies, tmp_path):
    """All requests but the first are conditional, and together they ask for each byte once."""
    good, _ = bodies
    with MisbehavingServer() as server:
        fetch(tmp_path, server.add(PATH, good), connections=3)
        probe, *others = server.gets(PATH)
    assert probe.range == (0, 0)
    assert all("if-range" in seen.headers for seen in others)
    assert others[0].range is not None
    asked = sorted(seen.range for seen in others)
    assert asked[0][0] == 0
    assert asked[-1][1] == len(good) - 1


def test_a_plain_tar_without_validators_is_not_spliced(tmp_path):
    """Nothing but samples can tell that a plain tar without ETag was replaced half-way; the new one is then fetched."""
    made = [shard_bytes(tmp_path, seed=seed, compression="none", order="sorted") for seed in (1, 2)]
    length = max(map(len, made))
    good, other = (data.ljust(length, b"\0") for data in made)
    with MisbehavingServer() as server:
        healthy = Answer(headers=NO_VALIDATORS)
        cut = Answer(headers=NO_VALIDATORS, cut_after=6 * PIECE)
        url = server.add(PATH, good, script=[healthy, cut, cut], then=replace(healthy, body=other))
        fetch(tmp_path / "out", url)
    assert (tmp_path / "out" / f"{NAME}.tar").read_bytes() == other


@pytest.mark.skipif(shutil.which("aria2c") is None, reason="needs aria2c")
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "trickle"])  # which it endures for long
def test_aria2c_never_shows_wrong_bytes(name, bodies, tmp_path):
    """Whatever aria2c makes of a bad server, and even without an MD5: a whole file, or a typed error and none."""
    good, other = bodies
    scenario = SCENARIOS[name]
    final = tmp_path / f"{NAME}.tar"
    with MisbehavingServer() as server:
        url = server.add(PATH, good, script=scenario.script(good, other), then=scenario.then(good, other))
        for path, answer in scenario.paths.items():
            server.add(path, good, then=answer)
        options = {"retries": 1, "engine": "aria2c"}
        began = time.monotonic()
        try:
            fetch(tmp_path, url, **options)
        except SA1BError:
            assert not final.exists()
            server.add(PATH, good)
            fetch(tmp_path, url, **options)
        assert final.read_bytes() in [good, other]
        assert time.monotonic() - began < 20
