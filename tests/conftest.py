"""What several test modules need."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `support`

# A shell that runs the tests in the background lets them ignore Ctrl-C, and with them every process they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

from support.stand_in_hub import StandInHub  # noqa: E402

# The clients read where the Hub is when they are imported: no test, whatever it does, gets to the real one.
HUB = StandInHub().start()
_CACHE = tempfile.TemporaryDirectory(prefix="sa1b_hf-tests-")
os.environ.update(HUB.environment(), HF_HUB_CACHE=_CACHE.name)

import datasets  # noqa: E402
import pytest  # noqa: E402

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _quiet_and_isolated(monkeypatch, tmp_path_factory):
    """No progress bars, and no source of shards from the environment of whoever runs the tests."""
    datasets.disable_progress_bars()
    monkeypatch.delenv("SA1B_HF_SHARDS", raising=False)


@pytest.fixture
def hub():
    """The stand-in Hub, empty."""
    HUB.clear()
    yield HUB
    HUB.clear()


@pytest.fixture
def cache_dir(tmp_path):
    """An empty cache for prepared datasets."""
    return str(tmp_path / "cache")


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Three small shards in the real layout, with ids that do not overlap."""
    from sa1b_hf.testing import make_shard

    folder = tmp_path_factory.mktemp("shards")
    return [
        make_shard(folder / f"sa_{number:06d}.tar", first_id=1 + 1000 * number, num_images=20 + number, seed=number)
        for number in range(3)
    ]
