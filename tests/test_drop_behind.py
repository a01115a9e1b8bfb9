"""The page cache of written parts, as the system itself counts it."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from sa1b_hf._drop_behind import DropBehind
from sa1b_hf._parts import Drafts, RowRange

MEGABYTE = 1 << 20
LENGTH = 96

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice")


def cached_bytes(path: Path) -> int:
    """Bytes of a file that lie in the page cache."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        pages = (ctypes.c_ubyte * (len(mapped) // mmap.PAGESIZE))()
        libc = ctypes.CDLL(None, use_errno=True)
        start = ctypes.c_char.from_buffer(mapped)
        if libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(mapped)), pages):
            pytest.skip(f"no mincore: {os.strerror(ctypes.get_errno())}")
        del start
        return sum(page & 1 for page in pages) * mmap.PAGESIZE


@pytest.fixture
def forgetful(tmp_path) -> Path:
    """A folder on a disk whose files the system forgets when it is told to."""
    path = tmp_path / "probe"
    with path.open("wb") as file:
        file.write(bytes(8 * MEGABYTE))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_bytes(path):
        pytest.skip("files of this file system live in memory")
    return tmp_path


def test_a_part_leaves_the_page_cache(forgetful):
    """A finished draft takes no memory, and its bytes are all there."""
    drafts = Drafts(forgetful / "drafts", forgetful)
    file = drafts.file("part")
    for number in range(LENGTH):
        file.write(bytes([number]) * MEGABYTE)
    file.finish(RowRange())
    assert cached_bytes(file.path) == 0
    assert file.path.stat().st_size == drafts.parts[0].size == LENGTH * MEGABYTE
    assert file.path.read_bytes() == b"".join(bytes([number]) * MEGABYTE for number in range(LENGTH))


def test_pages_are_dropped_while_a_file_grows(forgetful):
    """Once the disk has the first bytes, the next call takes them out of memory."""
    path = forgetful / "growing"
    with path.open("wb", buffering=0) as file:
        cached = DropBehind(file.fileno())
        for number in range(LENGTH):
            file.write(bytes(MEGABYTE))
            cached.written((number + 1) * MEGABYTE)
        os.fsync(file.fileno())
        file.write(bytes(8 * MEGABYTE))
        cached.written((LENGTH + 8) * MEGABYTE)
    assert 0 < cached_bytes(path) <= 48 * MEGABYTE


def test_a_system_without_advice_is_no_error(tmp_path, monkeypatch):
    """Where there is no such call, or a pipe is written, nothing happens."""
    reader, writer = os.pipe()
    try:
        DropBehind(writer).synced()
    finally:
        os.close(reader)
        os.close(writer)
    monkeypatch.delattr(os, "posix_fadvise")
    DropBehind(-1).written(LENGTH * MEGABYTE)
