"""The package as a whole: fast to import, nothing heavy, public names locked, demo and report as promised."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import sa1b_hf
from sa1b_hf.reports import BrokenShard, PassReport

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "sa1b_hf"

# One image travels down this list; a module imports only from above (private parts belong to the module named after).
ORDER = [
    "errors",
    "_memory",
    "_at_exit",
    "features",
    "_transforms",
    "_shard_table",
    "catalog",
    "_urls",
    "links",
    "_resume",
    "_tls",
    "_http",
    "_filesystem",
    "transport",
    "_engines",
    "_crc",
    "_deflate",
    "_gzip_walk",
    "_restarts",
    "inflate",
    "_parallel_inflate",
    "source",
    "tar",
    "_random_bytes",
    "_tar_scan",
    "gzsync",
    "_places",
    "_shard_state",
    "_track",
    "_part_cursor",
    "_salvage_inflate",
    "salvage",
    "_index_build",
    "index",
    "reports",
    "faults",
    "scratch",
    "_covers",
    "_handover",
    "_holding",
    "pairing",
    "_json_tree",
    "_document",
    "_json_arrow",
    "_json_columns",
    "annotations",
    "jpeg",
    "image_column",
    "_columns",
    "_ids",
    "_option_checks",
    "filters",
    "shard",
    "_indexed",
    "parts",
    "_read_options",
    "_rows_of_records",
    "reader",
    "_resumable",
    "testing",
    "sample",
    "sources",
    "data_files",
    "_register",
    "sa1b",
    "loading",
    "_rle_text",
    "_rle_packed",
    "_rle_columns",
    "_rle_input",
    "_rle_grid",
    "_rle_numpy",
    "_rle_threads",
    "_rle_native",
    "_rle_kernels",
    "_rle_output",
    "_rle_decode",
    "_rle_encode",
    "_rle_measure",
    "_rle_fix",
    "rle",
    "_rle_torch",
    "rle_torch",
    "sampling",
    "resizing",
    "images",
    "_rows",
    "_example",
    "_layouts",
    "masks",
    "collate",
    "prompts",
    "forms",
    "metrics",
    "_halt",
    "_disk",
    "_journal",
    "_lock",
    "_pieces",
    "_connections",
    "_remote",
    "_fetch",
    "_aria2c",
    "_origins",
    "_forecast",
    "_progress",
    "_deep",
    "_salvage_check",
    "_checksum_file",
    "verify",
    "_terms",
    "_receipt",
    "_shard_download",
    "download",
    "_drop_behind",
    "_parts",
    "_manifest",
    "_row_groups",
    "_parquet_parts",
    "_documents",
    "_webdataset_parts",
    "_resize_rows",
    "_convert_options",
    "exports",
    "_convert_shard",
    "_convert_pool",
    "convert",
    "_row_summaries",
    "dataset_index",
    "cluster",
    "_card_statistics",
    "_card_figures",
    "card",
    "_hub_pixels",
    "_hub_parts",
    "_hub_sources",
    "_hub_trouble",
    "_hub_repository",
    "_rehydrate",
    "hub",
    "labels",
    "doctor",
    "_palette",
    "_mask_columns",
    "_overlay",
    "_id_map",
    "_sheets",
    "_statistics",
    "_figures",
    "_notebook",
    "viz",
    "places",
    "viewer",
    "demo",
    "cli",
    "__main__",
]


def _python(code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **env},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light():
    """Importing the package loads nothing heavy, and none of its own large modules."""
    heavy = {"torch", "transformers", "matplotlib", "ray", "cv2", "hypothesis", "pycocotools"}
    out = _python("import datasets, sys; before = set(sys.modules); import sa1b_hf; print(*set(sys.modules) - before)")
    loaded = set(out.split())
    assert not {name.partition(".")[0] for name in loaded} & heavy
    assert {name for name in loaded if name.startswith("sa1b_hf.")} == {"sa1b_hf._register", "sa1b_hf._version"}


def test_import_is_fast():
    """Over `import datasets` the package adds less than 150 ms, the best of three."""
    code = "import datasets, time; t = time.perf_counter(); import sa1b_hf; print(time.perf_counter() - t)"
    assert min(float(_python(code)) for _ in range(3)) < 0.15


@pytest.mark.parametrize(
    "code",
    [
        "import sa1b_hf, sys; assert 'datasets' not in sys.modules; import datasets",
        "import datasets; import sa1b_hf",
        "import sa1b_hf; from datasets.load import load_dataset_builder",
        "import sa1b_hf; from sa1b_hf import SA1B",
        "import sa1b_hf, importlib; del __import__('sys').modules['sa1b_hf']; import sa1b_hf",
        """import threading, sa1b_hf
