"""The dataset card of a pushed subset: what it is, how it came about, how to load it, and whose licence it is under."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from datasets import Features
from datasets.info import DatasetInfo, DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard, DatasetCardData

from ._card_statistics import Statistics
from ._urls import mask_url
from ._version import __version__

__all__ = ["FIGURE_FOLDER", "LICENSE_NOTICE", "MARK", "CardFacts", "build_card"]

MARK: Final = "<!-- sa1b_hf: written by a push, which replaces it; text of your own belongs elsewhere -->"
"""By this line a push knows a card of its own."""

FIGURE_FOLDER: Final = "figures"

_LICENSE_LINK: Final = "https://ai.meta.com/datasets/segment-anything-downloads/"
LICENSE_NOTICE: Final = (
    "SA-1B is under Meta's SA-1B Dataset Research License: for research, not for surveillance, biometric processing "
    "or identifying people. Treat passing on its images as not granted."
)
_SIZES: Final = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)


@dataclass(frozen=True)
class CardFacts:
    """What a card tells.

    Attributes
    ----------
    repo_id
        ``"user/name"``.
    features
        Of the rows.
    statistics
        Of the rows, by split.
    data_folder
        In the repository; has a folder with Parquet files for each split.
    download_size
        Bytes of all Parquet files.
    provenance
        ``filters``: options by name; ``report``: counts of a `PassReport`; ``transforms``: a record for each, such as
        that of labels.
    has_images
        Whether JPEGs are in it.
    dropped_columns
        Columns that were left out because they could hold pixels.

    """

    repo_id: str
    features: Features
    statistics: Statistics
    data_folder: str
    download_size: int
    provenance: Mapping[str, Any] = field(default_factory=dict)
    has_images: bool = False
    dropped_columns: tuple[str, ...] = ()


def build_card(facts: CardFacts) -> DatasetCard:
    """Write the card.

    Parameters
    ----------
    facts
        What it tells; queries of URLs in it are masked.

    Returns
    -------
    huggingface_hub.DatasetCard
        With metadata that the Hub and `datasets` read. The same facts give the same text.

    """
    sections = [
        f"---\n{_metadata(facts).to_yaml()}\n---\n{MARK}",
        f"# {facts.repo_id.rpartition('/')[2]}",
        _introduction(facts),
        _loading(facts),
        *([] if facts.has_images else [_rehydrating(facts)]),
        _selection(facts),
        *_transforms(facts.provenance.get("transforms") or ()),
        _distributions(facts.statistics),
        _licence(facts),
    ]
    return DatasetCard("\n\n".join(sections) + "\n", ignore_metadata_errors=False)


def _metadata(facts: CardFacts) -> DatasetCardData:
    rows = sum(facts.statistics.rows.values())
    data = DatasetCardData(
        pretty_name=f"{facts.repo_id.rpartition('/')[2]} (from SA-1B)",
        license="other",
        license_name="sa-1b-dataset-research-license",
        license_link=_LICENSE_LINK,
        task_categories=["image-segmentation", "mask-generation"],
        annotations_creators=["machine-generated"],
        source_datasets=["extended|other-SA-1B"],
        size_categories=[next((name for limit, name in _SIZES if rows < limit), "10M<n<100M")],
        tags=["sa-1b", "segment-anything", "rle"],
    )
    patterns = [{"split": split, "path": f"{facts.data_folder}/{split}/*.parquet"} for split in facts.statistics.rows]
    MetadataConfigs({"default": {"data_files": patterns}}).to_dataset_card_data(data)
    splits = SplitDict()
    for split, count in facts.statistics.rows.items():
        splits.add(SplitInfo(split, num_bytes=facts.statistics.num_bytes[split], num_examples=count))
    info = DatasetInfo(
        features=facts.features,
        splits=splits,
        download_size=facts.download_size,
        dataset_size=sum(facts.statistics.num_bytes.values()),
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return data


def _introduction(facts: CardFacts) -> str:
    statistics = facts.statistics
    counts = f"{sum(statistics.rows.values()):,} images and {statistics.num_annotations:,} masks"
    pixels = "with the images" if facts.has_images else "without the images"
    text = (
        f"{counts} of [SA-1B](https://ai.meta.com/datasets/segment-anything/), {pixels}. A mask is COCO run-length "
        "text under Meta's keys; `size` is (height, width), boxes are (x, y, width, height) in pixels, where width and "
        "height are one less than COCO tools give."
    )
    splits = ", ".join(f"`{split}` ({count:,} rows)" for split, count in statistics.rows.items())
    text += f"\n\nSplits: {splits}."
    if facts.dropped_columns:
        names = ", ".join(f"`{name}`" for name in facts.dropped_columns)
        text += f" Left out, as they hold or could hold pixels: {names}."
    return text


def _loading(facts: CardFacts) -> str:
    split = next(iter(facts.statistics.rows), "train")
    return f"""## Loading

