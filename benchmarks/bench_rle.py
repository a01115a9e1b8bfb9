"""RLE decoding against the other libraries that do it: one thread, one interleaved run, the same results.

    python benchmarks/bench_rle.py --images 32 --rounds 5
    python benchmarks/bench_rle.py --images 4 --rounds 2 --only 1024,bits --json results.json

Every contender's result is checked against ours before it is timed. A round runs every contender once over all images,
so that a busy machine slows all alike; the best round counts. `pip install rlemasklib faster-coco-eval hotcoco` for
rivals; those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import numpy as np
from pycocotools import mask as coco

from sa1b_hf import _rle_kernels, _rle_numpy, rle

HEIGHT, WIDTH = 1500, 2250
SMALL = (683, 1024)
BARS = {"full fresh": 45, "full reused": 170, "1024": 450, "label map": 180, "crops": 80, "bits": 450, "iou": 7}
cv2.setNumThreads(1)


# -- masks like those of SA-1B: sizes spread over four orders of magnitude, wavy borders, some ragged ones


def wavy(rng: np.random.Generator, area: float) -> np.ndarray | None:
    """One connected shape of about this many pixels, in its own box."""
    aspect, side = math.exp(rng.normal(0, 0.5)), 2.4 * math.sqrt(area) + 16
    height, width = (int(np.clip(side * f, 12, limit)) for f, limit in ((aspect, HEIGHT), (1 / aspect, WIDTH)))
    cell = float(np.clip(math.sqrt(area) / 14, 2.5, 8.8))  # the model's masks have 256 pixels along the longer side
    rows, columns = max(6, int(height / cell)), max(6, int(width / cell))
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    field = (-2 * (x * x + y * y)).astype(np.float32)
    scale, strength = max(rows, columns) / 3, 0.8
    while scale > 0.8:
        noise = rng.standard_normal((int(rows / scale) + 2, int(columns / scale) + 2)).astype(np.float32)
        field += strength * cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_CUBIC)
        scale, strength = scale / 2, strength / 2
    field = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.2:
        field += 0.12 * cv2.GaussianBlur(rng.standard_normal(field.shape).astype(np.float32), (0, 0), 1.2)
    threshold = np.quantile(field[::4, ::4], 1 - min(area / field.size, 0.92))
    count, labels, stats, _ = cv2.connectedComponentsWithStats((field > threshold).astype(np.uint8))
    if count < 2:
        return None
    return (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)


def make_image(seed: int, num_masks: int = 100) -> list[dict]:
    """Segmentations of one image."""
    rng = np.random.default_rng(seed)
    segmentations: list[dict] = []
    while len(segmentations) < num_masks:
        part = rng.uniform(0.3, 0.6) if rng.random() < 0.025 else math.exp(math.log(0.0055) + 1.55 * rng.normal())
        shape = wavy(rng, float(np.clip(part, 3e-5, 0.6)) * HEIGHT * WIDTH)
        if shape is None:
            continue
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        y, x = rng.integers(0, HEIGHT - shape.shape[0] + 1), rng.integers(0, WIDTH - shape.shape[1] + 1)
        mask[y : y + shape.shape[0], x : x + shape.shape[1]] = shape
        segmentations.append(rle.encode(mask))
    return segmentations


# -- contenders: name of the task -> name of the contender -> function of one image's segmentations


class Reused:
    """Arrays that are made once and written again for every image."""

    def __init__(self) -> None:
        self.arrays: dict[tuple, np.ndarray] = {}

    def __call__(self, *shape: int) -> np.ndarray:
        return self.arrays.setdefault(shape, np.zeros(shape, np.uint8))


Task = Callable[[list[dict]], object]
reused = Reused()


def with_decoder(decode: Callable[[dict], np.ndarray], order: str = "C") -> dict[str, Task]:
    """The usual recipes around a function that decodes one mask; "F" works on views that fit its memory order."""

    def resize(mask: np.ndarray) -> np.ndarray:
        if order == "C":
            return cv2.resize(mask, SMALL[::-1], interpolation=cv2.INTER_NEAREST)
        # The transposed view is in C order: no copy of the whole mask is needed.
        return cv2.resize(mask.T, SMALL, interpolation=cv2.INTER_NEAREST).T

    def into(out: np.ndarray, masks: list[dict], convert: Callable = lambda mask: mask) -> np.ndarray:
        for plane, mask in zip(out, masks, strict=False):
            plane[...] = convert(decode(mask))
        return out[: len(masks)]

    def label_map(masks: list[dict]) -> np.ndarray:
        labels = np.zeros((HEIGHT, WIDTH), np.uint8, order=order)
        for index in np.argsort(-rle.area(masks), kind="stable"):
            mask = decode(masks[index]).view(bool)
            if order == "F":
                labels.T[mask.T] = index + 1
            else:
                labels[mask] = index + 1
        return np.ascontiguousarray(labels)

    def crops(masks: list[dict]) -> list[np.ndarray]:
        boxes = rle.bbox(masks, convention="coco").astype(int)
        return [
            np.ascontiguousarray(decode(m)[y : y + h, x : x + w]) for m, (x, y, w, h) in zip(masks, boxes, strict=True)
        ]

    return {
        "full fresh": lambda masks: into(np.empty((len(masks), HEIGHT, WIDTH), np.uint8), masks),
        "full reused": lambda masks: into(reused(len(masks), HEIGHT, WIDTH), masks),
        "10 of 100": lambda masks: into(reused(10, HEIGHT, WIDTH), masks[::10]),
        "1024": lambda masks: into(reused(len(masks), *SMALL), masks, resize),
        "label map": label_map,
        "crops": crops,
        "bits": lambda masks: np.stack([np.packbits(np.ascontiguousarray(decode(m)), axis=-1) for m in masks]),
    }


def of_pycocotools(module, order: str = "C") -> dict[str, Task]:
    tasks = with_decoder(module.decode, order)
    tasks["area+bbox"] = lambda masks: measures(module.area(masks), module.toBbox(masks))
    tasks["iou"] = lambda masks: module.iou(masks, masks, [0] * len(masks))
    return tasks


def of_rlemasklib(library) -> dict[str, Task]:
    make = library.RLEMask.from_dict
    tasks = with_decoder(lambda mask: make(mask).to_array(order="C"))
    written: dict[int, list] = {}

    def into(out: np.ndarray, masks: list[dict]) -> np.ndarray:
        # Its own way to reuse memory: take away exactly the pixels that the masks before had set.
        for plane, item in zip(out, written.get(len(out), []), strict=False):
            item.decode_into(plane, 0)
        written[len(out)] = [make(mask) for mask in masks]
        for plane, item in zip(out, written[len(out)], strict=True):
            item.decode_into(plane, 1)
        return out

    def fresh(masks: list[dict]) -> np.ndarray:
        out = np.zeros((len(masks), HEIGHT, WIDTH), np.uint8)
        for plane, mask in zip(out, masks, strict=True):
            make(mask).decode_into(plane, 1)
        return out

    def label_map(masks: list[dict]) -> np.ndarray:
        items = [make(m) for m in masks]
        order = np.argsort([-item.area() for item in items], kind="stable")
        labels = library.RLEMask.merge_to_label_map([items[i] for i in order])
        return np.concatenate([[0], order + 1]).astype(np.uint8)[labels]

    tasks["full fresh"] = fresh
    tasks["full reused"] = lambda masks: into(reused(len(masks), HEIGHT, WIDTH, 1)[..., 0], masks)
    tasks["10 of 100"] = lambda masks: into(reused(10, HEIGHT, WIDTH, 1)[..., 0], masks[::10])
    tasks["crops"] = lambda masks: [make(m).tight_crop()[0].to_array(order="C") for m in masks]
    tasks["label map"] = label_map
    tasks["area+bbox"] = lambda masks: measures(*zip(*((i.area(), i.bbox()) for i in map(make, masks)), strict=True))
    tasks["iou"] = lambda masks: library.RLEMask.iou_matrix(*[[make(m) for m in masks]] * 2)
    # Its own resizing picks other pixels than OpenCV's, so it is timed but not compared.
    tasks["1024 own pixels"] = lambda masks: [make(m).resize(SMALL).to_array(order="C") for m in masks]
    return tasks


def measures(areas, boxes) -> np.ndarray:
    return np.column_stack([np.asarray(areas, float), np.asarray(boxes, float)])


def of_ours() -> dict[str, Task]:
    buffers = {task: rle.MaskBuffer() for task in ("full reused", "10 of 100", "1024", "bits")}
    return {
        "full fresh": rle.decode,
        "full reused": lambda masks: rle.decode(masks, out=buffers["full reused"]),
        "10 of 100": lambda masks: rle.decode(masks[::10], out=buffers["10 of 100"]),
        "1024": lambda masks: rle.decode(masks, SMALL, out=buffers["1024"]),
        "1024 fresh": lambda masks: rle.decode(masks, SMALL),
        "1024 own pixels": lambda masks: rle.decode(masks, SMALL, out=buffers["1024"]),
        "label map": rle.label_map,
        "crops": rle.crops,
        "bits": lambda masks: rle.bits(masks, out=buffers["bits"]),
        "bits fresh": rle.bits,
        "area+bbox": lambda masks: measures(rle.area(masks), rle.bbox(masks, convention="coco")),
        "iou": lambda masks: rle.iou(masks, masks),
    }


def without_extension(tasks: dict[str, Task]) -> dict[str, Task]:
    def wrap(task: Task) -> Task:
        def run(masks: list[dict]) -> object:
            usual, _rle_kernels.kernels = _rle_kernels.kernels, _rle_numpy
            try:
                return task(masks)
            finally:
                _rle_kernels.kernels = usual

        return run

    return {name: wrap(task) for name, task in tasks.items()}


def contenders() -> Iterator[tuple[str, dict[str, Task]]]:
    yield "sa1b_hf", of_ours()
    full, small = rle.MaskBuffer(), rle.MaskBuffer()
    threaded: dict[str, Task] = {
        "full fresh": lambda masks: rle.decode(masks, threads=2),
        "full reused": lambda masks: rle.decode(masks, out=full, threads=2),
        "1024": lambda masks: rle.decode(masks, SMALL, out=small, threads=2),
    }
    yield "sa1b_hf, 2 threads", threaded
    yield "sa1b_hf, NumPy", without_extension(of_ours())
    yield "pycocotools", of_pycocotools(coco)
    # The same with what few know: its masks are in Fortran order, so the transposed view is resized without a copy.
    yield "pycocotools, views", of_pycocotools(coco, "F")
    for name, module, make in (
        ("rlemasklib", "rlemasklib", of_rlemasklib),
        ("faster-coco-eval", "faster_coco_eval.core.mask", of_pycocotools),
        ("hotcoco", "hotcoco.mask", of_pycocotools),
    ):
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            print(f"{name}: not installed")
        else:
            yield name, make(importlib.import_module(module))


# -- the run


def same(ours: object, theirs: object) -> bool:
    if isinstance(theirs, np.ndarray):
        return np.allclose(ours, theirs) if theirs.dtype.kind == "f" else np.array_equal(ours, theirs)
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def measure(
    images: list[list[dict]], rounds: int, only: set[str], clock: Callable[[], float]
) -> dict[str, dict[str, float]]:
    """Milliseconds per image: task -> contender -> best round."""
    entries = [
        (name, task, run) for name, tasks in contenders() for task, run in tasks.items() if not only or task in only
    ]
    reference = {task: run(images[0]) for name, task, run in entries if name == "sa1b_hf"}
    reference = {task: value.copy() if isinstance(value, np.ndarray) else value for task, value in reference.items()}
    for name, task, run in entries:
        if task != "1024 own pixels" and not same(reference[task], run(images[0])):
            raise SystemExit(f"{name}: another result than ours for {task!r}")
    best: dict[str, dict[str, float]] = {}
    for task in dict.fromkeys(task for _, task, _ in entries):
        group = [(name, run) for name, other, run in entries if other == task]
        times = {name: math.inf for name, _ in group}
        for _ in range(rounds):
            for name, run in group:
                # A slow contender is timed on fewer images: a part of them is enough to tell.
                part = (
                    images
                    if name.startswith("sa1b_hf") or name == "rlemasklib"
                    else images[:: max(1, len(images) // 8)]
                )
                began = clock()
                for masks in part:
                    run(masks)
                times[name] = min(times[name], (clock() - began) / len(part) * 1e3)
        best[task] = times
        print_task(task, times)
    return best


def print_task(task: str, times: dict[str, float]) -> None:
    """Print times, and how many times as fast as pycocotools each is: as it is usually called, and at its best."""
    base = times.get("pycocotools")
    best = min((ms for name, ms in times.items() if name.startswith("pycocotools")), default=math.inf)
    print(task)
    for name, ms in sorted(times.items(), key=lambda item: item[1]):
        print(f"    {name:20s} {ms:9.3f} ms" + (f" {base / ms:7.1f}x {best / ms:7.1f}x" if base else ""), flush=True)
    for peer, least, value in bars(task, times, best):
        print(f"    bar {least:.1f}x {peer}: {value:.1f}x {'ok' if value >= least else 'MISSED'}", flush=True)


def bars(task: str, times: dict[str, float], best: float) -> Iterator[tuple[str, float, float]]:
    """Against whom, at least how many times as fast, and how many times it is."""
    if "sa1b_hf" not in times or math.isinf(best):
        return
    if task in BARS:
        yield "pycocotools at its best", BARS[task], best / times["sa1b_hf"]
    if "sa1b_hf, NumPy" in times and task == "full reused":
        yield "the same, without the extension", 8, best / times["sa1b_hf, NumPy"]
    if "rlemasklib" in times:
        yield "rlemasklib", 8 if task == "1024" else 1, times["rlemasklib"] / times["sa1b_hf"]
    if "sa1b_hf, 2 threads" in times:
        yield "one thread, with two", 1.7, times["sa1b_hf"] / times["sa1b_hf, 2 threads"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32, help="synthetic images of 100 masks each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="comma-separated tasks")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--cpu", action="store_true", help="CPU time, for a busy machine: says nothing of threads")
    args = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    images = [make_image(seed) for seed in range(args.images)]
    characters = np.mean([len(mask["counts"]) for masks in images for mask in masks])
    print(f"{args.images} images of 100 masks, {HEIGHT}x{WIDTH}, {characters:.0f} characters a mask; ms per image")
    only = {task.strip() for task in args.only.split(",") if task.strip()}
    best = measure(images, args.rounds, only, time.process_time if args.cpu else time.perf_counter)
    if args.json:
        args.json.write_text(json.dumps(best, indent=1))


if __name__ == "__main__":
    main()
