"""The dataset card: read by the tools that read cards, true in its counts, and without secrets."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Value, load_dataset
from huggingface_hub import DatasetCard
from PIL import Image
from support.pushing import card_data

import sa1b_hf
from sa1b_hf._card_figures import draw_figures
from sa1b_hf._card_statistics import FIGURES, Statistics
from sa1b_hf.card import MARK, CardFacts, build_card
from sa1b_hf.convert import ConvertOptions, convert
from sa1b_hf.errors import ConfigError
from sa1b_hf.filters import AnnotationFilter
from sa1b_hf.hub import push
from sa1b_hf.reader import ReadOptions

REPO = "ada/subset"
CANARY = "canary-7c1f"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client's own HTTP client


@pytest.fixture(scope="module")
def table(shards):
    """All rows of a shard."""
    tables = sa1b_hf.iter_batches(shards[0].path, "sa_000000", ReadOptions())
    return pa.Table.from_batches(list(tables))


@pytest.fixture
def facts(table):
    statistics = Statistics()
    statistics.add("train", table)
    statistics.num_bytes["train"] = 1000
    provenance = {
        "filters": {"min_area": 100, "ids": [1, 2]},
        "report": {
            "seen": 30,
            "delivered": 25,
            "filtered": {"ids": 4},
            "skipped": {"json-syntax": 1},
            "filtered_annotations": {"min_area": 77},
            "broken": [{"shard": "sa_000014", "reason": "gzip-data", "message": "x", "offset": 1}],
        },
        "transforms": [{"model": "clip", "vocabulary": ["cat", "dog"], "source": f"https://x.org/w?oh={CANARY}"}],
    }
    return CardFacts(REPO, sa1b_hf.sa1b_features(), statistics, "data/0", 900, provenance, dropped_columns=("image",))


def test_it_round_trips(facts):
    """`huggingface_hub` reads what was written and writes it the same again."""
    card = build_card(facts)
    again = DatasetCard(str(card), ignore_metadata_errors=False)
    assert str(again) == str(card)
    assert again.data.to_dict() == card.data.to_dict()
    assert str(build_card(facts)) == str(card)
    assert MARK in card.text


def test_metadata(facts):
    """The Hub's fields: licence, tasks, size, source, features and splits."""
    data = build_card(facts).data.to_dict()
    assert data["license"] == "other"
    assert data["license_name"] == "sa-1b-dataset-research-license"
    assert data["license_link"].startswith("https://ai.meta.com/")
    assert data["task_categories"] == ["image-segmentation", "mask-generation"]
    assert data["size_categories"] == ["n<1K"]
    assert data["source_datasets"] == ["extended|other-SA-1B"]
    assert data["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/0/train/*.parquet"}]}
    ]
    assert data["dataset_info"]["splits"] == [{"name": "train", "num_bytes": 1000, "num_examples": 20}]
    names = [feature["name"] for feature in data["dataset_info"]["features"]]
    assert names == list(sa1b_hf.sa1b_features())


@pytest.mark.parametrize(
    ("rows", "category"), [(999, "n<1K"), (1000, "1K<n<10K"), (11_186, "10K<n<100K"), (11_185_362, "10M<n<100M")]
)
def test_size_category(rows, category):
    """Borders as the Hub draws them."""
    statistics = Statistics(rows={"train": rows}, num_bytes={"train": 0})
    card = build_card(CardFacts(REPO, Features({"image_id": Value("int64")}), statistics, "data/0", 0))
    assert card.data.size_categories == [category]


def test_text(facts):
    """What was filtered, what was dropped by which reason, how labels came about, how to go on."""
    text = build_card(facts).text
    for line in (
        "| `min_area` | 100 |",
        "| images seen in the shards | 30 |",
        "| images dropped: `ids` | 4 |",
        "| images unusable: `json-syntax` | 1 |",
        "| images not taken over after reading | 5 |",
        "| **images here** | 20 |",
        "| masks dropped: `min_area` | 77 |",
        "sa_000014 (gzip-data)",
        '"model": "clip"',
        'load_dataset("ada/subset", split="train", streaming=True)',
        "rehydrate(",
        "Research License",
    ):
        assert line in text
    assert CANARY not in text
    assert "https://x.org/w?…" in text


def test_with_images(facts):
    """A card with images needs no rehydrating, and asks to stay private."""
    from dataclasses import replace

    text = build_card(replace(facts, has_images=True, dropped_columns=())).text
    assert "rehydrate(" not in text
    assert "keep this repository private" in text