```python
from datasets import load_dataset

ds = load_dataset("{facts.repo_id}", split="{split}", streaming=True)
```

`pip install sa1b_hf` decodes the masks: `ds.map(sa1b_hf.DecodeMasks(size=1024))`."""


def _rehydrating(facts: CardFacts) -> str:
    split = next(iter(facts.statistics.rows), "train")
    return f"""## Adding the images

Whoever has the shards of SA-1B gets the images back, the same bytes at the same rows:

```python
from datasets import load_dataset
from sa1b_hf.hub import rehydrate

ds = rehydrate(load_dataset("{facts.repo_id}", split="{split}"), "folder/with/shards", index_dir="indexes")
```"""


def _selection(facts: CardFacts) -> str:
    lines = ["## Selection"]
    if filters := facts.provenance.get("filters"):
        lines += ["", "| option | value |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(value)} |" for name, value in sorted(filters.items())]
    report = facts.provenance.get("report") or {}
    rows = sum(facts.statistics.rows.values())
    counts = [("images seen in the shards", report.get("seen"))]
    for title, key in (("images dropped", "filtered"), ("images unusable", "skipped")):
        counts += [(f"{title}: `{reason}`", count) for reason, count in sorted((report.get(key) or {}).items())]
    if report.get("delivered") not in {None, rows}:
        counts.append(("images not taken over after reading", report["delivered"] - rows))
    counts.append(("**images here**", rows))
    dropped = report.get("filtered_annotations") or {}
    counts += [(f"masks dropped: `{reason}`", count) for reason, count in sorted(dropped.items())]
    counts.append(("**masks here**", facts.statistics.num_annotations))
    lines += ["", "| | count |", "|---|---:|"]
    lines += [f"| {title} | {count:,} |" for title, count in counts if count is not None]
    if broken := report.get("broken"):
        names = ", ".join(sorted({f"{shard['shard']} ({shard['reason']})" for shard in broken}))
        lines += ["", f"Not read to their end: {names}."]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return mask_url(json.dumps(value, sort_keys=True, default=str)).replace("|", "\\|")


def _transforms(records: Any) -> list[str]:
    if not records:
        return []
    texts = [mask_url(json.dumps(record, indent=1, sort_keys=True, default=str)) for record in records]
    return ["## Provenance of added columns", *[f"```json\n{text}\n```" for text in texts]]


def _distributions(statistics: Statistics) -> str:
    lines = ["## Distributions", ""]
    lines += [f"![{figure.title}]({FIGURE_FOLDER}/{figure.name}.png)" for figure in statistics.figures()]
    if labels := statistics.num_labelled + statistics.num_abstained:
        share = statistics.num_labelled / labels
        lines += ["", f"{statistics.num_labelled:,} of {labels:,} masks have a label ({share:.1%})."]
    return "\n".join(lines)


def _licence(facts: CardFacts) -> str:
    images = " The images in it are Meta's to license; keep this repository private." if facts.has_images else ""
    return (
        f"## Licence\n\n{LICENSE_NOTICE}{images} The text is at [ai.meta.com]({_LICENSE_LINK}); those who use "
        "this dataset need to have agreed to it.\n\n"
        "Cite *Segment Anything*, Kirillov et al., ICCV 2023.\n\n"
        f"Made with sa1b_hf {__version__}."
    )
