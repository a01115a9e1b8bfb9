"""From a plain tar to batches at 1024 pixels on one core: `DecodeMasks` against the usual recipes, and its memory.

Run ``python benchmarks/bench_masks.py``; every pipeline reads the same synthetic shard through the same reader and goes
through a torch DataLoader in this process. Rounds are interleaved; the median counts, and the best round is told too,
because what disturbs most on a shared machine is the kernel's search for large pages.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

BAR_SPEED, BAR_MEGABYTES = 10.0, 120
SIZE, MAX_MASKS, BATCH = 1024, 64, 4


def make_folder(folder: Path, num_images: int) -> Path:
    from sa1b_hf.testing import make_shard

    folder.mkdir(parents=True, exist_ok=True)
    shard = folder / "sa_000000.tar"
    if not shard.exists():
        make_shard(shard, num_images=num_images, preset="full", compression="none", order="sorted", seed=1)
    return folder


def load(folder: Path, *, streaming: bool = True):
    import sa1b_hf

    options = {"split": "train", "streaming": streaming}
    return sa1b_hf.load_dataset("sa1b.py", data_dir=str(folder), **options, cache_dir=str(folder / "cache"))


class Recipe:
    """What one finds in tutorials: PIL, pycocotools, cv2; `best`: one call, and no transpose before the resize."""

    def __init__(self, *, best: bool, every_mask: bool) -> None:
        self.best, self.every_mask = best, every_mask

    def __call__(self, row):
        import cv2
        from pycocotools import mask as coco

        from sa1b_hf.resizing import Geometry

        annotations = row["annotations"]
        chosen = choose(row)
        height, width = Geometry.fit((row["height"], row["width"]), SIZE).size
        wanted = range(len(annotations)) if self.every_mask else chosen
        rles = [annotations[index]["segmentation"] for index in wanted]
        if self.best:
            planes = coco.decode(rles).T
            masks = [
                cv2.resize(planes[at], (height, width), interpolation=cv2.INTER_NEAREST).T for at in range(len(planes))
            ]
        else:
            planes = [coco.decode(one) for one in rles]
            masks = [cv2.resize(one, (width, height), interpolation=cv2.INTER_NEAREST) for one in planes]
        masks = [masks[index] for index in chosen] if self.every_mask else masks
        image = np.asarray(row["image"].convert("RGB"))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        shape = (len(masks), height, width)
        return {
            "image": image,
            "masks": np.stack(masks) if masks else np.zeros(shape, np.uint8),
            "annotation_ids": np.array([annotations[index]["id"] for index in chosen], np.int64),
            "image_id": row["image_id"],
        }


def choose(row) -> list[int]:
    """The indices that `DecodeMasks` takes, so that both decode the same masks."""
    from sa1b_hf.sampling import sample_masks

    rng = np.random.default_rng([0, 0, row["image_id"]])
    return sample_masks(len(row["annotations"]), MAX_MASKS, "random", rng).tolist()


def pipelines(folder: Path) -> dict:
    import datasets
    from torch.utils.data import DataLoader

    from sa1b_hf.collate import collate_pad
    from sa1b_hf.masks import DecodeMasks

    decode = DecodeMasks(size=SIZE, max_masks=MAX_MASKS)
    pt = partial(collate_pad, tensors="pt")

    def loader(dataset, collate=pt):
        return DataLoader(dataset, batch_size=BATCH, collate_fn=collate, num_workers=0)

    stream, prepared = load(folder), load(folder, streaming=False)
    drop = {"remove_columns": ["annotations", "width", "height", "file_name", "shard"]}
    small = {layout: DecodeMasks(size=SIZE, max_masks=MAX_MASKS, layout=layout) for layout in ("label_map", "bits")}
    return {
        "usual recipe, every mask": loader(stream.map(Recipe(best=False, every_mask=True), **drop)),
        "usual recipe, 64 masks": loader(stream.map(Recipe(best=False, every_mask=False), **drop)),
        "usual recipe, 64 masks, best idiom": loader(stream.map(Recipe(best=True, every_mask=False), **drop)),
        "stream.map(DecodeMasks)": loader(stream.map(decode, **drop)),
        "DecodeMasks.attach(stream)": loader(decode.attach(stream)),
        "prepared.with_transform(DecodeMasks)": loader(prepared.with_transform(decode)),
        "DecodeMasks.attach(prepared)": loader(decode.attach(prepared)),
        "stream, arrow, decode in collate": loader(stream.with_format("arrow"), partial(pt, decode=decode)),
        "DecodeMasks(label_map).attach(stream)": loader(small["label_map"].attach(stream)),
        "DecodeMasks(bits).attach(stream)": loader(small["bits"].attach(stream)),
        "reading only": DataLoader(
            stream.cast_column("image", datasets.Image(decode=False)), batch_size=BATCH, collate_fn=list
        ),
    }


def run(loader) -> tuple[float, int]:
    gc.collect()
    begin, images = time.perf_counter(), 0
    for batch in loader:
        images += len(batch["image_id"]) if isinstance(batch, dict) else len(batch)
    return time.perf_counter() - begin, images


def check_same(loaders: dict) -> None:
    """Recipe and hook must give the same pixels for the same masks."""
    names = [name for name in loaders if "only" not in name and "(label" not in name and "(bits" not in name]
    for batches in zip(*(loaders[name] for name in names), strict=True):
        for batch in batches[1:]:
            assert (batch["masks"] == batches[0]["masks"]).all()
            assert (batch["annotation_ids"] == batches[0]["annotation_ids"]).all()
        break


def bench_speed(folder: Path, rounds: int) -> tuple[dict, dict]:
    """Seconds per image: the median of the rounds, and the best."""
    loaders = pipelines(folder)
    check_same(loaders)
    seconds: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(rounds):
        for name, loader in loaders.items():
            elapsed, images = run(loader)
            seconds[name].append(elapsed / images)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return median, {name: min(times) for name, times in seconds.items()}


def bench_steps(folder: Path, rounds: int) -> dict:
    """Milliseconds per image of each step of `DecodeMasks`, on rows in memory."""
    import datasets
    from PIL import Image

    from sa1b_hf import images, rle
    from sa1b_hf.collate import collate_pad
    from sa1b_hf.masks import DecodeMasks
    from sa1b_hf.resizing import Geometry

    rows = list(load(folder).cast_column("image", datasets.Image(decode=False)))
    decode = DecodeMasks(size=SIZE, max_masks=MAX_MASKS)
    sizes = {row["image_id"]: Geometry.fit((row["height"], row["width"]), SIZE).size for row in rows}
    opened = {row["image_id"]: images._open(row["image"], sizes[row["image_id"]], None) for row in rows}
    masks = {row["image_id"]: [row["annotations"][index] for index in choose(row)] for row in rows}
    steps = {
        "JPEG, whole (Pillow)": lambda row: Image.open(io.BytesIO(row["image"]["bytes"])).load(),
        "JPEG, scaled": lambda row: images._open(row["image"], sizes[row["image_id"]], None),
        "resize": lambda row: images._resize(*opened[row["image_id"]], sizes[row["image_id"]], "bilinear"),
        "masks": lambda row: rle.decode(masks[row["image_id"]], sizes[row["image_id"]]),
        "DecodeMasks": decode,
    }
    times: dict[str, list[float]] = {name: [] for name in [*steps, "collate"]}
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            for row in rows:
                step(row)
            times[name].append(time.perf_counter() - begin)
        collating = 0.0
        for at in range(0, len(rows), BATCH):
            examples = [decode(row) for row in rows[at : at + BATCH]]
            begin = time.perf_counter()
            collate_pad(examples, tensors="pt")
            collating += time.perf_counter() - begin
        times["collate"].append(collating)
    return {name: statistics.median(values) / len(rows) for name, values in times.items()}


def peak_memory(folder: Path) -> None:
    """Print the megabytes that decoding takes above the interpreter with everything imported; Linux only."""
    import datasets
    import PIL.JpegImagePlugin

    from sa1b_hf.masks import DecodeMasks

    def resident(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(key))

    def forget_peak() -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")

    assert PIL.JpegImagePlugin
    result = {}
    stream = load(folder)
    before = resident("VmRSS:")
    forget_peak()
    example = next(iter(DecodeMasks(size=SIZE, max_masks=MAX_MASKS).attach(stream)))
    result["first image of a stream, reader included"] = resident("VmHWM:") - before
    del example
    rows = list(stream.cast_column("image", datasets.Image(decode=False)))
    row = max(rows, key=lambda row: len(row["annotations"]))
    del rows
    for name, options in {
        "64 masks": {},
        "64 masks, padded": {"pad": True},
        "64 masks, label map": {"layout": "label_map"},
        "64 masks, bits": {"layout": "bits"},
        f"all {len(row['annotations'])} masks": {"max_masks": None},
    }.items():
        decode = DecodeMasks(**{"size": SIZE, "max_masks": MAX_MASKS, **options})
        forget_peak()
        before = resident("VmRSS:")
        example = decode(row)
        result[name] = resident("VmHWM:") - before
        del example
    print(json.dumps(result))


def one_core() -> None:
    """Every library keeps to one thread, on one core."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the shard here")
    parser.add_argument("--memory-only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    one_core()
    if options.memory_only:
        peak_memory(options.memory_only)
        return
    import cv2
    import datasets
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_folder(options.folder or Path(temporary), options.images)
        median, best = bench_speed(folder, options.rounds)
        steps = bench_steps(folder, options.rounds)
        command = [sys.executable, __file__, "--memory-only", str(folder)]
        memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    report(median, best, steps, memory)


def report(median: dict, best: dict, steps: dict, memory: dict) -> None:
    from sa1b_hf import images

    usual, idiom = "usual recipe, 64 masks", "usual recipe, 64 masks, best idiom"
    print(f"\nsize {SIZE}, {MAX_MASKS} masks, one core, JPEG by {'simplejpeg' if images._simplejpeg else 'Pillow'}")
    print(f"{'':40}{'median round':>40}{'best round':>40}")
    print(f"{'pipeline':40}" + f"{'images/s':>10}{'ms':>9}{'x usual':>9}{'x idiom':>12}" * 2)
    for name in median:
        line = f"{name:40}"
        for times in (median, best):
            one = times[name]
            line += f"{1 / one:>10.1f}{one * 1e3:>9.2f}{times[usual] / one:>9.1f}{times[idiom] / one:>12.1f}"
        print(line)
    print("\nwhere the time goes, ms per image")
    for name, seconds in steps.items():
        print(f"  {name:38}{seconds * 1e3:>10.2f}")
    rest = steps["DecodeMasks"] - steps["JPEG, scaled"] - steps["resize"] - steps["masks"]
    print(f"  {'rest of DecodeMasks':38}{rest * 1e3:>10.2f}")
    print(f"  {'bound set by JPEG decoding alone':38}{1 / steps['JPEG, scaled']:>10.1f} images/s")
    print("\npeak memory above the interpreter with packages imported, MB")
    for name, megabytes in memory.items():
        print(f"  {name:48}{megabytes:>8.1f}")
    print()
    for name in ("stream.map(DecodeMasks)", "DecodeMasks.attach(stream)", "DecodeMasks.attach(prepared)"):
        ratio = median[usual] / median[name]
        print(f"bar {BAR_SPEED:.0f}x usual recipe, {name}: {ratio:.1f}x {'ok' if ratio >= BAR_SPEED else 'MISSED'}")
    peak = memory["first image of a stream, reader included"]
    print(f"bar {BAR_MEGABYTES} MB: {peak:.1f} MB {'ok' if peak < BAR_MEGABYTES else 'MISSED'}")


if __name__ == "__main__":
    main()
