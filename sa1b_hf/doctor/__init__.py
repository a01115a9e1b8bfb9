"""What is wrong with a setup, and what to do: ``sa1b doctor``.

>>> findings = list(diagnose(Setup(workers=0)))
>>> sorted({finding.check for finding in findings if finding.status == "fail"})
[]

"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from sa1b_hf.links import mask_url

from ._finding import Finding, Setup, Severity
from .environment import environment
from .installation import (
    check_extensions,
    check_inflate,
    check_packages,
    check_pycocotools,
    check_python,
    check_registration,
    check_shadows,
    explain_import,
)
from .machine import check_gpu, check_hub, check_memory, check_tls
from .storage import check_cache, check_disk, check_links, check_shards

__all__ = ["CHECKS", "Finding", "Setup", "Severity", "diagnose", "environment", "explain_import"]

CHECKS: Final[dict[str, Callable[[Setup], Iterator[Finding]]]] = {
    "python": check_python,
    "packages": check_packages,
    "imports": check_shadows,
    "datasets": check_registration,
    "extensions": check_extensions,
    "gzip": check_inflate,
    "pycocotools": check_pycocotools,
    "disk": check_disk,
    "cache": check_cache,
    "links": check_links,
    "shards": check_shards,
    "memory": check_memory,
    "gpu": check_gpu,
    "hub": check_hub,
    "certificates": check_tls,
}
"""Every check by the name that its findings carry, in the order in which they run."""


def diagnose(setup: Setup | None = None) -> Iterator[Finding]:
    """Run every check.

    Parameters
    ----------
    setup
        What is about to be done; by default only what concerns the installation and the machine is looked at.

    Yields
    ------
    Finding
        Of some checks none, of others several. A check that itself breaks is a finding too.

    """
    setup = setup or Setup()
    for name, check in CHECKS.items():
        try:
            yield from check(setup)
        except Exception as error:
            message = f"could not be checked: {type(error).__name__}: {mask_url(error)}"
            yield Finding(name, "fail", message, "run  sa1b env  and report this with its output")
