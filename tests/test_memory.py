"""Memory that is used again: never while somebody holds it, and always zeroed."""

from __future__ import annotations

import gc
import pickle
import threading

import numpy as np
import pytest

from sa1b_hf import _memory, rle
from sa1b_hf._memory import recycled_zeros
from sa1b_hf.collate import collate_pad

BIG = (40, 400, 400)


@pytest.fixture(autouse=True)
def nothing_idle():
    """Start and end with no idle memory."""
    gc.collect()
    _memory._idle.clear()
    _memory._Lease.most_held = 0
    yield
    _memory._idle.clear()


def address(array):
    """Where an array begins."""
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float32", "uint16"])
@pytest.mark.parametrize("shape", [BIG, (), (0, 7), (3, 5), (9_000_000,)])
def test_arrays_are_those_of_numpy(shape, dtype):
    """Whatever the size, and whatever the memory held before, the array equals that of numpy.zeros."""
    for _ in range(3):
        array = recycled_zeros(shape, dtype)
        expected = np.zeros(shape, dtype)
        assert (array.dtype, array.shape, array.strides) == (expected.dtype, expected.shape, expected.strides)
        assert array.flags.writeable
        assert not array.any()
        array[...] = 1
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(array)), array)


def test_memory_is_used_again_when_its_last_view_is_gone():
    """As long as a slice of an array lives, its memory is nobody else's; afterwards it is the next one's."""
    first = recycled_zeros(BIG, np.uint8)
    where, view = address(first), first[3:5, 1:].view(bool)
    view[:] = True
    del first
    assert address(recycled_zeros(BIG, np.uint8)) != where
    assert view.all()
    del view
    _memory._idle.clear()
    again = recycled_zeros(BIG, np.uint8)
    where = address(again)
    del again
    assert address(recycled_zeros((39, 400, 400), np.uint8)) == where
    assert address(recycled_zeros((3, 1200, 1200), np.uint8)) != where, "much too large"


def test_idle_memory_is_bounded(monkeypatch):
    """Of more memory than the limit only the newest is kept."""
    monkeypatch.setattr(_memory._Lease, "most", 20 << 20)
    arrays = [recycled_zeros((6 << 20,), np.uint8) for _ in range(5)]
    del arrays
    assert sum(memory.size for memory in _memory._idle.values()) <= 20 << 20
    assert len(_memory._idle) == 3
    assert recycled_zeros((21 << 20,), np.uint8).base is None, "too large to be kept"


def test_no_more_memory_than_was_held():
    """Sizes that change from call to call do not pile up: idle and held memory stay below the most held at once."""
    for size in np.random.default_rng(1).integers(5 << 20, 9 << 20, 60).tolist():
        array = recycled_zeros((size,), np.uint8)
        del array
        assert sum(memory.size for memory in _memory._idle.values()) <= 9 << 20


def test_threads_never_share_memory():
    """Arrays made and dropped in many threads at once keep what each thread writes."""
    faults = []

    def work(value):
        for _ in range(40):
            array = recycled_zeros((5 << 20,), np.uint8)
            if array[::4096].any():
                faults.append("not zeroed")
            array[::4096] = value
            if (array[::4096] != value).any():
                faults.append("shared")

    threads = [threading.Thread(target=work, args=(value,)) for value in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_results_stay_when_more_are_decoded():
    """Masks and batches that are kept do not change when the same call is made again."""
    one = {"size": [1500, 2000], "counts": [1500 * 3, 700, 800, 700, 1500 * 2000 - 1500 * 3 - 2200]}
    first = rle.decode([one, one])
    kept = first.copy()
    example = {"masks": first, "annotation_ids": np.arange(2), "image_id": 1}
    batch = collate_pad([example, {**example, "masks": first[:1], "annotation_ids": np.arange(1)}])
    for _ in range(3):
        rle.decode([one, one], threads=2)[...] = 7
        collate_pad([example, example])["masks"][...] = 7
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(batch["masks"][0], kept)
    assert not batch["masks"][1, 1].any()
