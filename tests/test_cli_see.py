"""The commands that look: what they print in each format, what they write, how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from support.looking import make_converted

from sa1b_hf import viz
from sa1b_hf.cli import COMMANDS, main
from sa1b_hf.features import row_to_document
from sa1b_hf.places import find_place, iter_tables
from sa1b_hf.testing import make_shard

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("see")


@pytest.fixture(scope="module")
def shard(folder):
    return make_shard(folder / "shards" / "sa_000002.tar", first_id=40, num_images=8)


@pytest.fixture(scope="module")
def converted(folder):
    return make_converted(folder)


def run(*arguments: object, status: int = 0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def test_every_command_is_documented():
    """Each command has a page of docs/ that shows how it is called."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in REPOSITORY.glob("docs/*.md"))
    assert [name for name in COMMANDS if not re.search(rf"\bsa1b {name}\b", text)] == []


def test_demo(tmp_path):
    """The demonstration as a command, the same as `make demo`."""
    result = run("demo", "--out", tmp_path / "demo", "--examples", "2")
    assert len(re.findall(r"sa_\d+\.jpg .* masks of ", result.output)) == 2
    assert len(list((tmp_path / "demo").glob("*.png"))) == 1


def test_inspect_rows(shard):
    """The first rows of a shard in words and as JSON."""
    lines = run("inspect", shard.path, "--rows", "3").stdout.splitlines()
    assert len(lines) == 3
    assert all(re.search(r"sa_\d+\.jpg +\d+x\d+ +\d+ masks, all well-formed", line) for line in lines)
    rows = [json.loads(line) for line in run("inspect", shard.path, "--format", "json").stdout.splitlines()]
    assert len(rows) == 5
    assert {row["image_id"] for row in rows} <= shard.good_ids
    assert run("inspect", shard.path, "--format", "quiet").output == ""


def test_inspect_members(shard, tmp_path):
    """Members in the order of the tar; what is foreign is named with its reason."""
    lines = run("inspect", shard.path, "--members", "--rows", "1000", "--format", "json").stdout.splitlines()
    members = [json.loads(line) for line in lines]
    names = {f"sa_{image_id}.{kind}" for image_id in shard.good_ids for kind in ("jpg", "json")}
    assert names <= {member["name"] for member in members}
    offsets = [member["offset"] for member in members if "offset" in member]
    assert offsets == sorted(offsets)
    assert len(run("inspect", shard.path, "--members", "--rows", "4").stdout.splitlines()) == 4


def test_inspect_one_image(shard, tmp_path):
    """One image gives its document, equal to the shard's, and its picture."""
    image_id = min(shard.good_ids)
    document = json.loads(run("inspect", shard.path, "--image", image_id).stdout)
    tables = [table.slice(row, 1) for table in iter_tables(find_place(str(shard.path))) for row in range(len(table))]
    (table,) = (table for table in tables if table["image_id"][0].as_py() == image_id)
    assert document == row_to_document(table.to_pylist()[0])
    run("inspect", shard.path, "--image", image_id, "--save", tmp_path / "x.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), np.asarray(viz.draw(table)))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["inspect", "{shard}", "--image", "999"], 1, "expected image 999, found none; sa1b shards --image 999"),
        (["inspect", "{shard}", "--save", "x.png"], 2, "--save: expected --image"),
        (["inspect", "{folder}/nothing.tar"], 2, "found nothing there"),
        (["inspect", "{folder}/converted"], 2, "expected one shard, found 0"),
        (["inspect"], 2, "Missing argument"),
        (["stats", "{folder}/nothing"], 2, "expected a shard, a folder"),
        (["plot", "{shard}"], 2, "Missing option '--out'"),
        (["view", "{folder}/empty"], 1, "expected .tar files"),
        (["view", "{shard}", "--port", "70000"], 2, "not in the range"),
    ],
)
def test_what_makes_no_sense(arguments, status, message, shard, converted, folder):
    """Each mistake has its status, and one line that says what was expected."""
    (folder / "empty").mkdir(exist_ok=True)
    result = run(*[one.format(shard=shard.path, folder=folder) for one in arguments], status=status)
    assert message in " ".join(result.output.split())


def test_stats(shard, converted):
    """Counts are those of the rows, for shards and conversions, in words and as JSON."""
    found = json.loads(run("stats", shard.path, "--format", "json").stdout)
    rows = [row for table in iter_tables(find_place(str(shard.path))) for row in table.to_pylist()]
    assert (found["num_images"], found["num_masks"]) == (len(rows), sum(len(row["annotations"]) for row in rows))
    scores = [one["predicted_iou"] for row in rows for one in row["annotations"]]
    assert found["predicted_iou"]["min"] == min(scores)
    assert found["predicted_iou"]["mean"] == pytest.approx(np.mean(scores))
    assert sum(count for *_, count in found["area"]["bins"]) == found["num_masks"]
    text = run("stats", converted).stdout
    assert text.startswith("6 images, ")
    for name in ("masks_per_image", "area", "area_share", "predicted_iou", "stability_score", "sizes"):
        assert f"\n{name}" in text
    assert "█" in text
    assert json.loads(run("stats", converted, "--limit", "2", "--format", "json").stdout)["num_images"] == 2


def test_stats_of_images_that_are_no_images(tmp_path):
    """No pixel is decoded, and no JPEG even read: torn ones count like others."""
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=5, faults=["torn_jpg"])
    assert json.loads(run("stats", shard.path, "--format", "json").stdout)["num_images"] == 5


def test_stats_of_a_damaged_shard(tmp_path):
    """What is good is counted, what is not is said, and the status tells."""
    make_shard(tmp_path / "sa_000000.tar", num_images=12, faults=["json_truncated", "missing_end"])
    result = run("stats", tmp_path, status=1)
    assert re.match(r"\d+ images", result.stdout)
    assert "Not everything could be read" in result.stderr


@pytest.mark.parametrize("kind", ["distributions", "sheet", "classes"])
def test_plot(kind, converted, tmp_path):
    """Each kind of picture is written and is a picture."""
    if kind == "distributions":
        pytest.importorskip("matplotlib")
    out = tmp_path / "x.png"
    run("plot", converted, "--kind", kind, "--limit", "4", "--out", out)
    with Image.open(out) as picture:
        assert min(picture.size) > 100


def test_view(shard):
    """The command prints an address that works, and ends well when interrupted."""
    command = [sys.executable, "-m", "sa1b_hf", "view", shard.path, "--no-browser", "--format", "json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        url = json.loads(process.stdout.readline())["url"]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
        assert b"sa1b view" in opener.open(url, timeout=10).read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0
    assert errors.strip().splitlines()[-1] == "Closed."


def test_view_opens_a_browser(shard, monkeypatch):
    """Unless told not to, the command opens the address it prints."""
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("sa1b_hf.viewer.ViewerServer.wait", lambda self: time.sleep(0))
    result = run("view", shard.path)
    assert opened == [result.stdout.strip()]
    assert opened[0].startswith("http://127.0.0.1:")


def test_completion():
    """The shell completes commands as docs/cli.md says."""
    environment = {**os.environ, "_SA1B_COMPLETE": "bash_complete", "COMP_WORDS": "sa1b ins", "COMP_CWORD": "1"}
    environment["PYTHONPATH"] = str(REPOSITORY)
    code = "from sa1b_hf.cli import main; main(prog_name='sa1b')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "plain,inspect"
    assert "_SA1B_COMPLETE=bash_source" in (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
