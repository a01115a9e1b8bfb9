"""The command line: what it prints, how it ends, and that no secret leaves it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import click
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from datasets import load_dataset
from support.downloading import hurry, shard_bytes
from support.misbehaving_server import Answer, MisbehavingServer, redirect, web_page

import sa1b_hf  # noqa: F401 -- registers the builder
from sa1b_hf import catalog
from sa1b_hf.cli import COMMANDS, main
from sa1b_hf.download import DownloadOptions, download
from sa1b_hf.errors import SA1BError
from sa1b_hf.hub import push
from sa1b_hf.verify import verify_shard

CANARY = "canary-9b1d7"
REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    hurry(monkeypatch)


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return shard_bytes(tmp_path_factory.mktemp("body"))


@pytest.fixture
def mirror(tmp_path, body):
    """A folder with the shards 0 and 1."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for number in range(2):
        (folder / f"sa_{number:06d}.tar").write_bytes(body)
    return folder


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_listing_the_commands_imports_none():
    """`sa1b --help` stays fast, whatever the commands need."""
    code = "import sys; from sa1b_hf.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert all(name in done.stdout for name in COMMANDS)
    assert not {f"sa1b_hf.cli.{name}" for name in COMMANDS} & set(done.stdout.split())


def test_every_module_of_a_command_is_listed():
    """A command that nobody can call would be dead code."""
    modules = {path.stem for path in (REPOSITORY / "sa1b_hf" / "cli").glob("[a-z]*.py")}
    assert modules == {name.replace("-", "_") for name in COMMANDS}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name):
    """The help says what a command does, what each option does, and shows a line to type."""
    command = main.get_command(click.Context(main), name)
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert f"sa1b {name} " in result.output
    assert all(getattr(option, "help", None) for option in command.params if isinstance(option, click.Option))


def test_exit_statuses_are_documented():
    """The help of the group has them all."""
    text = " ".join(run("--help").output.split())
    for status in ("0 all is well", "1 a shard", "2 the command", "3 the links", "4 the target", "130 interrupted"):
        assert status in text


def test_the_entry_point_exists():
    """`sa1b` is installed with the package."""
    assert "sa1b = sa1b_hf.cli:main" in (REPOSITORY / "setup.cfg").read_text()


def test_download_and_verify(mirror, tmp_path):
    """Downloading, checking and listing tell one story in each format."""
    out = tmp_path / "out"
    result = run("download", out, "--from", mirror, "--shards", "0-1", "--no-md5", "--format", "json")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["shard"]: line["status"] for line in lines} == dict.fromkeys(
        ["sa_000000", "sa_000001"], "complete-unverified"
    )
    result = run("verify", out, "--no-md5", "--deep")
    assert result.exit_code == 0
    assert "complete-unverified" in result.stdout
    assert "75 images delivered of 75 seen" in result.stdout
    assert run("verify", out, "--no-md5", "--format", "quiet").output == ""
    assert run("verify", out, "--no-md5", "-q", "--format", "json").output == ""
    states = [json.loads(line)["state"] for line in run(
        "shards", "--shards", "0-2", "--folder", out, "--format", "json"
    ).stdout.splitlines()]  # fmt: skip
    assert states == ["complete-unverified", "complete-unverified", "missing"]
    result = run("verify", out)
    assert result.exit_code == 1
    assert "expected MD5" in result.stdout


