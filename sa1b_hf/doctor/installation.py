"""Checks of the installation: this package, its extensions, and what it needs."""

from __future__ import annotations

import importlib
import platform
import re
import struct
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from packaging.specifiers import SpecifierSet

from sa1b_hf._register import register
from sa1b_hf.inflate import ENGINES, resolve_engine

from ._finding import Finding, Setup

__all__ = [
    "NEEDED",
    "check_extensions",
    "check_inflate",
    "check_packages",
    "check_pycocotools",
    "check_python",
    "check_registration",
    "check_shadows",
    "explain_import",
]

NEEDED: Final = {
    "click": ">=8.1",
    "datasets": ">=3.6,<6",
    "fsspec": ">=2023.5",
    "huggingface_hub": ">=0.30",
    "numpy": ">=1.24",
    "packaging": ">=21",
    "pillow": ">=10.1",
    "pyarrow": ">=15",
    "pycocotools": ">=2.0.7",
    "tqdm": ">=4.66",
    "zlib-ng": ">=0.5",
}
"""What setup.cfg asks for."""

_LEAST_PYTHON: Final = (3, 10)
_COMPILERS: Final = {
    "Linux": "apt install build-essential, or your distribution's gcc",
    "Darwin": "xcode-select --install",
    "Windows": "Microsoft C++ Build Tools, https://visualstudio.microsoft.com/visual-cpp-build-tools/",
}
_OFTEN_HIDDEN: Final = ("datasets", "sa1b_hf", "pycocotools", "torch", "numpy", "PIL", "pyarrow", "huggingface_hub")
_INSTALL: Final = "pip install --only-binary :all: pycocotools"
_REINSTALL: Final = "pip install --force-reinstall --no-cache-dir --only-binary :all: pycocotools"

# What the error says, and what it means. The first that fits counts.
_EXPLANATIONS: Final = {
    r"No module named '?pycocotools'?$": f"""\
it is not installed: run  {_INSTALL}  (pycocotools-windows and other substitutes are not needed any more)""",
    r"cannot import name '_mask'|No module named '?pycocotools\.": f"""\
a folder called pycocotools hides the package, or it was copied without being compiled: leave the folder, or run  \
{_REINSTALL}""",
    r"numpy\.dtype size changed|_ARRAY_API|numpy\.core\.multiarray|compiled using NumPy 1": f"""\
it was built for another NumPy than the installed one: run  {_REINSTALL}""",
    r"incompatible architecture|mach-o|wrong architecture": f"""\
it was built for another processor: on a Mac with Apple silicon take an arm64 Python (not one under Rosetta), and \
run  {_REINSTALL}""",
    r"DLL load failed": """\
Windows lacks the Visual C++ runtime: install https://aka.ms/vs/17/release/vc_redist.x64.exe, and a 64-bit Python""",
    r"Microsoft Visual C\+\+|gcc|clang|cl\.exe|Failed building wheel|Python\.h": f"""\
pip tried to compile it and found no compiler: update pip, and take a ready-made build,  {_INSTALL}  (there are \
some for Windows, macOS and Linux)""",
}


def check_python(_setup: Setup) -> Iterator[Finding]:
    """Python's version and width."""
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < _LEAST_PYTHON:
        yield Finding("python", "fail", found, "use Python 3.10 or later")
    elif struct.calcsize("P") * 8 < 64:  # noqa: PLR2004 -- bits
        yield Finding("python", "warn", f"{found}, 32 bits", "use a 64-bit Python: shards do not fit into 32 bits")
    else:
        yield Finding("python", "ok", found)


def check_packages(_setup: Setup) -> Iterator[Finding]:
    """Versions of everything that is needed."""
    good = []
    for name, wanted in NEEDED.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding("packages", "fail", f"{name} is not installed", f"run  pip install '{name}{wanted}'")
            continue
        if SpecifierSet(wanted).contains(found, prereleases=True):
            good.append(f"{name} {found}")
        else:
            message = f"{name} {found}, expected {wanted}"
            yield Finding("packages", "fail", message, f"run  pip install '{name}{wanted}'")
    yield Finding("packages", "ok", ", ".join(good))


def check_registration(_setup: Setup) -> Iterator[Finding]:
    """Whether `datasets` knows the builder."""
    if register():
        yield Finding("datasets", "ok", 'load_dataset("sa1b.py") is known after  import sa1b_hf')
    else:
        yield Finding(
            "datasets",
            "warn",
            "this version of datasets works in another way than those that are known",
            'use sa1b_hf.load_dataset(...) in place of datasets.load_dataset("sa1b.py", ...)',
        )


def check_shadows(_setup: Setup) -> Iterator[Finding]:
    """Files in the working directory that are imported in place of packages."""
    here = Path.cwd()
    for name in _OFTEN_HIDDEN:
        for place in (here / f"{name}.py", here / name / "__init__.py"):
            if place.is_file() and not _is_the_package(place, name):
                message = f"{place} has the name of a package, and scripts in this folder import it in its place"
                yield Finding("imports", "warn", message, "rename it, or run Python from another folder")


def _is_the_package(place: Path, name: str) -> bool:
    """Tell whether a file is what is imported anyway, as in a clone of the package."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == place.resolve()


def check_extensions(_setup: Setup) -> Iterator[Finding]:
    """The C extensions, which have slower substitutes."""
    folder = Path(__file__).parent.parent
    for name, purpose in (("_rle", "masks"), ("_json", "annotations")):
        try:
            importlib.import_module(f"sa1b_hf.{name}")
        except ImportError as error:
            is_built = any(folder.glob(f"{name}.*so")) or any(folder.glob(f"{name}.*pyd"))
            problem = f"it is there and cannot be loaded ({error})" if is_built else "it was not compiled"
            compiler = _COMPILERS.get(platform.system(), "a C compiler")
            yield Finding(
                "extensions",
                "warn",
                f"{name} for {purpose}: {problem}; all works, several times slower",
                f"install a compiler ({compiler}), then  pip install --force-reinstall --no-deps sa1b_hf",
            )
        else:
            yield Finding("extensions", "ok", f"{name} for {purpose}")


def check_inflate(_setup: Setup) -> Iterator[Finding]:
    """What inflates the shards."""
    name, _ = resolve_engine()
    if name == ENGINES[0]:
        yield Finding("gzip", "ok", f"inflated by {name}")
    else:
        advice = "run  pip install zlib-ng"
        yield Finding("gzip", "warn", f"inflated by {name}; zlib-ng is up to twice as fast", advice)


def check_pycocotools(_setup: Setup) -> Iterator[Finding]:
    """Whether pycocotools can be imported, and if not, why."""
    try:
        importlib.import_module("pycocotools.mask")
    except Exception as error:
        message = f"pycocotools cannot be imported: {error}; the embedded sample and polygons need it, shards do not"
        yield Finding("pycocotools", "warn", message, explain_import(error))
    else:
        yield Finding(
            "pycocotools", "ok", "it can be imported; masks are decoded by sa1b_hf.rle, which does not need it"
        )


def explain_import(error: object) -> str:
    """Say what an error of installing or importing pycocotools means, and what to do.

    Parameters
    ----------
    error
        The exception, or text from pip.

    """
    text = str(error)
    for pattern, meaning in _EXPLANATIONS.items():
        if re.search(pattern, text, flags=re.MULTILINE):
            return meaning
    return f"run  {_REINSTALL}"
