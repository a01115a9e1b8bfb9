"""Shards whose images do not compress, as photographs do not, so that their gzip streams hold stored blocks."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import subprocess
import tarfile
import zlib

import pytest

from sa1b_hf.testing import encode_document, make_document

Members = list[tuple[str, bytes]]

COMPRESSORS = (
    *(f"gnu-{level}" for level in (1, 6, 9)),
    *(f"zlib-{level}" for level in (0, 1, 6, 9)),
    "zlib-ng-6",
    "isal-1",
    "isal-3",
    "members",
    "none",
)


def jpeg(size: int, seed: int, inner: bytes = b"", *, width: int = 96, height: int = 72) -> bytes:
    """A JPEG for all that a header tells: SOI, a frame header, noise, `inner`, noise, EOI."""
    frame = b"\xff\xc0\x00\x11\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x03" + bytes(9)
    noise = random.Random(seed).randbytes(size)
    half = size // 2
    return b"\xff\xd8" + frame + noise[:half] + inner + noise[half:] + b"\xff\xd9"


def make_members(
    num_images: int, *, seed: int = 0, least: int = 60_000, most: int = 220_000, inner=(), first_id=1
) -> Members:
    """Images and documents in random order; `inner` are bytes hidden in images, in turn."""
    rng = random.Random(seed)
    members = []
    for number in range(num_images):
        image_id = first_id + number
        hidden = inner[number % len(inner)] if inner else b""
        document = make_document(image_id, seed=seed, preset="small")
        shape = {"width": document["image"]["width"], "height": document["image"]["height"]}
        image = jpeg(rng.randint(least, most), seed * 1000 + number, hidden, **shape)
        members += [(f"./sa_{image_id}.jpg", image), (f"./sa_{image_id}.json", encode_document(document))]
    rng.shuffle(members)
    return members


def make_tar(members: Members, tar_format: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if tar_format == tarfile.PAX_FORMAT:
                info.pax_headers = {"comment": name * 20}
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def compress(data: bytes, how: str) -> bytes:
    """Compress as one of `COMPRESSORS`; skips the test where that one is not installed."""
    kind, _, level = how.rpartition("-")
    if how == "none":
        return data
    if how == "members":
        return b"".join(gzip.compress(data[at : at + (1 << 17)], 6, mtime=0) for at in range(0, len(data), 1 << 17))
    if kind == "gnu":
        if not shutil.which("gzip"):
            pytest.skip("needs GNU gzip")
        return subprocess.run(["gzip", "-c", f"-{level}"], input=data, capture_output=True, check=True).stdout
    if kind == "isal":
        return pytest.importorskip("isal.igzip").compress(data, int(level))
    module = pytest.importorskip("zlib_ng.zlib_ng") if kind == "zlib-ng" else zlib
    compressor = module.compressobj(int(level), zlib.DEFLATED, 31)
    return compressor.compress(data) + compressor.flush()
