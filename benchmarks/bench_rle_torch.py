"""Masks onto a device: decoded by the CPU codec and uploaded, against decoded on the device; the same results.

    python benchmarks/bench_rle_torch.py --images 8 --rounds 10
    python benchmarks/bench_rle_torch.py --images 2 --rounds 3 --json results.json

Times are from segmentations in host memory to masks that are ready on the device, which is waited for. A round runs
every contender once over all images, the best round counts. Without a GPU the times are those of the CPU, and say
nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bench_rle import HEIGHT, SMALL, WIDTH, make_image

from sa1b_hf import rle, rle_torch

Contender = Callable[[list[dict]], torch.Tensor]


class Codec:
    """The CPU codec, into pinned memory on the way to a GPU, which is the fastest that it can do there."""

    def __init__(self, device: torch.device, size: tuple[int, int], threads: int) -> None:
        self.device, self.size, self.threads = device, size, threads
        self.staging = torch.empty(0, dtype=torch.uint8)

    def __call__(self, masks: list[dict]) -> torch.Tensor:
        if self.device.type != "cuda":
            return torch.from_numpy(rle.decode(masks, self.size, threads=self.threads))
        shape = (len(masks), *self.size)
        if self.staging.shape != shape:
            self.staging = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        rle.decode(masks, self.size, out=self.staging.numpy(), threads=self.threads)
        return self.staging.to(self.device, non_blocking=True)


def contenders(device: torch.device) -> dict[str, dict[str, Contender]]:
    """Task → contender → function of one image's segmentations."""
    tasks: dict[str, dict[str, Contender]] = {}
    for task, size in (("1024", SMALL), ("full", (HEIGHT, WIDTH))):
        tasks[task] = {
            "codec + upload": Codec(device, size, 1),
            "codec, 2 threads + upload": Codec(device, size, 2),
            "on the device": lambda masks, size=size: rle_torch.decode(masks, size, device=device),
        }
    tasks["label map 1024"] = {
        "codec + upload": lambda masks: torch.from_numpy(rle.label_map(masks, SMALL)).to(device),
        "on the device": lambda masks: rle_torch.label_map(masks, SMALL, device=device),
    }
    tasks["validate only"] = {"on the CPU": rle.validate}
    return tasks


def run(contender: Contender, images: list[list[dict]], device: torch.device) -> float:
    """Milliseconds per image."""
    began = time.perf_counter()
    for masks in images:
        contender(masks)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / len(images) * 1e3


def measure(images: list[list[dict]], rounds: int, device: torch.device) -> dict[str, dict[str, float]]:
    best: dict[str, dict[str, float]] = {}
    for task, group in contenders(device).items():
        results = [contender(images[0]) for contender in group.values()]
        if any(not torch.equal(result, results[0]) for result in results[1:]):
            raise SystemExit(f"{task}: results differ")
        del results
        times = dict.fromkeys(group, math.inf)
        for _ in range(rounds):
            for name, contender in group.items():
                times[name] = min(times[name], run(contender, images, device))
        best[task] = times
        print(task)
        for name, milliseconds in sorted(times.items(), key=lambda item: item[1]):
            print(f"    {name:28s} {milliseconds:9.3f} ms", flush=True)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8, help="synthetic images of 100 masks each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    if torch.cuda.is_available():
        device = torch.device("cuda")
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    else:
        device = torch.device("cpu")
        threads = torch.get_num_threads()
        print(f"No GPU is at hand: torch {torch.__version__} on the CPU, {threads} threads; not a figure of any GPU.")
    images = [make_image(seed) for seed in range(args.images)]
    characters = sum(len(mask["counts"]) for masks in images for mask in masks) // len(images)
    print(f"{args.images} images of 100 masks, {HEIGHT}x{WIDTH}, {characters} characters an image; ms per image")
    best = measure(images, args.rounds, device)
    if args.json:
        args.json.write_text(json.dumps({"device": str(device), "milliseconds": best}, indent=1))


if __name__ == "__main__":
    main()
