"""`make demo`: stream with the line from the README, print what came, and draw one example's masks."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from datasets import load_dataset

import sa1b_hf

from .viz import plot_masks

__all__ = ["main", "run_demo"]


def main(arguments: list[str] | None = None) -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(prog="python -m sa1b_hf.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the picture")
    parser.add_argument("--examples", type=int, default=5, help="how many examples to print")
    options = parser.parse_args(arguments)
    run_demo(options.out, options.examples)


def run_demo(out: Path, num_examples: int) -> None:
    """Stream, print some examples, and draw the first one's masks.

    Parameters
    ----------
    out
        Folder for the picture; it is made.
    num_examples
        How many to print, at least 1.

    """
    print('>>> ds = load_dataset("sa1b.py", streaming=True)')
    ds = load_dataset("sa1b.py", streaming=True)
    print(ds)
    examples = list(islice(ds["train"], num_examples))
    for example in examples:
        areas = [annotation["area"] for annotation in example["annotations"]]
        print(
            f"{example['file_name']:>12}  {example['width']}x{example['height']}  shard {example['shard']}  "
            f"{len(areas)} masks of {min(areas):,} to {max(areas):,} pixels"
        )
    out.mkdir(parents=True, exist_ok=True)
    picture = out / f"{Path(examples[0]['file_name']).stem}_masks.png"
    plot_masks(examples[0]).save(picture)
    print(f"picture of {examples[0]['file_name']} and its masks: {picture}")
    print(f"report: {sa1b_hf.report(ds)}")


if __name__ == "__main__":
    main()
