"""The file `sa1b.py`: a loading script for `datasets` 3.6, a few lines and nothing else."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from packaging.version import Version

REPOSITORY = Path(__file__).parent.parent
SCRIPT = REPOSITORY / "sa1b.py"


def test_script_is_a_few_lines():
    """All code is in the package; the script subclasses its builder, which gives the builder its name."""
    tree = ast.parse(SCRIPT.read_text())
    assert [type(node) for node in tree.body] == [ast.Expr, ast.Import, ast.ClassDef]
    assert len(SCRIPT.read_text().splitlines()) < 20


@pytest.mark.skipif(Version(datasets.__version__) >= Version("4"), reason="scripts run only in datasets 3")
@pytest.mark.parametrize("imported_first", [False, True])
def test_script_runs(shards, tmp_path, imported_first):
    """With trust_remote_code=True the verbatim call gives the same rows, whether or not the package was imported."""
    code = (
        ("import sa1b_hf\n" if imported_first else "") + "import sys\n"
        "from datasets import Image, load_dataset\n"
        'load = lambda **options: load_dataset("sa1b.py", trust_remote_code=True, split="train", **options)\n'
        "ds = load(streaming=True, data_dir=sys.argv[1])\n"
        "import sa1b_hf\n"
        "rows = list(ds.cast_column('image', Image(decode=False)))\n"
        "own = sa1b_hf.load_dataset('sa1b.py', split='train', streaming=True, data_dir=sys.argv[1])\n"
        "assert rows == list(own.cast_column('image', Image(decode=False)))\n"
        "prepared = load(data_dir=sys.argv[1], cache_dir=sys.argv[2])\n"
        "assert [r['image_id'] for r in rows] == prepared['image_id']\n"
        "assert sa1b_hf.report(ds).delivered == len(rows) == 63\n"
        "assert next(iter(load(streaming=True)))['shard'] == 'sa_000000'\n"
        "print('same', ds.info.builder_name, ds.info.config_name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(shards[0].path.parent), str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_MODULES_CACHE": str(tmp_path / "modules")},
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "same sa1b default"
