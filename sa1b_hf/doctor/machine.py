"""Memory, GPU, the Hub and certificates, as far as they can be looked at without importing anything large."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sa1b_hf._tls import tls_context
from sa1b_hf.errors import SA1BError

from ._finding import Finding, Setup

__all__ = ["available_memory", "batch_bytes", "check_gpu", "check_hub", "check_memory", "check_tls"]

_PROCESS: Final = 400 << 20
"""Bytes of a worker with `datasets` and torch imported that decodes one image."""

_ALL_MASKS: Final = 400  # the mean is about 100, the most over 1000: batches of such images only are rare
_PREFETCH: Final = 2  # of torch's DataLoader, for each worker
_SHARED: Final = Path("/dev/shm")  # noqa: S108 -- where tensors pass between processes
_QUERY: Final = ("--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")


def batch_bytes(setup: Setup) -> int:
    """Bytes of a batch as `DecodeMasks` gives it: a stack of masks and the image, each as large as it may get."""
    planes = (setup.max_masks or _ALL_MASKS) + 3
    return setup.batch_size * planes * setup.size**2


def check_memory(setup: Setup) -> Iterator[Finding]:
    """Memory, and memory shared between processes, against the batches that are on their way at once."""
    batch, num_waiting = batch_bytes(setup), setup.workers * _PREFETCH + 1
    needed = (setup.workers + 1) * _PROCESS + num_waiting * batch
    plan = (
        f"batches of {setup.batch_size} with up to {setup.max_masks or _ALL_MASKS} masks at {setup.size} pixels are "
        f"{_mebibytes(batch)} each, {num_waiting} of them at once with {setup.workers} workers"
    )
    advice = (
        'lower max_masks, size, batch size or the number of workers; layout="label_map" takes one plane for all masks, '
        'layout="bits" an eighth'
    )
    free = available_memory()
    if free is None:
        yield Finding("memory", "ok", f"{plan}; this system does not tell how much is free")
    elif free < needed:
        yield Finding("memory", "warn", f"{plan}: {_mebibytes(needed)} in all, {_mebibytes(free)} free", advice)
    else:
        yield Finding("memory", "ok", f"{plan}: {_mebibytes(needed)} in all, {_mebibytes(free)} free")
    shared = num_waiting * batch if setup.workers else 0
    if _SHARED.is_dir() and (room := shutil.disk_usage(_SHARED).free) < shared:
        message = f"{_SHARED} has {_mebibytes(room)} free, and up to {_mebibytes(shared)} of batches pass through it"
        yield Finding(
            "memory",
            "warn",
            f"{message}: workers of a DataLoader would die of a bus error",
            f"start the container with a larger --shm-size, or {advice}",
        )


def available_memory() -> int | None:
    """Bytes that may be used without swapping, also within a container; None if the system does not tell."""
    limits = [limit for limit in (_of_system(), _of_container()) if limit is not None]
    return min(limits, default=None)


def _of_system() -> int | None:
    try:
        found = re.search(r"(?m)^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
        if found:
            return int(found[1]) << 10
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _of_container() -> int | None:
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):
        return None  # no limit reads "max"
    return max(limit - used, 0)


def check_gpu(setup: Setup) -> Iterator[Finding]:
    """Whether torch fits the GPU; neither is started for this."""
    if find_spec("torch") is None:
        yield Finding("gpu", "ok", "torch is not installed; reading and decoding do not need it")
        return
    cuda, cards = _torch_cuda(), _cards()
    if cards and cuda is None:
        message = f"{cards[0][0]} is there, but this torch is built without CUDA"
        yield Finding("gpu", "warn", message, "install torch as https://pytorch.org/get-started/locally says")
    elif cuda is not None and not cards:
        message = f"torch is built for CUDA {cuda}, and nvidia-smi finds no GPU: training will run on the CPU"
        yield Finding("gpu", "warn", message, "check the driver: nvidia-smi must list the GPU")
    for name, total, free in cards if cuda is not None else []:
        batch = batch_bytes(setup)
        message = (
            f"{name}: {free:,} of {total:,} MiB free; a batch's masks and images take {_mebibytes(batch)} as uint8"
        )
        if batch * 4 > free << 20:
            advice = (
                "lower max_masks, size or batch_size; keep masks uint8 or a label map; see the FAQ, CUDA out of memory"
            )
            yield Finding("gpu", "warn", f"{message}, four times that as float32", advice)
        else:
            yield Finding("gpu", "ok", message)
    if not cards and cuda is None:
        name = "Apple's, through torch's mps" if sys.platform == "darwin" else "none"
        yield Finding("gpu", "ok", f"{name}; masks decode on the CPU at little cost")


def _torch_cuda() -> str | None:
    """CUDA's version for which torch was built, read off a file: importing torch takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"(?m)^cuda\b[^=]*=\s*['\"]([\d.]+)", text)
    return found[1] if found else None


def _cards() -> list[tuple[str, int, int]]:
    """Name, and total and free MiB, of each GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
        rows = [line.rsplit(",", 2) for line in done.stdout.splitlines() if line.strip()]
        return [(name.strip(), int(total), int(free)) for name, total, free in rows]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def check_hub(setup: Setup) -> Iterator[Finding]:
    """Whether there is a token for the Hub, and the Hub knows it."""
    import huggingface_hub as hub  # noqa: PLC0415 -- slow to import

    login = "run  hf auth login, or set HF_TOKEN; only private mirrors and publishing need it"
    if hub.constants.HF_HUB_OFFLINE:
        yield Finding("hub", "warn", "HF_HUB_OFFLINE is set: nothing will be asked of the Hub", "unset it for mirrors")
        return
    if hub.get_token() is None:
        yield Finding("hub", "ok", f"not logged in: {login}")
        return
    if not setup.online:
        yield Finding("hub", "ok", "a token is set; --online asks the Hub whose it is")
        return
    try:
        yield Finding("hub", "ok", f"logged in as {hub.HfApi().whoami()['name']}")
    except Exception as error:
        # The message may quote a URL or the token: its kind has to do.
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in {401, 403}:
            yield Finding("hub", "fail", "the Hub does not accept the token", login)
        else:
            yield Finding("hub", "warn", f"the Hub cannot be asked: {type(error).__name__}", "check the network")


def check_tls(_setup: Setup) -> Iterator[Finding]:
    """Whether certificates of servers can be checked."""
    try:
        count = len(tls_context().get_ca_certs())
    except SA1BError as error:
        yield Finding("certificates", "fail", str(error), "correct or unset the variable")
        return
    # Folders of certificates are read as they are needed, and count nothing beforehand.
    yield Finding(
        "certificates", "ok", f"{count} authorities are trusted" if count else "taken from the system's folder"
    )


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"
