"""Run a notebook's code cells, one after the other, in this process: ``python run_notebook.py NOTEBOOK``.

With ``--save`` it is run by nbclient in a kernel instead, and written back with its outputs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path


def code_cells(path):
    """Source of each code cell, with its place."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    return [(number, "".join(cell["source"])) for number, cell in enumerate(cells) if cell["cell_type"] == "code"]


def run(path):
    """Execute the cells as if they were this program, so that what they define can be pickled."""
    namespace = sys.modules["__main__"].__dict__
    namespace.setdefault("display", lambda *_: None)
    for number, source in code_cells(path):
        exec(compile(source, f"{Path(path).name}, cell {number}", "exec"), namespace)


def save(path):
    """Execute in a kernel and keep the outputs, without what belongs to a machine or a run, each picture once."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import nbformat
    from nbclient import NotebookClient

    from support.stand_in_hub import StandInHub

    notebook = nbformat.read(path, as_version=4)
    hub = StandInHub().start()
    os.environ.update(hub.environment())  # a notebook that pushes does not reach the real one
    with tempfile.TemporaryDirectory() as folder:  # for what a notebook writes
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        kept = [output for output in cell.get("outputs", ()) if output.get("name") != "stderr"]
        for output in kept:
            pictures = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
            for kind in sorted(pictures, key=lambda kind: len(output["data"][kind]))[1:]:
                del output["data"][kind]
        if "outputs" in cell:
            cell["outputs"] = kept
    nbformat.write(notebook, path)


if __name__ == "__main__":
    (save if "--save" in sys.argv else run)(sys.argv[-1])
