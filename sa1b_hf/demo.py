"""`make demo`: stream with the line from the README, print what came, and draw one example's masks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_dataset
from numpy.typing import NDArray
from PIL import Image

import sa1b_hf

from .rle import decode

__all__ = ["draw_masks", "main"]

_OPACITY = 0.55


def draw_masks(example: Mapping[str, Any], *, seed: int = 0) -> Image.Image:
    """Paint the masks of an example over its image, the largest first.

    Parameters
    ----------
    example
        A row with ``image`` (decoded) and ``annotations``.
    seed
        Of the colours.

    Returns
    -------
    PIL.Image.Image
        RGB, the image beside the same image with masks, (2·width, height) pixels.

    """
    image = np.asarray(example["image"].convert("RGB"))
    annotations = sorted(example["annotations"], key=lambda annotation: -int(annotation["area"]))
    labels: NDArray[np.intp] = np.zeros(image.shape[:2], dtype=np.intp)
    for number, annotation in enumerate(annotations, start=1):
        labels[decode([annotation["segmentation"]])[0].astype(bool)] = number
    palette = np.random.default_rng(seed).integers(40, 256, size=(len(annotations) + 1, 3))
    blended = image * (1 - _OPACITY) + palette[labels] * _OPACITY
    painted = np.where(labels[..., None] > 0, blended, image).astype(np.uint8)
    return Image.fromarray(np.concatenate([image, painted], axis=1))


def main(arguments: list[str] | None = None) -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(prog="python -m sa1b_hf.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the picture")
    parser.add_argument("--examples", type=int, default=5, help="how many examples to print")
    options = parser.parse_args(arguments)

    print('>>> ds = load_dataset("sa1b.py", streaming=True)')
    ds = load_dataset("sa1b.py", streaming=True)
    print(ds)
    examples = list(islice(ds["train"], options.examples))
    for example in examples:
        areas = [annotation["area"] for annotation in example["annotations"]]
        print(
            f"{example['file_name']:>12}  {example['width']}x{example['height']}  shard {example['shard']}  "
            f"{len(areas)} masks of {min(areas):,} to {max(areas):,} pixels"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    picture = options.out / f"{Path(examples[0]['file_name']).stem}_masks.png"
    draw_masks(examples[0]).save(picture)
    print(f"picture of {examples[0]['file_name']} and its masks: {picture}")
    print(f"report: {sa1b_hf.report(ds)}")


if __name__ == "__main__":
    main()
