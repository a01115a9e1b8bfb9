"""COCO run-length masks → torch tensors on a device: the characters travel there, and pixels are made there.

What is malformed is refused on the CPU before anything is uploaded; then torch operations decode the masks, a chunk of
them at a time.

A device that is not there, or lacks an operation, is replaced by the codec of `rle`, with one warning.
"""

from __future__ import annotations

import functools
import importlib
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _rle_kernels as backend
from ._rle_decode import target_shape
from ._rle_input import Segmentations, is_single, pack
from ._rle_output import MAX_OUTPUT_BYTES, zeros
from ._rle_packed import Packed
from ._rle_torch import fill, iter_chunks
from .errors import ConfigError, MissingExtraError

__all__ = ["decode", "label_map"]

_MAX_BYTES = 1 << 28


def decode(
    segmentations: Segmentations,
    size: tuple[int, int] | None = None,
    *,
    device: Any = "cuda",
    dtype: Any = None,
    max_bytes: int = _MAX_BYTES,
) -> Any:
    """Decode masks into one tensor on a device.

    Parameters
    ----------
    segmentations
        Masks in any form of `rle`.
    size
        Target (h, w) in pixels; the masks' own size by default, which must then be the same for all.
    device
        A ``torch.device`` or its name. On ``"cpu"`` `rle.decode` does the same many times faster.
    dtype
        ``torch.uint8`` (0 and 1, the default) or ``torch.bool``.
    max_bytes
        Scratch memory on the device, in bytes, beyond the result; at least what one mask takes is used.

    Returns
    -------
    torch.Tensor
        Shape (N, h, w), contiguous: the pixels that `rle.decode` gives. On the CPU if the device is not available.

    Raises
    ------
    RLEError
        A mask is malformed; nothing was uploaded then.
    ConfigError
        An option makes no sense, or the result would be larger than `rle.MAX_OUTPUT_BYTES`.
    MissingExtraError
        torch is not installed.

    """
    torch = _import_torch()
    kind = torch.uint8 if dtype is None else dtype
    if kind not in (torch.uint8, torch.bool):
        raise ConfigError(f"dtype: expected torch.uint8 or torch.bool, found {dtype!r}")
    place = _read_device(torch, device)
    packed = pack(segmentations)
    shape = (len(packed), *target_shape(packed, size))
    _check_bytes(shape, max_bytes)
    backend.kernels.stats(packed)  # refuses what is malformed

    def on_device() -> Any:
        return _decode(torch, packed, shape, place, max_bytes)

    def on_cpu() -> Any:
        planes = zeros(shape, np.uint8)
        backend.kernels.fill(packed, planes)
        return torch.from_numpy(planes)

    planes = _first_possible(torch, place, on_device, on_cpu).view(kind)
    return planes[0] if is_single(segmentations) else planes


def label_map(
    segmentations: Segmentations,
    size: tuple[int, int] | None = None,
    *,
    device: Any = "cuda",
    max_bytes: int = _MAX_BYTES,
) -> Any:
    """Paint all masks into one map on a device, the largest first: 0 for no mask, i + 1 for mask i.

    Parameters
    ----------
    segmentations, size, device, max_bytes
        As for `decode`; ``max_bytes`` includes the planes of a chunk of masks.

    Returns
    -------
    torch.Tensor
        Shape (h, w): the labels that `rle.label_map` gives; uint8 for up to 255 masks, int32 for more.

    Raises
    ------
    RLEError, ConfigError, MissingExtraError
        As for `decode`.

    """
    torch = _import_torch()
    place = _read_device(torch, device)
    packed = pack(segmentations)
    shape = (len(packed), *target_shape(packed, size))
    _check_bytes((1, *shape[1:]), max_bytes)
    areas, _ = backend.kernels.stats(packed)
    order = np.argsort(-areas, kind="stable")
    kind = torch.uint8 if len(packed) <= np.iinfo(np.uint8).max else torch.int32

    def on_device() -> Any:
        labels = torch.zeros(shape[1:], dtype=kind, device=place)
        sequence = _take(packed, order)
        # Half for the planes of a chunk, half for what making them takes.
        for first, last in iter_chunks(sequence, shape[1:], max_bytes // 2):
            part = _slice(sequence, first, last)
            planes = _decode(torch, part, (last - first, *shape[1:]), place, max_bytes // 2).view(torch.bool)
            for plane, index in zip(planes, order[first:last].tolist(), strict=True):
                labels.masked_fill_(plane, index + 1)
        return labels

    def on_cpu() -> Any:
        labels = zeros(shape[1:], np.uint32)
        backend.kernels.paint(packed, order, labels)
        return torch.from_numpy(labels.view(np.int32)).to(kind)

    return _first_possible(torch, place, on_device, on_cpu)


# -- where it runs


def _import_torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise MissingExtraError("decoding on a device", "torch") from error


def _read_device(torch: Any, device: Any) -> Any:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        first_line = str(error).partition("\n")[0]
        raise ConfigError(f"device: expected a torch.device or its name, found {device!r} ({first_line})") from error


def _first_possible(torch: Any, device: Any, on_device: Callable[[], Any], on_cpu: Callable[[], Any]) -> Any:
    """Give the result of the device, or of the CPU if the device cannot."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        _warn_once(str(device), f"not available ({error}), masks are decoded by the CPU and stay there")
        return on_cpu()
    try:
        return on_device()
    except NotImplementedError as error:
        _warn_once(str(device), f"lacks an operation ({error}), masks are decoded by the CPU and copied")
        return on_cpu().to(device)


@functools.cache
def _warn_once(device: str, message: str) -> None:
    warnings.warn(f"device {device!r}: {message}", RuntimeWarning, stacklevel=4)


def _check_bytes(shape: tuple[int, ...], max_bytes: int) -> None:
    if max_bytes < 1:
        raise ConfigError(f"max_bytes: expected 1 or more, found {max_bytes}")
    if math.prod(shape) > MAX_OUTPUT_BYTES:
        advice = "decode fewer masks at a time, or to a smaller size="
        raise ConfigError(f"expected an output of at most {MAX_OUTPUT_BYTES} bytes, found shape {shape}; {advice}")


# -- chunks of masks


def _take(packed: Packed, order: NDArray[np.int64]) -> Packed:
    """The same masks in another order."""
    pieces = [packed.text[packed.offsets[index] : packed.offsets[index + 1]] for index in order]
    lengths = np.diff(packed.offsets)[order]
    text = np.concatenate([np.zeros(0, np.uint8), *pieces])
    return Packed(text, np.concatenate([[0], np.cumsum(lengths)]), packed.sizes[order])


def _slice(packed: Packed, first: int, last: int) -> Packed:
    return Packed(packed.text, packed.offsets[first : last + 1], packed.sizes[first:last])


def _decode(torch: Any, packed: Packed, shape: tuple[int, ...], device: Any, max_bytes: int) -> Any:
    planes = torch.empty(shape, dtype=torch.uint8, device=device)
    for first, last in iter_chunks(packed, shape[1:], max_bytes):
        fill(torch, _slice(packed, first, last), planes[first:last])
    return planes
