"""The benchmark as a program: it runs, checks what the readers deliver, and reports on every bar."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
BENCHMARKS = REPOSITORY / "benchmarks"
TINY = ["--preset", "small", "--images", "20", "--memory-images", "20", "--rounds", "1"]
IMPORTS = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.Popen(command, env=IMPORTS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Exit status, output and JSON of the benchmark, run on tiny shards: its groups side by side, to save time."""
    folders = {groups: tmp_path_factory.mktemp(groups[0]) for groups in (("real",), ("plain", "memory"))}
    running = {
        groups: start("bench_reader.py", *TINY, "--groups", *groups, "--workdir", folder, "--json", folder / "out.json")
        for groups, folder in folders.items()
    }
    finished = {}
    for groups, process in running.items():
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        finished[groups] = (output, json.loads((folders[groups] / "out.json").read_text()))
        assert not list(folders[groups].glob("scratch-*")), "scratch folders were left behind"
    return finished


@pytest.mark.parametrize("groups", [("real",), ("plain", "memory")], ids="-".join)
def test_every_bar_is_printed(runs, groups):
    """A bar of a group that was measured has a figure and a verdict, any other one says that it was not measured."""
    output, _ = runs[groups]
    lines = output.split("## Bars")[1].strip().splitlines()[2:]
    assert len(lines) == 10
    for line in lines:
        group = line.removeprefix("| ").partition(":")[0]
        needs_webdataset = "webdataset, bytes" in line
        measured = re.search(r"\| (\d[\d.,]*|[\d,]+ MiB) \| [\d.,-]+ \| (NOT )?met", line)
        if group not in groups:
            assert "not measured" in line
        elif not needs_webdataset:
            assert measured, line


def test_every_group_has_its_table(runs):
    """Each contender that could be measured has a row of figures in the table of its group."""
    for groups, (output, document) in runs.items():
        for group in groups:
            samples = document["groups"][group]
            assert len(samples) >= 2
            for passes in samples.values():
                assert len(passes) == 1
                assert passes[0]["seconds"] > 0
                assert passes[0]["peak_rss"] > 5_000_000
        rows = [line for line in output.split("## Bars")[0].splitlines() if line.count("|") == 8]
        contenders = sum(len(document["groups"][group]) for group in groups)
        assert len(rows) == contenders + 2 * len(groups)


def test_what_other_readers_make_of_a_real_shard_is_said(runs):
    """The stock webdataset builder refuses such a shard, or gives half rows when it is told the features."""
    output, document = runs["real",]
    assert "ValueError" in document["strangers"]["stock-webdataset"]
    assert re.search(r"40 rows, of which \d have an image", document["strangers"]["stock-webdataset-features"])
    assert document["strangers"]["stock-webdataset"] in output


def test_images_are_counted(runs):
    """Each contender that gives examples has delivered all of them."""
    for _, document in runs.values():
        for samples in document["groups"].values():
            for key, (sample,) in samples.items():
                bound = key == "read" or key.startswith("inflate-")
                assert sample["images"] == (0 if bound else 20), key


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("ids", "expected the 3 images of the shard"),
        ("annotations", "the annotations of image 4 differ"),
        ("digests", "the JPEG of image 4 differs"),
    ],
)
def test_a_contender_that_delivers_something_else_fails(tmp_path, monkeypatch, part, message):
    """Wrong ids, annotations or JPEG bytes end the benchmark instead of giving a figure."""
    from sa1b_hf.testing import make_shard

    monkeypatch.syspath_prepend(BENCHMARKS)
    correctness = importlib.import_module("correctness")
    path = make_shard(tmp_path / "sa_000000.tar", first_id=4, num_images=2).path
    reference = correctness.make_reference(path, 2)
    correctness.check("tarfile-batches", path, tmp_path, reference)
    if part == "ids":
        reference["ids"].append(99)
    else:
        reference[part][4] = None
    with pytest.raises(ValueError, match=message):
        correctness.check("tarfile-batches", path, tmp_path, reference)


def test_a_failing_contender_fails_the_run(tmp_path):
    """When a contender raises, the benchmark ends with status 1 and says which one it was and why."""
    from sa1b_hf.testing import make_shard

    folder = tmp_path / "small-20-real"
    folder.mkdir()
    manifest = make_shard(folder / "sa_000000.tar", num_images=20, faults=["missing_end"])
    facts = {"path": "", "images": 20, "file_bytes": 1, "tar_bytes": 1, "first_pair_bytes": 1}
    (manifest.path.parent / "facts.json").write_text(json.dumps(facts))
    process = start("bench_reader.py", *TINY, "--groups", "memory", "--workdir", tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "our-capped-batches: exit status 1" in errors
    assert "two zero blocks" in errors


def test_a_number_that_makes_no_sense_is_refused():
    """A count below 1 is a usage error that says what was expected."""
    process = start("bench_reader.py", "--rounds", "0")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--rounds: expected at least 1, found 0" in errors


def test_make_bench_runs_them_all():
    """The one command of the documentation leaves out no benchmark."""
    commands = subprocess.check_output(["make", "-n", "bench"], cwd=REPOSITORY, text=True)
    assert {path.name for path in BENCHMARKS.glob("bench_*.py")} == set(re.findall(r"bench_\w+\.py", commands))
