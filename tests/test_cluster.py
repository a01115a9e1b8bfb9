"""Conversion on Ray: the same bytes, and what is done is not done again."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

from sa1b_hf.cluster import iter_convert_on_ray
from sa1b_hf.convert import ConvertOptions, convert
from sa1b_hf.errors import MissingExtraError, ShardError
from sa1b_hf.testing import make_shard

REPOSITORY = Path(__file__).parent.parent


def snapshot(out: Path) -> dict[str, bytes]:
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and ".sa1b" not in path.parts]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def ray():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = pytest.importorskip("ray")
        environment = {"env_vars": {"PYTHONPATH": str(REPOSITORY)}}
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same(ray, shards, tmp_path):
    """Tasks of a cluster write what one process writes; again, nothing is left to do; damage is raised."""
    paths = [shard.path for shard in shards]
    convert(paths, tmp_path / "one")
    for was_done in (False, True):
        done = list(iter_convert_on_ray(paths, tmp_path / "two"))
        assert {one.was_done for one in done} == {was_done}
        assert sorted(one.manifest.shard for one in done) == ["sa_000000", "sa_000001", "sa_000002"]
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
    bad = make_shard(tmp_path / "sa_000009.tar", num_images=20, faults=["missing_end"]).path
    with pytest.raises(ShardError, match="sa_000009"):
        list(iter_convert_on_ray(bad, tmp_path / "three", ConvertOptions()))


def test_without_ray(tmp_path, monkeypatch):
    """The error has the line to type."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"sa1b_hf\[ray\]"):
        iter_convert_on_ray([], tmp_path)