def test_shards():
    """The catalogue in lines: by subset, by number, by image."""
    assert len(run("shards").stdout.splitlines()) == 1000
    assert len(run("shards", "--subset", "1pct").stdout.splitlines()) == 10
    assert run("shards", "--shards", "14").stdout.strip().endswith("damaged copies on mirrors")
    assert run("shards", "--image", "223750").stdout.split()[:2] == ["sa_000020", catalog.shard_info(20).md5]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["download", "{out}", "--from", "{mirror}"], 2, "expected a choice of shards"),
        (["download", "{out}", "--subset", "1pct"], 2, "expected one of links="),
        (["download", "{out}", "--from", "{mirror}", "--shards", "9-1"], 2, "runs backwards"),
        (["download", "{out}", "--from", "{mirror}", "--shards", "0", "--max-rate", "fast"], 2, "500K or 20M"),
        (["download", "{out}", "--from", "{mirror}", "--shards", "0"], 1, "expected MD5"),
        (["download", "{out}", "--from", "{mirror}", "--shards", "7", "--no-md5"], 1, "no such file"),
        (["download", "{out}", "--links", "{expired}", "--shards", "0"], 3, "have expired"),
        (["download", "{out}", "--links", "{refused}", "--shards", "0"], 3, "fresh links file"),
        (
            ["download", "{mirror}/sa_000000.tar/x", "--from", "{mirror}", "--shards", "0", "--no-md5"],
            1,
            "cannot be written",
        ),
        (["verify", "{mirror}/sa_000009.tar"], 1, "found no file"),
        (["verify"], 2, "Missing argument"),
        (["shards", "--shards", "1000"], 2, "expected numbers from 0 to 999"),
    ],
)
def test_exit_statuses(arguments, status, message, mirror, tmp_path, monkeypatch):
    """Each kind of failure has its status, and one line that says what to do."""
    monkeypatch.setattr("sa1b_hf._shard_download.shard_info", lambda number: catalog.shard_info(99))
    with MisbehavingServer() as server:
        refused = server.add("/a/sa_000000.tar", b"", then=Answer(status=403))
        places = {"out": tmp_path / "out", "mirror": mirror}
        for name, url in {"expired": f"{refused}?oe=60000000", "refused": f"{refused}?oe=7fffffff&oh={CANARY}"}.items():
            places[name] = tmp_path / f"{name}.txt"
            places[name].write_text(f"{url}\n")
        result = run(*[argument.format(**places) for argument in arguments])
    assert result.exit_code == status, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert CANARY not in result.output


def test_a_full_disk(mirror, tmp_path, monkeypatch):
    """A full target has its own status."""
    monkeypatch.setattr("sa1b_hf._disk.RESERVE", 1 << 62)
    result = run("download", tmp_path / "out", "--from", mirror, "--shards", "0", "--no-md5")
    assert result.exit_code == 4
    assert "free some space" in result.stderr


def test_keep_going(mirror, tmp_path):
    """With --keep-going the good shards come, and the status tells of the others."""
    result = run("download", tmp_path / "out", "--from", mirror, "--shards", "0,1,5", "--no-md5", "--keep-going")
    assert result.exit_code == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == ["sa_000000.tar", "sa_000001.tar"]
    assert "sa_000005  failed" in result.stdout


def test_an_interrupt(mirror, tmp_path, monkeypatch):
    """Ctrl-C has the usual status, and the message says that nothing is lost."""

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("sa1b_hf.download.wait", interrupt)
    result = run("download", tmp_path / "out", "--from", mirror, "--shards", "0", "--no-md5")
    assert result.exit_code == 130
    assert "same command again" in result.stderr


