"""Conversions that are killed at every step, at random, or meet each other: a rerun gives the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.zygote import Zygote

from sa1b_hf.convert import ConvertOptions, convert, process_shard, read_manifests
from sa1b_hf.testing import make_shard

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

OPTIONS = {"row_group_rows": 4, "part_bytes": 1}


class ConvertZygote(Zygote):
    """See `support.convert_zygote`."""

    def run(self, source: Path, out: Path, options: dict, **order) -> list[int]:
        return self.order(source=source, out=out, options=options, **order)


@pytest.fixture(scope="module")
def zygote():
    zygote = ConvertZygote("convert_zygote.py")
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    return make_shard(tmp_path_factory.mktemp("shard") / "sa_000000.tar", num_images=8).path


def snapshot(out: Path) -> dict[str, bytes]:
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and ".sa1b" not in path.parts]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def check_visible(out: Path) -> None:
    """What a manifest promises is there, as it promises."""
    if list(out.glob("manifests/*.json")):
        for manifest in read_manifests(out):
            assert manifest.is_there(out)


@pytest.mark.parametrize("options", [OPTIONS, {"format": "coco"}], ids=["parquet", "coco"])
def test_kills_at_every_operation(options, zygote, shard, tmp_path):
    """Killed before any write, sync, rename or removal, a first conversion is completed by the next one."""
    process_shard(shard, tmp_path / "whole", ConvertOptions(**options))
    wanted = snapshot(tmp_path / "whole")
    for kill_at in range(1, 500):
        out = tmp_path / f"out{kill_at}"
        (code,) = zygote.run(shard, out, options, kill_at=kill_at)
        if code == 0:
            break
        assert code == -9
        if out.exists():
            check_visible(out)
        assert zygote.run(shard, out, options) == [0]
        assert snapshot(out) == wanted, kill_at
        assert [path.name for path in (out / ".sa1b").iterdir()] == ["sa_000000.convert.lock"]
        shutil.rmtree(out)
    assert kill_at > 20
    assert snapshot(out) == wanted


def test_kills_while_replacing(zygote, shard, tmp_path):
    """Killed while parts of other options are replaced, a third choice of options leaves nothing of either."""
    first, second, third = OPTIONS, {"format": "webdataset"}, {"row_group_rows": 50}
    process_shard(shard, tmp_path / "first", ConvertOptions(**first))
    process_shard(shard, tmp_path / "third", ConvertOptions(**third))
    wanted = snapshot(tmp_path / "third")
    for kill_at in range(1, 500):
        out = tmp_path / f"out{kill_at}"
        shutil.copytree(tmp_path / "first", out)
        (code,) = zygote.run(shard, out, second, kill_at=kill_at)
        check_visible(out)
        assert zygote.run(shard, out, third) == [0]
        assert snapshot(out) == wanted, kill_at
        shutil.rmtree(out)
        if code == 0:
            break
    assert kill_at > 20


def test_kills_at_random(zygote, shard, tmp_path):
    """Killed at any moment, again and again, a conversion ends byte-identical."""
    rng = random.Random(3)
    process_shard(shard, tmp_path / "whole", ConvertOptions(**OPTIONS))
    wanted = snapshot(tmp_path / "whole")
    kills = 0
    for number in range(8):
        out = tmp_path / str(number)
        for _ in range(3):
            kills += zygote.run(shard, out, OPTIONS, delay=rng.uniform(0.001, 0.04)) == [-9]
            if out.exists():
                check_visible(out)
        assert zygote.run(shard, out, OPTIONS) == [0]
        assert snapshot(out) == wanted
    assert kills > 5


def test_processes_on_one_folder_do_not_collide(zygote, shard, tmp_path):
    """Four processes that convert one shard into one folder at once leave what one of them leaves."""
    process_shard(shard, tmp_path / "whole", ConvertOptions(**OPTIONS))
    assert zygote.run(shard, tmp_path / "out", OPTIONS, children=4) == [0] * 4
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_an_interrupted_pool_ends_and_goes_on(how, tmp_path):
    """Ctrl-C ends with the status 130, a kill takes the workers along, and the same command completes the work."""
    for number in range(4):
        make_shard(tmp_path / "in" / f"sa_{number:06d}.tar", first_id=1 + 1000 * number, num_images=60)
    command = [sys.executable, "-m", "sa1b_hf", "convert", "in", "out", "--num-proc", "2", "--format", "quiet"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    end = time.monotonic() + 60
    while not list(tmp_path.glob("out/manifests/*.json")) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode == (130 if how == signal.SIGINT else -9)
    _wait_for_group(process.pid)
    check_visible(tmp_path / "out")
    convert(tmp_path / "in", tmp_path / "out")
    assert len(read_manifests(tmp_path / "out")) == 4
    assert not [path for path in (tmp_path / "out" / ".sa1b").iterdir() if path.suffix != ".lock"]


def _wait_for_group(group: int) -> None:
    """Wait until the last process that a command started has ended."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("workers outlived the command")