threads = [threading.Thread(target=__import__, args=('datasets',)) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()""",
    ],
    ids=["before", "after", "from", "through", "twice", "threads"],
)
def test_registers_in_any_order(code):
    """Whoever imports `datasets`, and when: the builder is known, once, and the hook is gone."""
    check = (
        "\nimport sys, datasets, datasets.load"
        "\nassert datasets.load_dataset_builder('sa1b.py').__class__.__name__ == 'SA1B'"
        "\nassert [f for f in sys.meta_path if type(f).__module__ == 'sa1b_hf._register'] == []"
        "\nassert type(datasets.load.__loader__.exec_module).__name__ == 'method'"
        "\nassert not hasattr(datasets.load.PackagedDatasetModuleFactory.__mro__[1], '_knows_sa1b')"
        "\nprint('known')"
    )
    assert "known" in _python(code + check)


def test_an_import_that_fails_may_be_tried_again(tmp_path):
    """A first import of `datasets` that breaks does not cost the registration."""
    library = tmp_path / "datasets"
    library.mkdir()
    (library / "__init__.py").write_text("__version__ = '0'\nfrom . import load\n")
    (library / "load.py").write_text(
        "import os\nif 'BREAK' in os.environ:\n    raise ImportError('broken')\n"
        "_PACKAGED_DATASETS_MODULES = {}\n"
        "class PackagedDatasetModuleFactory:\n    def get_module(self): ...\n"
    )
    code = (
        "import os, sys, sa1b_hf\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "os.environ['BREAK'] = ''\n"
        "try:\n    import datasets\nexcept ImportError:\n    del os.environ['BREAK']\n"
        "import datasets\n"
        "print(*datasets.load._PACKAGED_DATASETS_MODULES)"
    )
    assert "sa1b.py" in _python(code)


def test_public_names():
    """The names that users may rely on, no more and no less; each of them is there."""
    assert sorted(sa1b_hf.__all__) == [
        "AnnotationFilter",
        "DecodeMasks",
        "ImageFilter",
        "PassReport",
        "ReadOptions",
        "SA1B",
        "SA1BConfig",
        "SA1BError",
        "__version__",
        "collate_concat",
        "collate_pad",
        "iter_batches",
        "load_dataset",
        "read_reports",
        "report",
        "row_to_document",
        "sa1b_features",
        "shard_of",
    ]
    assert all(getattr(sa1b_hf, name) is not None for name in sa1b_hf.__all__)
    assert set(sa1b_hf.__all__) <= set(dir(sa1b_hf))
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = sa1b_hf.nothing_such


def _imports(path: Path) -> set[str]:
    """Names of modules of the package that a module imports, at its top or within functions."""
    depth = len(path.relative_to(PACKAGE).parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (
            node.level == depth or (not node.level and (node.module or "").split(".")[0] == "sa1b_hf")
        ):
            module = (node.module or "").removeprefix("sa1b_hf").strip(".")
            found |= {module.partition(".")[0]} if module else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("name", ORDER)
def test_data_flows_down(name):
    """A module, or each one of a package, imports only from modules above it in the map."""
    paths = [path for path in (PACKAGE / f"{name}.py",) if path.is_file()] or list((PACKAGE / name).rglob("*.py"))
    assert paths
    for path in paths:
        below = {other for other in _imports(path) if other in ORDER and ORDER.index(other) > ORDER.index(name)}
        assert below == set(), f"{path.relative_to(PACKAGE)} imports {below} from below"


def test_map_is_complete():
    """Every module of the package has its place in the map."""
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert modules - {"__init__", "_version"} == set(ORDER)


def test_modules_are_short():
    """No module outgrows what one reads in a sitting."""
    lengths = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 320} == {}


def test_no_asserts_in_the_package():
    """`assert` is for tests: it vanishes under python -O."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)], path.name


def test_demo(tmp_path, capsys):
    """The demonstration streams with the verbatim call, prints examples and draws masks."""
    from sa1b_hf.demo import main

    main(["--out", str(tmp_path), "--examples", "3"])
    out = capsys.readouterr().out
    assert 'load_dataset("sa1b.py", streaming=True)' in out
    assert len(re.findall(r"sa_\d+\.jpg .* masks of ", out)) == 3
    assert "images delivered" in out
    (picture,) = tmp_path.glob("*.png")
    with Image.open(picture) as image:
        left, right = image.crop((0, 0, image.width // 2, image.height)), image.crop((image.width // 2, 0, *image.size))
        assert left.size == right.size
        assert left.tobytes() != right.tobytes()


def test_report_adds_up_and_survives_json(tmp_path):
    """Reports of several processes merge into one whose text has every count."""
    from sa1b_hf.reports import read_reports, write_report

    first = PassReport(passes=1, completed=1, seen=5, delivered=3, num_annotations=10)
    first.skipped.update({"json-syntax": 2})
    first.broken.append(BrokenShard("sa_000016", "gzip-data", "damaged", 7))
    second = PassReport(passes=1, completed=1, seen=2, delivered=1, num_annotations=4)
    second.filtered["ids"] += 1
    second.filtered_annotations["min_area"] += 6
    for report in (first, second):
        write_report(report, tmp_path / "reports")
    total = read_reports([tmp_path / "reports"])
    assert (total.passes, total.seen, total.delivered, total.num_annotations) == (2, 7, 4, 14)
    assert total.broken == first.broken
    assert not total.is_clean
    assert str(total) == (
        "4 images delivered of 7 seen, 2 skipped (json-syntax 2), 1 filtered (ids 1), 14 annotations, "
        "6 filtered (min_area 6), BROKEN sa_000016: gzip-data"
    )
