"""The NumPy kernels stand in for the extension: same results, same errors, and no trace of it needed."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from sa1b_hf import _rle_kernels, _rle_numpy, rle
from sa1b_hf._rle_input import pack
from sa1b_hf._rle_text import compress
from sa1b_hf.errors import RLEError

native = pytest.importorskip("sa1b_hf._rle_native", reason="the extension is not built")
extension = pytest.importorskip("sa1b_hf._rle")

CALLS = {
    "decode": rle.decode,
    "decode smaller": lambda masks: rle.decode(masks, (11, 17)),
    "decode larger": lambda masks: rle.decode(masks, (70, 190)),
    "decode taller": lambda masks: rle.decode(masks, (70, 17)),
    "area average": lambda masks: rle.decode(masks, (11, 17), mode="area"),
    "area average up": lambda masks: rle.decode(masks, (50, 90), mode="area"),
    "area average in bytes": lambda masks: rle.decode(masks, (11, 17), mode="area", dtype=np.uint8),
    "bits": rle.bits,
    "label map": rle.label_map,
    "crops": lambda masks: rle.crops(masks).data,
    "area": rle.area,
    "bbox": rle.bbox,
    "point": lambda masks: rle.point(masks, np.mgrid[0:40:3, 0:80:3].reshape(2, -1).T),
    "iou": lambda masks: rle.iou(masks, masks),
    "merge": rle.merge,
    "encode": lambda masks: rle.encode(rle.decode(masks)),
}


def run(kernels, call, masks):
    """The result of a call with these kernels, or its error as text."""
    usual, _rle_kernels.kernels = _rle_kernels.kernels, kernels
    try:
        return CALLS[call](masks)
    except RLEError as error:
        return str(error), error.reason, error.where
    finally:
        _rle_kernels.kernels = usual


def random_string(rng, height, width):
    """A string that is well-formed, or was until one character of it changed, or never was."""
    kind = rng.integers(8)
    if kind == 0:
        return bytes(rng.integers(48, 112, rng.integers(0, 90)).astype(np.uint8))
    cuts = np.sort(rng.integers(0, height * width + 1, rng.integers(0, 80)))
    text = bytearray(compress(np.diff([0, *cuts, height * width])))
    if kind == 1:
        text[rng.integers(len(text))] = rng.integers(256)
    elif kind == 2:
        text = text[: rng.integers(len(text) + 1)]
    return bytes(text)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("call", CALLS)
def test_extension_and_numpy_agree(call, level):
    """On good and bad strings both give equal arrays or equal errors, whichever instructions the processor has."""
    rng = np.random.default_rng(level)
    reached = extension.limit_simd(level)
    if reached < level:
        extension.limit_simd(3)
        pytest.skip("this processor has not the instructions")
    failures = 0
    try:
        for _ in range(60):
            height, width = rng.integers(1, 70, 2).tolist()
            masks = [
                {"size": [height, width], "counts": random_string(rng, height, width)}
                for _ in range(rng.integers(1, 4))
            ]
            ours, theirs = run(native, call, masks), run(_rle_numpy, call, masks)
            assert type(ours) is type(theirs)
            failures += isinstance(ours, tuple)
            if isinstance(ours, np.ndarray):
                assert ours.dtype == theirs.dtype
                np.testing.assert_array_equal(ours, theirs)
            else:
                assert ours == theirs
    finally:
        extension.limit_simd(3)
    assert 10 < failures < 55


@pytest.mark.parametrize("form", ["decode", "bits"])
def test_a_buffer_outlives_a_change_of_kernels(monkeypatch, form):
    """What the extension wrote to a MaskBuffer the NumPy code clears, and the other way round, at any width."""
    rng = np.random.default_rng(7)
    buffer = rle.MaskBuffer()
    for turn in range(48):
        height, width = [(70, 64), (130, 700), (41, 1027), (300, 90)][turn // 12]
        dense = np.zeros((3, height, width), np.uint8)
        for mask in dense:
            y0, x0 = rng.integers(0, height), rng.integers(0, width)
            y1, x1 = rng.integers(y0, height) + 1, rng.integers(x0, width) + 1
            mask[y0:y1, x0:x1] = rng.random((y1 - y0, x1 - x0)) < rng.choice([0.02, 0.5, 1])
        monkeypatch.setattr(_rle_kernels, "kernels", [native, _rle_numpy][int(rng.integers(2))])
        masks = rle.encode(dense)
        if form == "bits":
            np.testing.assert_array_equal(rle.bits(masks, out=buffer), np.packbits(dense, axis=-1))
        else:
            np.testing.assert_array_equal(rle.decode(masks, out=buffer), dense)


def test_package_works_without_the_extension(tmp_path):
    """With the extension gone the same functions run on NumPy."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['sa1b_hf._rle'] = None\n")
    script = (
        "from sa1b_hf import rle, _rle_kernels, _rle_numpy\n"
        "assert _rle_kernels.kernels is _rle_numpy\n"
        "print(rle.decode({'size': [2, 3], 'counts': [1, 2, 3]}).tolist())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[[0, 1, 0], [1, 0, 0]]", done.stderr


@pytest.mark.parametrize(
    ("kernel", "arguments"),
    [
        (native.fill, (np.zeros((2, 2, 2), np.uint8),)),
        (native.fill, (np.zeros((1, 2, 2), np.int64),)),
        (native.fill, (np.zeros((1, 2, 2), np.uint8, order="F"),)),
        (native.fill, (np.zeros((1, 2, 2), np.uint8), np.zeros((1, 3), np.int64))),
        (native.soft, (np.zeros((2, 2, 2), np.float32),)),
        (native.contains, (np.zeros((3, 2)),)),
    ],
)
def test_no_wrong_array_reaches_the_extension(kernel, arguments):
    """An array of another type, shape or order is refused before its address is taken."""
    packed = pack([{"size": [2, 3], "counts": "6"}])
    with pytest.raises(TypeError, match="expected a C-contiguous array"):
        kernel(packed, *arguments)


def test_threads_survive_a_fork():
    """A forked child makes its own threads instead of waiting for its parent's."""
    script = (
        "import os, numpy as np\n"
        "from sa1b_hf import rle\n"
        "masks = [{'size': [50, 50], 'counts': [700, 1000, 800]}] * 9\n"
        "whole = rle.decode(masks, threads=3).sum()\n"
        "child = os.fork()\n"
        "if not child: os._exit(0 if rle.decode(masks, threads=3).sum() == whole == 9000 else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    command = [sys.executable, "-W", "ignore", "-c", script]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "0", done.stderr