def test_statistics_are_right(table):
    """Counts and histograms equal those of plain Python."""
    statistics = Statistics()
    for at in range(0, table.num_rows, 7):
        statistics.add("train", table.slice(at, 7))
    rows = table.to_pylist()
    masks = [mask for row in rows for mask in row["annotations"]]
    assert statistics.rows == {"train": len(rows)}
    assert statistics.num_annotations == len(masks)
    values = {figure.name: [mask.get(figure.name) for mask in masks] for figure in FIGURES}
    values["masks_per_image"] = [len(row["annotations"]) for row in rows]
    for figure in FIGURES:
        inside = np.clip(values[figure.name], figure.edges[0], figure.edges[-1])
        assert statistics.histograms[figure.name].tolist() == np.histogram(inside, figure.edges)[0].tolist()


def test_labels_are_counted():
    """Masks with a label, and those that the labeller left out."""
    labels = [[{"label_ids": [3, 1]}, {"label_ids": [-1]}], [], [{"label_ids": [0]}, {"label_ids": []}]]
    statistics = Statistics()
    statistics.add("train", pa.table({"image_id": [1, 2, 3], "labels": labels}))
    assert (statistics.num_labelled, statistics.num_abstained) == (2, 1)


def test_figures(table):
    """Pictures open, are the same each time, and tall where the counts are."""
    statistics = Statistics()
    statistics.add("train", table)
    figures = draw_figures(statistics)
    assert figures == draw_figures(statistics)
    assert sorted(figures) == sorted(f"{figure.name}.png" for figure in FIGURES)
    for data in figures.values():
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (640, 200)
            assert len(image.getcolors()) > 2
    assert draw_figures(Statistics()) == {}


def test_a_filtered_conversion_tells_what_it_dropped(hub, shards, tmp_path):
    """The card of a converted folder has the options, the counts of its manifests, and nothing of the links."""
    from support.misbehaving_server import MisbehavingServer

    with MisbehavingServer() as server:
        url = server.add("/sa_000000.tar", shards[0].path)
        (tmp_path / "links.txt").write_text(f"sa_000000.tar\t{url}?oh={CANARY}&oe=7fffffff\n")
        from sa1b_hf.sources import find_shards

        sources = find_shards(links=str(tmp_path / "links.txt"))["train"]
        options = ConvertOptions(read=ReadOptions(annotation_filter=AnnotationFilter(min_area=500)))
        done = convert(sources, tmp_path / "out", options, progress=False)
    dropped = done.report.filtered_annotations["min_area"]
    push(tmp_path / "out", REPO)
    files = hub.files(REPO)
    assert dropped
    assert f"| masks dropped: `min_area` | {dropped:,} |" in files["README.md"].decode()
    assert "| `min_area` | 500 |" in files["README.md"].decode()
    assert not [path for path, data in files.items() if CANARY.encode() in data]


@pytest.mark.parametrize("passes_before", [0, 1])
def test_a_stream_tells_what_it_dropped(passes_before, hub, shards):
    """Counts are those of the push's own pass; options are the builder's."""
    stream = sa1b_hf.load_dataset(
        data_files=[str(shards[0].path)], split="train", streaming=True, min_area=500, image=False
    )
    for _ in range(passes_before):
        list(stream)
    push(stream, REPO)
    text = hub.files(REPO)["README.md"].decode()
    assert "| `min_area` | 500 |" in text
    assert "| images seen in the shards | 20 |" in text


def test_a_prepared_dataset_tells_what_was_dropped(hub, shards, tmp_path):
    """Counts come from its preparation; rows dropped later are counted as such; the caller may add more."""
    ds = sa1b_hf.load_dataset(
        data_files=[str(shards[0].path)], split="train", cache_dir=str(tmp_path), min_area=500, image=False
    )
    record = {"model": "by hand"}
    push(ds.select(range(15)), REPO, provenance={"filters": {"mine": "the first 15"}, "transforms": [record]})
    text = hub.files(REPO)["README.md"].decode()
    assert "| images seen in the shards | 20 |" in text
    assert "| images not taken over after reading | 5 |" in text
    assert '| `mine` | "the first 15" |' in text
    assert '"model": "by hand"' in text
    assert "masks dropped: `min_area`" in text
    with pytest.raises(ConfigError, match="provenance: expected keys"):
        push(ds, REPO, provenance={"filter": {}})


def test_the_hub_and_datasets_read_it(hub, tmp_path):
    """Metadata gives features and splits to those who load."""
    features = Features({"image_id": Value("int64"), "labels": [{"label_ids": [Value("int32")]}]})
    source = Dataset.from_dict({"image_id": [1], "labels": [[{"label_ids": [4]}]]}, features=features)
    push({"train": source, "test": source}, REPO)
    assert card_data(hub.files(REPO))["dataset_info"]["splits"][1]["name"] == "test"
    loaded = load_dataset(REPO, cache_dir=str(tmp_path))
    assert loaded["test"].features == features
    assert loaded["test"][0] == {"image_id": 1, "labels": [{"label_ids": [4]}]}
    assert "1 of 1 masks have a label" not in hub.files(REPO)["README.md"].decode()
    assert "2 of 2 masks have a label (100.0%)" in hub.files(REPO)["README.md"].decode()