def test_as_a_process(mirror, tmp_path):
    """Run by a shell: results on standard output, bars and errors on standard error."""
    line = [
        sys.executable,
        "-m",
        "sa1b_hf",
        "download",
        tmp_path / "out",
        "--from",
        mirror,
        "--shards",
        "0,6",
        "--no-md5",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [] or done.stdout.startswith("sa_000000  complete-unverified")
    assert "expected a shard, found no such file" in done.stderr


FAULTS = {
    "healthy": Answer(),
    "refused": Answer(status=403),
    "gone": Answer(status=410),
    "busy": Answer(status=503),
    "page": web_page(),
    "cut": Answer(cut_after=1000),
    "stalled": Answer(cut_after=1000, cut_how="stall"),
    "redirected": redirect(f"/b/sa_000000.tar?oh={CANARY}"),
    "in-circles": redirect(f"/a/sa_000000.tar?oh={CANARY}"),
    "redirected-nowhere": redirect(f"gopher://x/?oh={CANARY}"),
}


@pytest.mark.parametrize("known_md5", [True, False], ids=["md5", "no-md5"])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_secret_leaves(fault, known_md5, body, tmp_path, caplog, capfd):
    """Whatever happens, a link's signature is in no output, log, error, traceback, pickle or file."""
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "out"
    kept: list[object] = []
    with MisbehavingServer() as server:
        server.add("/b/sa_000000.tar", body, then=Answer(status=403))
        url = server.add("/a/sa_000000.tar", body, script=[Answer()], then=FAULTS[fault])
        links = tmp_path / "links.txt"
        links.write_text(
            f"sa_000000.tar\t{url.replace('http://', f'http://{CANARY}:{CANARY}@')}?oh={CANARY}&oe=7fffffff\n"
        )
        options = DownloadOptions(
            connections=2, retries=1, timeout=0.2, token=None, checksums={"sa_000000": "0" * 32} if known_md5 else None
        )
        kept.append(options)
        try:
            stream = download(out, links=links, shards=0, options=options)
            kept.append(stream)
            kept.extend(stream)
        except SA1BError as error:
            kept.append(error)
            kept.append("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
        assert any(CANARY in seen.target for seen in server.requests)
    kept.append(verify_shard(out / "sa_000000.tar"))
    printed = capfd.readouterr()
    texts = [printed.out, printed.err, caplog.text, *map(str, kept), *map(repr, kept)]
    blobs = [text.encode() for text in texts]
    blobs += [pickle.dumps(item) for item in kept if not hasattr(item, "send")]
    files = [path for path in out.rglob("*") if path.is_file()]
    blobs += [path.read_bytes() + str(path).encode() for path in files]
    assert files
    assert not [blob[:300] for blob in blobs if CANARY.encode() in blob]


def _published(ds, folder: Path, hub) -> list[bytes]:
    """Everything about a dataset that may leave the machine: files of all kinds, and a repository with its card."""
    push(ds, "ada/published", include_images=True)
    repository = hub.files("ada/published")
    assert "README.md" in repository
    ds.to_parquet(folder / "out.parquet")
    ds.remove_columns("image").to_json(folder / "out.jsonl")
    ds.save_to_disk(str(folder / "saved"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    metadata = [pyarrow.parquet.read_schema(folder / "out.parquet").metadata, ds.data.schema.metadata]
    blobs = [path.read_bytes() + str(path).encode() for path in files]
    return [*blobs, repr(metadata).encode(), *(path.encode() + data for path, data in repository.items())]


def _stream_all(links: Path) -> list[object]:
    """Give the stream, its rows without pictures, and the error that ended it with the values of its frames."""
    stream = load_dataset("sa1b.py", links=str(links), split="train", streaming=True)
    kept: list[object] = [stream, stream.info, stream.features]
    try:
        kept.extend({**row, "image": None} for row in stream)
    except SA1BError as error:
        kept.append(error)
        kept.append("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
    return kept


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "stalled"])  # which takes minutes
def test_no_secret_leaves_a_stream(fault, body, tmp_path, caplog, capfd):
    """Streaming through links, to the end or to an error, shows the signature to nobody."""
    caplog.set_level(logging.DEBUG)
    with MisbehavingServer() as server:
        server.add("/b/sa_000000.tar", body, then=Answer(status=403))
        url = server.add("/a/sa_000000.tar", body, then=FAULTS[fault])
        links = tmp_path / "links.txt"
        links.write_text(f"sa_000000.tar\t{url}?oh={CANARY}&oe=7fffffff\n")
        kept = _stream_all(links)
        assert any(CANARY in seen.target for seen in server.requests)
    assert len(kept) == (78 if fault == "healthy" else len(kept))
    printed = capfd.readouterr()
    texts = [printed.out, printed.err, caplog.text, *map(str, kept), *map(repr, kept)]
    blobs = [text.encode() for text in texts] + [pickle.dumps(item) for item in kept]
    assert not [blob[:300] for blob in blobs if CANARY.encode() in blob]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's own HTTP client
def test_no_secret_in_prepared_data(body, tmp_path, caplog, capfd, hub):
    """A dataset prepared through links has no signature in its cache, its exports, its card, its info or its pickle."""
    caplog.set_level(logging.DEBUG)
    with MisbehavingServer() as server:
        links = tmp_path / "links.txt"
        links.write_text(f"sa_000000.tar\t{server.add('/a/sa_000000.tar', body)}?oh={CANARY}&oe=7fffffff\n")
        cache = tmp_path / "cache"
        ds = load_dataset("sa1b.py", links=str(links), cache_dir=str(cache), split="train")
    out = tmp_path / "out"
    out.mkdir()
    published = _published(ds, out, hub)
    printed = capfd.readouterr()
    blobs = [path.read_bytes() + str(path).encode() for path in cache.rglob("*") if path.is_file()]
    blobs += [pickle.dumps(ds), repr((ds, ds.info, ds.data, printed, caplog.text)).encode(), *published]
    assert len(ds) == 75
    assert not any(CANARY.encode() in blob for blob in blobs)


def test_then(mirror, tmp_path):
    """Each shard is processed by a command and deleted; where the command fails, it stays, and the run ends."""
    out, copies = tmp_path / "out", tmp_path / "copies"
    copies.mkdir()
    common = ["download", out, "--from", mirror, "--shards", "0-1", "--no-md5", "--at-once", "1"]
    result = run(*common, "--then", "false {path}")
    assert result.exit_code == 1
    assert "the shard is kept" in result.stderr
    assert len(list(out.glob("*.tar"))) == 1
    assert run(*common, "--then", f"cp {{path}} {copies}").exit_code == 0
    assert sorted(path.name for path in copies.iterdir()) == ["sa_000000.tar", "sa_000001.tar"]
    assert not list(out.glob("*.tar"))
    assert run(*common, "--then", "false {path}").exit_code == 0


def test_own_md5s(mirror, body, tmp_path):
    """A mirror's own list stands in for the catalogue, in downloading and in checking."""
    listed = tmp_path / "MD5SUMS"
    listed.write_text(f"{hashlib.md5(body).hexdigest()}  sa_000000.tar\n{'0' * 32}  sa_000001.tar\n")
    common = ["download", tmp_path / "out", "--from", mirror, "--checksums", listed]
    assert "verified" in run(*common, "--shards", "0").stdout
    result = run(*common, "--shards", "1")
    assert (result.exit_code, "expected MD5 000" in result.stderr) == (1, True)
    lines = run("verify", mirror, "--checksums", listed, "--salvage", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["verified", "wrong-md5"]
    assert json.loads(lines[1])["salvage"]["num_images"] == 75
    assert run("verify", mirror, "--checksums", listed, "--no-md5").exit_code == 2


def test_downloading_is_light(mirror, tmp_path):
    """The command imports none of what only reading needs, and its process stays small, bars included."""
    code = (
        "import sys; from sa1b_hf.cli import main; main(standalone_mode=False)\n"
        "print(sorted({'datasets', 'pandas', 'pyarrow', 'torch'} & set(sys.modules)))\n"
        "import pathlib, re; status = pathlib.Path('/proc/self/status')\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1] if status.exists() else 0)"
    )
    line = ["download", tmp_path / "out", "--from", mirror, "--shards", "0-1", "--no-md5", "-q"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, line)], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    loaded, peak = done.stdout.splitlines()
    assert loaded == "[]"
    assert int(peak) < 80 << 10  # KiB; where the system does not tell, 0


def screen(text: str) -> list[str]:
    """What a terminal shows after this output, as far as progress bars use one."""
    rows, row, column, at = [[]], 0, 0, 0
    while at < len(text):
        if text.startswith("\x1b[A", at):
            row, at = max(row - 1, 0), at + 3
            continue
        char, at = text[at], at + 1
        if char == "\r":
            column = 0
        elif char == "\n":
            row += 1
            rows += [[]] * (row == len(rows))
        else:
            rows[row] = rows[row].copy() + [" "] * (column - len(rows[row]))
            rows[row][column : column + 1] = [char]
            column += 1
    return ["".join(row).rstrip() for row in rows]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_bars_lines_and_warnings_share_a_terminal(mirror, body, tmp_path):
    """There is a bar for everything and one for each shard under way; lines stand above them, and no bar stays."""
    import pty
    import termios

    out = tmp_path / "out"
    out.mkdir()
    (out / "sa_000001.tar").write_bytes(body[:-100])
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (40, 1000)) if hasattr(termios, "tcsetwinsize") else None
    line = [sys.executable, "-m", "sa1b_hf", "download", out, "--from", mirror, "--shards", "0-1", "--no-md5"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "1000",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "",
    }
    with subprocess.Popen(
        [*map(str, line), "--max-rate", "500K"], stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # which is how the end of a pseudo-terminal shows
            while data := os.read(ours, 1 << 16):
                written += data
    os.close(ours)
    assert process.returncode == 0
    text = written.decode()
    assert {name for name in ("SA-1B: ", "sa_000000: ", "sa_000001: ") if name in text} == {
        "SA-1B: ", "sa_000000: ", "sa_000001: ",
    }  # fmt: skip
    assert "Warning: sa_000001: the gzip stream ends before its trailer" in text
    lines = [line for line in screen(text) if line]
    assert [line[:9] for line in sorted(lines)] == ["Warning: ", "sa_000000", "sa_000001"]
    assert all("complete-unverified" in line and "B/s" not in line for line in lines if line.startswith("sa_"))


def test_report(mirror, tmp_path):
    """All findings go to a file too."""
    assert run("verify", mirror, "--no-md5", "--report", tmp_path / "report.jsonl", "--format", "quiet").exit_code == 0
    lines = (tmp_path / "report.jsonl").read_text().splitlines()
    assert [json.loads(line)["shard"] for line in lines] == ["sa_000000", "sa_000001"]
