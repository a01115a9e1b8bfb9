"""Thresholds, agreement of overlapping masks, balanced choice, and the report."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from pycocotools import mask as coco
from support.label_scenes import blob_masks, box_mask, label_column, make_row, make_table, paint

from sa1b_hf.errors import ConfigError
from sa1b_hf.labels._read_column import read_labels
from sa1b_hf.labels.apply import apply_transform
from sa1b_hf.labels.quality import Abstain, Thresholds, label_agreement, select_balanced
from sa1b_hf.labels.report import LabelReport, class_crops, label_report

NAN = float("nan")
LABELS = [
    [(0, 0.9, 0.5, 0.1), (1, 0.4, 0.3, 0.2), (-1, 0.2, NAN, NAN)],
    [],
    [(1, 0.8, 0.1, 0.9), (0, NAN, 0.6, 0.1)],
]


def labelled_table(labels=LABELS, name="labels"):
    rows = [make_row(index + 1, blob_masks(index, len(one))) for index, one in enumerate(labels)]
    return make_table(rows).append_column(
        name, label_column(labels, [100 * (index + 1) for index in range(len(labels))])
    )


@pytest.mark.parametrize("part", [slice(0, 3), slice(1, 3), slice(2, 3), slice(0, 0)])
def test_reading_the_column(part):
    """Flat arrays hold what the rows of any slice of the column hold."""
    table = labelled_table().slice(part.start, part.stop - part.start)
    labels = read_labels(table)
    expected = [mask for row in LABELS[part] for mask in row]
    assert labels.label_ids.tolist() == [mask[0] for mask in expected]
    np.testing.assert_array_equal(labels.scores, np.array([mask[1] for mask in expected], np.float32))
    np.testing.assert_array_equal(labels.margins, np.array([mask[2] for mask in expected], np.float32))
    np.testing.assert_array_equal(labels.entropies, np.array([mask[3] for mask in expected], np.float32))
    assert np.diff(labels.row_starts).tolist() == [len(row) for row in LABELS[part]]
    ids = [one["id"] for row in table.column("annotations").to_pylist() for one in row]
    assert labels.annotation_ids.tolist() == ids


@pytest.mark.parametrize(
    ("table", "found"),
    [(pa.table({"x": [1]}), "'labels'"), (pa.table({"labels": [1]}), "int64"), (pa.table({"labels": [[1]]}), "int64")],
)
def test_other_columns_are_refused(table, found):
    """A table without labels is an error that says what it has."""
    with pytest.raises(ConfigError, match=found):
        read_labels(table)


@pytest.mark.parametrize(
    ("options", "passing"),
    [
        ({}, [True, True, False, True, True]),
        ({"min_score": 0.5}, [True, False, False, True, False]),
        ({"min_margin": 0.3}, [True, True, False, False, True]),
        ({"max_entropy": 0.15}, [True, False, False, False, True]),
        ({"min_score": 0.5, "max_entropy": 0.15}, [True, False, False, False, False]),
    ],
)
def test_thresholds(options, passing):
    """A label passes when it reaches every threshold; unknown values and missing labels do not."""
    labels = read_labels(labelled_table())
    assert Thresholds(**options).passing(labels).tolist() == passing


def test_threshold_that_is_no_number():
    """NaN would let everything or nothing pass, and is refused."""
    with pytest.raises(ConfigError, match="min_score"):
        Thresholds(min_score=NAN)


def test_abstaining_in_the_column():
    """What falls short is -1 with its score, everything else stays, in a dataset whose features do not change."""
    table = labelled_table()
    many = table.column("labels").to_pylist()
    many[0][0] |= {"label_ids": [0, 2, 1], "scores": [0.9, 0.05, 0.04]}
    many[0][1] |= {"label_ids": [1, 2], "scores": [0.4, 0.1]}
    table = table.set_column(7, "labels", pa.array(many, table.schema.field("labels").type))
    dataset = Dataset(table)
    abstain = Abstain(Thresholds(min_score=0.5))
    result = apply_transform(dataset, abstain)
    assert result.features == dataset.features
    found = [[(one["label_ids"], len(one["scores"])) for one in row] for row in result["labels"]]
    assert found == [[([0, 2, 1], 3), ([-1], 1), ([-1], 1)], [], [([1], 1), ([-1], 1)]]
    assert result["labels"][0][1]["scores"] == pytest.approx([0.4])
    assert result["labels"][0][1]["margin"] == pytest.approx(0.3)
    assert abstain.counts == {"kept": 2, "min_score": 2}
    assert Abstain(Thresholds()).fingerprint != abstain.fingerprint


@pytest.mark.parametrize("seed", range(6))
def test_agreement_of_overlapping_masks(seed):
    """Pairs and shares are those that a loop over pycocotools' IoU finds."""
    masks = blob_masks(seed, 12)
    labels = np.random.default_rng(seed).integers(-1, 2, 12)
    raw = [{**mask, "counts": mask["counts"].encode()} for mask in masks]
    iou = coco.iou(raw, raw, [0] * 12)
    pairs = [
        (i, j, labels[i] == labels[j])
        for i in range(12)
        for j in range(12)
        if i != j and iou[i, j] >= 0.2 and labels[i] >= 0 and labels[j] >= 0
    ]
    found = label_agreement(masks, labels, min_iou=0.2)
    assert found.pairs == len(pairs) / 2
    assert found.agreeing == sum(equal for _, _, equal in pairs) / 2
    for index in range(12):
        mine = [equal for i, _, equal in pairs if i == index]
        np.testing.assert_equal(found.per_mask[index], np.mean(mine) if mine else np.nan)


