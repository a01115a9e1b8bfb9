"""Every notebook runs from top to bottom without network, and is small in the repository."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.run_notebook import code_cells

REPOSITORY = Path(__file__).parent.parent
NOTEBOOKS = sorted(REPOSITORY.glob("notebooks/*.ipynb"))
RUNNER = Path(__file__).parent / "support" / "run_notebook.py"
MAX_PICTURE, MAX_TEXT, MAX_FILE = 60_000, 10_000, 600_000  # bytes
SECONDS = 240  # on a busy machine; alone, a notebook takes a tenth of it

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _outputs(path):
    return [output for cell in _read(path)["cells"] for output in cell.get("outputs", ())]


def _texts(output):
    """All text of an output."""
    parts = [output.get("text", ""), *(value for kind, value in output.get("data", {}).items() if "image" not in kind)]
    return "".join("".join(part) if isinstance(part, list) else str(part) for part in parts)


@pytest.fixture(scope="session")
def notebook_cache(tmp_path_factory):
    """One cache for all notebooks: the embedded sample is made once."""
    return tmp_path_factory.mktemp("notebook-cache")


@each_notebook
def test_runs(path, tmp_path, notebook_cache):
    """The code cells run in order in a new process, in an empty folder, offline, without a notebook server.

    A notebook that needs optional packages names their modules: ``metadata.sa1b_hf.requires``.
    """
    missing = [name for name in _read(path)["metadata"].get("sa1b_hf", {}).get("requires", ()) if not find_spec(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    settings = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(notebook_cache)}
    if "hub" in path.stem:  # there is one on loopback
        settings = {"HF_HOME": str(notebook_cache)}
    environment = {**os.environ, **settings, "PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "Agg"}
    environment.pop("SA1B_HF_SHARDS", None)
    command = [sys.executable, str(RUNNER), str(path)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


@each_notebook
def test_is_stored_as_it_was_run(path):
    """Every code cell has been run, in order, without an error, and is plain Python."""
    cells = [cell for cell in _read(path)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert [output for output in _outputs(path) if output["output_type"] == "error"] == []
    for number, source in code_cells(path):
        compile(source, f"{path.name}, cell {number}", "exec")
    first = _read(path)["cells"][0]
    assert first["cell_type"] == "markdown"
    assert "".join(first["source"]).startswith("# ")


@each_notebook
def test_outputs_are_small_and_tell_nothing_about_a_machine(path):
    """Pictures, texts and the file stay below their limits; no path of the machine that ran it is in them."""
    assert path.stat().st_size <= MAX_FILE
    for output in _outputs(path):
        for kind, value in output.get("data", {}).items():
            if kind.startswith("image/"):
                assert len(base64.b64decode("".join(value))) <= MAX_PICTURE
        text = _texts(output)
        embedded = re.findall(r"data:image/[^\"')]+", text)
        assert all(len(base64.b64decode(picture.partition(",")[2])) <= MAX_PICTURE for picture in embedded)
        assert len(text) - sum(map(len, embedded)) <= MAX_TEXT
        assert [place for place in ("/root/", "/home/", "/tmp/", "/Users/", ":\\Users") if place in text] == []


@each_notebook
def test_is_a_valid_notebook(path):
    """The file is what nbformat says a notebook is."""
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.read(path, as_version=4))


def test_there_are_notebooks():
    """The folder is found: with none, every other test here would pass."""
    assert NOTEBOOKS
