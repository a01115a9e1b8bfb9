"""Masks over an image: sa1b_hf.viz against supervision, on the same image, one core; the JPEG is decoded beforehand.

python benchmarks/bench_viz.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from sa1b_hf import viz
from sa1b_hf.testing.scenes import make_scene

BAR_MILLISECONDS = 60
BAR_RATIO = 3
NUM_MASKS = 100
WIDTH, HEIGHT = 2250, 1500
OPACITY = 0.5


def make_row() -> dict[str, Any]:
    """The synthetic scene of this size that has at least 100 masks, cut to 100."""
    for variant in range(8):
        scene = make_scene("full", WIDTH, HEIGHT, variant)
        if len(scene.annotations) >= NUM_MASKS:
            break
    import json

    annotations = [json.loads(f"{head}{number}{tail}") for number, (head, tail) in enumerate(scene.annotations)]
    image = Image.open(io.BytesIO(scene.jpeg))
    image.load()
    row = {"image": image, "image_id": 1, "width": WIDTH, "height": HEIGHT, "file_name": "sa_1.jpg"}
    return {**row, "annotations": annotations[:NUM_MASKS]}


def contenders(row: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {
        "sa1b_hf.viz, masks": lambda: viz.draw(row, outline=False, opacity=OPACITY),
        "sa1b_hf.viz, masks and outlines": lambda: viz.draw(row, opacity=OPACITY),
        "sa1b_hf.viz, masks, boxes, points": lambda: viz.draw(row, boxes=True, points=True),
        "sa1b_hf.viz at 1024": lambda: viz.draw(row, size=1024),
    }
    try:
        import supervision as sv
    except ImportError:
        print("supervision is not installed: pip install supervision")
        return found
    pixels = np.asarray(row["image"])
    segmentations = [one["segmentation"] for one in row["annotations"]]
    boxes = np.array([one["bbox"] for one in row["annotations"]])
    boxes[:, 2:] += boxes[:, :2]

    def decode() -> np.ndarray:
        return np.ascontiguousarray(coco.decode(segmentations).transpose(2, 0, 1)).astype(bool)

    annotator = sv.MaskAnnotator(opacity=OPACITY, color_lookup=sv.ColorLookup.INDEX)

    def annotate(masks: np.ndarray) -> np.ndarray:
        return annotator.annotate(pixels.copy(), sv.Detections(xyxy=boxes, mask=masks))

    dense = decode()
    found["supervision, masks decoded beforehand"] = lambda: annotate(dense)
    found["supervision, with pycocotools' decode"] = lambda: annotate(decode())
    return found


def measure(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Milliseconds of the median round; the contenders take turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if number:  # the first one warms up
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: float(np.median(values)) for name, values in times.items()}


def check_same_result(runs: dict[str, Callable[[], Any]]) -> None:
    """Both change exactly the pixels that a mask covers."""
    ours = np.asarray(runs["sa1b_hf.viz, masks"]())
    if "supervision, masks decoded beforehand" in runs:
        theirs = runs["supervision, masks decoded beforehand"]()
        plain = np.asarray(make_row()["image"])
        # a colour may by chance be that of the pixel
        differs = (ours != plain).any(axis=2) != (theirs != plain).any(axis=2)
        if differs.mean() > 0.001:
            raise SystemExit(f"the pictures differ: {differs.mean():.2%} of the pixels are painted by one alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    row = make_row()
    runs = contenders(row)
    check_same_result(runs)
    medians = measure(runs, options.rounds)
    ours = medians["sa1b_hf.viz, masks"]
    print(f"{len(row['annotations'])} masks on {WIDTH}x{HEIGHT}, one core, JPEG decoded beforehand")
    print("| | ms | times |\n|---|--:|--:|")
    for name, value in medians.items():
        print(f"| {name} | {value:.1f} | {value / ours:.1f} |")
    full = medians["sa1b_hf.viz, masks and outlines"]
    print(f"\nbar {BAR_MILLISECONDS} ms: {full:.1f} ms {'ok' if full <= BAR_MILLISECONDS else 'MISSED'}")
    for name, value in medians.items():
        if name.startswith("supervision"):
            print(f"bar {BAR_RATIO}x {name}: {value / ours:.1f}x {'ok' if value >= BAR_RATIO * ours else 'MISSED'}")


if __name__ == "__main__":
    main()