def test_agreement_needs_one_label_per_mask():
    """Another number of labels than of masks is an error."""
    with pytest.raises(ConfigError, match=r"\(2,\)"):
        label_agreement([box_mask(0, 0, 2, 2)] * 2, [1])


@pytest.mark.parametrize("by_score", [True, False])
def test_balanced_choice(by_score):
    """No class has more than allowed, none fewer than it could, and the best scores are kept."""
    rng = np.random.default_rng(3)
    labels, scores = rng.integers(-1, 4, 200), rng.random(200)
    chosen = select_balanced(labels, 12, scores=scores if by_score else None, seed=1)
    assert Counter(labels[chosen].tolist()) == {label: min(12, int((labels == label).sum())) for label in range(4)}
    assert (np.diff(chosen) > 0).all()
    if by_score:
        for label in range(4):
            left = np.setdiff1d(np.flatnonzero(labels == label), chosen)
            assert scores[chosen[labels[chosen] == label]].min() > scores[left].max()
    else:
        assert select_balanced(labels, 12, seed=1).tolist() == chosen.tolist()
        assert select_balanced(labels, 12, seed=2).tolist() != chosen.tolist()


@pytest.mark.parametrize("arguments", [([0], 0), ([0], 1, [1, 2])])
def test_options_of_balanced_choice(arguments):
    """A limit below one and scores of another length are refused."""
    with pytest.raises(ConfigError):
        select_balanced(*arguments[:2], scores=arguments[2] if len(arguments) > 2 else None)


def test_report_counts_and_confusions():
    """Counts, mean scores and confusions are those of the columns; text and JSON have the names."""
    other = [[(0, 0.9, 0, 0), (0, 0.9, 0, 0), (1, 0.9, 0, 0)], [], [(1, 0.9, 0, 0), (-1, 0.9, 0, 0)]]
    table = labelled_table().append_column("theirs", label_column(other, [100, 200, 300]))
    report = label_report(Dataset(table), other="theirs")
    assert (report.images, report.masks, report.abstained) == (3, 5, 1)
    assert report.counts == {0: 2, 1: 2}
    assert report.confusions == {(0, 0): 1, (1, 0): 1, (-1, 1): 1, (1, 1): 1, (0, -1): 1}
    assert report.agreement == pytest.approx(2 / 3)
    assert sum(report.score_histogram) == 4
    text = report.to_text(["cat", "dog"])
    assert "5 masks of 3 images, 1 without a label" in text
    assert "dog  (mean score 0.60)" in text
    assert "dog / cat" in text
    plain = report.to_dict(["cat", "dog"])
    assert json.loads(json.dumps(plain)) == plain
    assert ["(none)", "dog", 1] in plain["confusions"]
    parts = LabelReport()
    for row in range(3):
        parts.merge(label_report(table.slice(row, 1), other="theirs"))
    assert parts.counts == report.counts
    assert parts.confusions == report.confusions
    assert parts.score_histogram == report.score_histogram
    assert str(label_report(Dataset(table).to_iterable_dataset())) == label_report(table).to_text()


def test_report_needs_the_same_masks():
    """Columns of different masks cannot be compared."""
    table = labelled_table().append_column("theirs", label_column(LABELS, [100, 200, 999]))
    with pytest.raises(ConfigError, match="annotation ids"):
        label_report(table, other="theirs")
    with pytest.raises(ConfigError, match="missing"):
        label_report(Dataset(table), "missing")


def test_crops_of_each_class():
    """Each class has its best masks, best first, in the colour of the mask."""
    masks = [box_mask(2, 2, 10, 10), box_mask(20, 5, 12, 12), box_mask(40, 20, 14, 14)]
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    row = make_row(1, masks, pixels=paint(masks, colours))
    labels = [[(5, 0.2, 0, 0), (5, 0.9, 0, 0), (2, 0.5, 0, 0)]]
    dataset = Dataset(make_table([row]).append_column("labels", label_column(labels, [100])))
    sheets = class_crops(dataset, per_class=2, size=16, context=0.0)
    assert {label: crops.shape for label, crops in sheets.items()} == {2: (1, 16, 16, 3), 5: (2, 16, 16, 3)}
    middles = [sheets[5][0, 8, 8], sheets[5][1, 8, 8], sheets[2][0, 8, 8]]
    np.testing.assert_allclose(middles, [colours[1], colours[0], colours[2]], atol=12)
    assert list(class_crops(dataset, per_class=1, size=8, weight="one")) == [2, 5]
