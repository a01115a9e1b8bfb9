"""Versions, paths and settings for a report of a bug; nothing secret."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import sa1b_hf
from sa1b_hf.inflate import resolve_engine
from sa1b_hf.links import mask_url

from .installation import NEEDED

__all__ = ["environment"]

_OPTIONAL: Final = (
    "torch",
    "transformers",
    "isal",
    "simplejpeg",
    "aiohttp",
    "opencv-python-headless",
    "s3fs",
    "gcsfs",
    "hf-xet",
)
_TELLING: Final = re.compile(
    r"(HF|HUGGINGFACE|SA1B_HF)_\w+|(http|https|all|no)_proxy|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|OMP_NUM_THREADS",
    flags=re.IGNORECASE,
)
_SECRET: Final = re.compile(r"token|key|secret|password|credential|auth", flags=re.IGNORECASE)


def environment() -> dict[str, str]:
    """Describe the installation.

    Returns
    -------
    dict
        Names and values, in the order to print them. Of variables of the environment only those that concern this
        package, `datasets`, the Hub, proxies and certificates; tokens are ``(set)``, URLs lack query and user.

    """
    found = {
        "sa1b_hf": sa1b_hf.__version__,
        "installed in": str(Path(sa1b_hf.__file__).parent),
        "Python": f"{platform.python_version()} ({platform.python_implementation()}) in {sys.executable}",
        "system": platform.platform(),
        "CPUs": str(os.cpu_count()),
        "extensions": ", ".join(f"{name}: {_extension(name)}" for name in ("_rle", "_json")),
        "gzip": resolve_engine()[0],
        "aria2c": shutil.which("aria2c") or "not installed",
    }
    found |= {name: _version(name) for name in NEEDED}
    found |= {name: _version(name) for name in _OPTIONAL if _version(name) != "not installed"}
    found |= _caches()
    found |= {name: _shown(name, value) for name, value in sorted(os.environ.items()) if _TELLING.fullmatch(name)}
    return found


def _extension(name: str) -> str:
    try:
        return str(Path(str(importlib.import_module(f"sa1b_hf.{name}").__file__)).name)
    except ImportError as error:
        return f"not used ({error})"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _caches() -> dict[str, str]:
    from datasets import config  # noqa: PLC0415 -- slow to import
    from huggingface_hub import constants  # noqa: PLC0415

    return {"datasets' cache": str(config.HF_DATASETS_CACHE), "Hub's cache": str(constants.HF_HUB_CACHE)}


def _shown(name: str, value: str) -> str:
    if _SECRET.search(name) and not Path(value).exists():
        return "(set)"
    # Proxies may have a user and a password without a scheme before them.
    return re.sub(r"^[^/@]*@", "…@", mask_url(value))
