"""Labels from a model: each mode against the plain recipe, with the same weights on the same masks, in one run.

    python benchmarks/bench_labels.py --masks 12 --rounds 3
    python benchmarks/bench_labels.py --device cuda --dtype bfloat16 --images 32 --masks 100 --json labels.json

The plain recipe cuts each mask's window from the image with Pillow, gives it to the model's image processor and runs
the model on it, one crop a forward pass. The weights of the ViT-B/16 are random: nothing is downloaded, and speed does
not depend on them. A round runs every contender once, so that a busy machine slows all alike; the best round counts.
Modes that pass over the whole image take all of its masks, as they would in use; the others `--masks` of each image.

On a CPU ratios are of CPU time, and the default precision is a contender of its own: bfloat16 where the CPU computes in
it, on the same weights.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from sa1b_hf.labels._crops import windows
from sa1b_hf.labels.base import ImageMasks, Vocabulary
from sa1b_hf.labels.clip import ClipLabeler
from sa1b_hf.testing import make_document, make_jpeg

BARS = {"crop @224": 2.0, "crop @224, default precision": 2.0, "masked_cls @224": 8.0, "masked_cls @448": 8.0}
MODEL_SHARE = 0.8
CONTEXT = 0.25
WORDS = Vocabulary(tuple(f"class {number}" for number in range(80)))


class NoTokenizer:
    """Stands for a tokenizer: texts are not what is measured."""

    model_max_length = 77


def vit_b16(tiny: bool) -> CLIPModel:
    """A CLIPModel whose image half is as large as OpenAI's ViT-B/16, with random weights."""
    wide = {"hidden_size": 32, "intermediate_size": 64} if tiny else {"hidden_size": 768, "intermediate_size": 3072}
    vision = {
        "num_hidden_layers": 2 if tiny else 12,
        "num_attention_heads": 2 if tiny else 12,
        "patch_size": 16,
        **wide,
    }
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(vision_config=vision, text_config={"num_hidden_layers": 1, "vocab_size": 512})).eval()


def read_images(count: int, preset: str) -> list[ImageMasks]:
    images = []
    for image_id in range(1, count + 1):
        document = make_document(image_id, preset=preset)
        size = (document["image"]["height"], document["image"]["width"])
        annotations = document["annotations"]
        boxes = np.array([one["bbox"] for one in annotations])
        ids = np.array([one["id"] for one in annotations])
        images.append(
            ImageMasks(make_jpeg(image_id, height=size[0], width=size[1]), size, annotations, boxes, ids, image_id)
        )
    return images


def first_masks(image: ImageMasks, count: int) -> ImageMasks:
    parts = (image.masks[:count], image.boxes_xywh[:count], image.annotation_ids[:count])
    return ImageMasks(image.image, image.size, *parts, image.image_id)


class Plain:
    """What one writes first."""

    def __init__(self, model: CLIPModel, device: str, dtype: torch.dtype) -> None:
        self.model, self.device, self.dtype = model, device, dtype
        self.processor = CLIPImageProcessor()

    def embed(self, images: list[ImageMasks]) -> list[np.ndarray]:
        with torch.inference_mode():
            return [self._embed_one(image) for image in images]

    def _embed_one(self, image: ImageMasks) -> np.ndarray:
        picture = Image.open(io.BytesIO(image.image)).convert("RGB")
        rows = []
        boxes = image.boxes_xywh + np.array([0, 0, 1, 1])
        for left, top, side in windows(boxes, image.size, CONTEXT):
            crop = picture.crop((left, top, left + side, top + side))
            pixels = self.processor(crop, return_tensors="pt")["pixel_values"].to(self.device, self.dtype)
            row = self.model.get_image_features(pixel_values=pixels).pooler_output.float()
            rows.append(torch.nn.functional.normalize(row, dim=-1).cpu().numpy())
        return np.concatenate(rows)


class Clock:
    """Seconds spent in a function: of the device where it is a GPU, so that nothing has to wait for it."""

    def __init__(self, function: Callable, cuda: bool) -> None:
        self.function, self.cuda = function, cuda
        self.events, self.elapsed = [], 0.0

    def __call__(self, *arguments: object) -> object:
        if self.cuda:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            result = self.function(*arguments)
            end.record()
            self.events.append((begin, end))
            return result
        started = time.perf_counter()
        result = self.function(*arguments)
        self.elapsed += time.perf_counter() - started
        return result

    def take(self) -> float:
        """Give the seconds since the last call."""
        if self.cuda:
            torch.cuda.synchronize()
            self.elapsed = sum(begin.elapsed_time(end) for begin, end in self.events) / 1000
        seconds, self.elapsed, self.events = self.elapsed, 0.0, []
        return seconds


def contenders(model: CLIPModel, options: argparse.Namespace) -> dict[str, object]:
    dtype = getattr(torch, options.dtype)
    parts = {"tokenizer": NoTokenizer(), "image_processor": CLIPImageProcessor(), "dtype": options.dtype}
    common = {**parts, "device": options.device, "context": CONTEXT, "batch_size": options.batch_size}
    found: dict[str, object] = {"plain recipe": Plain(model, options.device, dtype)}
    for mode, resolution in [("crop", 224), ("masked_cls", 224), ("masked_cls", 448), ("dense", 448)]:
        labeler = ClipLabeler(model, WORDS, mode=mode, resolution=resolution, **common)
        found[f"{mode} @{resolution}"] = labeler
    other = {**common, "dtype": "auto"}
    found["crop @224, default precision"] = ClipLabeler(copy.deepcopy(model), WORDS, mode="crop", **other)
    return found


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    cuda = options.device.startswith("cuda")
    model = vit_b16(options.tiny)
    runners = contenders(model, options)
    clocks = {}
    for name, runner in runners.items():
        if name.startswith("crop"):
            clocks[name] = runner._embed_crops = Clock(runner._embed_crops, cuda)
        elif name != "plain recipe":
            clocks[name] = runner.tower.encode = Clock(runner.tower.encode, cuda)
    whole = read_images(options.images, options.preset)
    few = [first_masks(image, options.masks) for image in whole]
    work = {name: whole if name.startswith(("masked", "dense")) else few for name in runners}
    results: dict[str, dict[str, float]] = {name: {"seconds": float("inf")} for name in runners}
    for _ in range(options.rounds + 1):  # the first one warms up
        for name, runner in runners.items():
            if cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            started, used = time.perf_counter(), time.process_time()
            runner.embed(work[name])
            seconds, cpu = time.perf_counter() - started, time.process_time() - used
            inside = clocks[name].take() if name in clocks else 0.0
            if _ and seconds < results[name]["seconds"]:
                memory = torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0
                results[name] = {"seconds": seconds, "cpu_seconds": cpu, "share": inside / seconds}
                results[name]["memory_mib"] = memory
                results[name]["masks"] = sum(map(len, work[name]))
    for name in ("crop @224", "crop @224, default precision"):
        check(name, runners["plain recipe"], runners[name], few)
    return results


def check(name: str, plain: Plain, crop: ClipLabeler, images: list[ImageMasks]) -> None:
    """Both look at the same things: with the background kept, the embeddings are nearly the same."""
    options = {"context": CONTEXT, "dtype": str(crop.dtype).removeprefix("torch."), "device": str(crop.device)}
    parts = {"tokenizer": NoTokenizer(), "image_processor": plain.processor}
    kept = ClipLabeler(crop.model, WORDS, fill="keep", **parts, **options)
    one, other = np.concatenate(plain.embed(images)), np.concatenate(kept.embed(images))
    one, other = one - one.mean(axis=0), other - one.mean(axis=0)  # random weights embed everything alike
    cosine = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    print(f"{name}, background kept: cosine with the plain recipe's, less the mean of all, {np.median(cosine):.3f}")
    if np.median(cosine) < 0.9:
        raise SystemExit("the plain recipe and crops embed different things")


def report(results: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    cuda = options.device.startswith("cuda")
    place = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"\n{place}, {options.dtype}, {options.images} images, batches of {options.batch_size}\n")
    print("| contender | masks | masks/s | CPU ms/mask | x plain | in the model | memory |")
    print("|---|---|---|---|---|---|---|")
    rate = {name: one["masks"] / one["seconds"] for name, one in results.items()}
    cost = {name: one["cpu_seconds"] / one["masks"] * 1000 for name, one in results.items()}
    for name, one in results.items():
        # Of a CPU that others use too, CPU time tells more than the clock.
        times = rate[name] / rate["plain recipe"] if cuda else cost["plain recipe"] / cost[name]
        memory = f"{one['memory_mib']:,.0f} MiB" if cuda else "-"
        share = f"{one['share']:.0%}" if one["share"] else "-"
        cells = f"{one['masks']:.0f} | {rate[name]:,.1f} | {cost[name]:,.1f} | {times:.1f}"
        print(f"| {name} | {cells} | {share} | {memory} |")
        one |= {"masks_per_second": rate[name], "times_plain": times}
    print("\n| bar | measured | least | |\n|---|---|---|---|")
    for name, least in BARS.items():
        times = results[name]["times_plain"]
        print(f"| {name}, x plain | {times:.1f} | {least:g} | {'met' if times >= least else 'NOT met'} |")
    share = results["crop @224"]["share"]
    verdict = ("met" if share >= MODEL_SHARE else "NOT met") if cuda else "not measured: no GPU was at hand"
    print(f"| crop @224, share of time in the model | {share:.0%} | {MODEL_SHARE:.0%} | {verdict} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--masks", type=int, default=12, help="of each image, for the plain recipe and crops")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--preset", default="full", help="of the synthetic images")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16" if torch.cuda.is_available() else "float32")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--tiny", action="store_true", help="a model of no size, to try the benchmark itself")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = measure(options)
    report(results, options)
    if options.json:
        options.json.write_text(json.dumps({"options": {**vars(options), "json": None}, "results": results}, indent=1))


if __name__ == "__main__":
    main()
