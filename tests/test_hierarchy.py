"""Parts, objects and groups, from containment that is told without decoding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features
from pycocotools import mask as coco
from support.label_scenes import blob_masks, box_mask, make_row, make_table

from sa1b_hf import rle
from sa1b_hf.errors import ConfigError, RLEError
from sa1b_hf.features import sa1b_features
from sa1b_hf.labels.apply import apply_transform
from sa1b_hf.labels.hierarchy import KINDS, AddHierarchy, mask_hierarchy, mask_overlap


def as_bytes(masks):
    return [{**mask, "counts": mask["counts"].encode()} for mask in masks]


def kinds(places):
    return [KINDS[kind] for kind in places.kinds]


@pytest.mark.parametrize("seed", range(8))
def test_overlap_is_that_of_pycocotools(seed):
    """Areas, shares and IoUs of all pairs are what pycocotools gives."""
    masks = blob_masks(seed, 12)
    overlap = mask_overlap(masks)
    raw = as_bytes(masks)
    np.testing.assert_array_equal(overlap.areas, coco.area(raw))
    np.testing.assert_allclose(overlap.share, coco.iou(raw, raw, [1] * 12), rtol=1e-12)
    np.testing.assert_allclose(overlap.iou, coco.iou(raw, raw, [0] * 12), rtol=1e-12)


def naive_parents(masks, min_contained):
    """Smallest larger mask that holds enough of each, by counting pixels; for masks without copies."""
    dense = rle.decode(masks).astype(bool)
    parents = []
    for one in dense:
        holders = [
            (other.sum(), index)
            for index, other in enumerate(dense)
            if other.sum() > one.sum() and (one & other).sum() >= min_contained * one.sum()
        ]
        parents.append(min(holders)[1] if holders else -1)
    return parents


@pytest.mark.parametrize("seed", range(12))
def test_parent_is_the_smallest_mask_around(seed):
    """Parents are those that counting pixels finds, and depths count the masks on the way up."""
    masks = [mask for mask in blob_masks(seed, 25) if rle.area(mask)]
    _, first = np.unique(rle.area(masks), return_index=True)  # equal areas would be a matter of order
    masks = [masks[index] for index in first]
    places = mask_hierarchy(masks, min_contained=0.8, min_same_iou=1.0)
    assert places.parents.tolist() == naive_parents(masks, 0.8)
    assert (places.parents >= 0).any()
    for index, parent in enumerate(places.parents.tolist()):
        assert places.depths[index] == (places.depths[parent] + 1 if parent >= 0 else 0)


def test_wheel_car_street():
    """Three levels are part, object and group; a leaf within the group is an object of its own."""
    street, car, wheel = box_mask(0, 0, 60, 40), box_mask(5, 5, 30, 20), box_mask(6, 18, 5, 5)
    sign, cloud = box_mask(50, 2, 4, 10), box_mask(0, 0, 0, 0)
    places = mask_hierarchy([wheel, street, sign, car, cloud])
    assert places.parents.tolist() == [3, -1, 1, 1, -1]
    assert places.depths.tolist() == [2, 0, 1, 1, 0]
    assert kinds(places) == ["part", "group", "object", "object", "object"]


def test_two_levels():
    """A mask within another is a part of an object; a mask half outside is none."""
    places = mask_hierarchy([box_mask(0, 0, 30, 30), box_mask(5, 5, 5, 5), box_mask(25, 0, 10, 10)])
    assert kinds(places) == ["object", "part", "object"]
    assert places.parents.tolist() == [-1, 0, -1]


def test_copies_share_a_place():
    """Near-equal masks are not parts of each other: the smaller takes the place of the larger."""
    car, again, wheel = box_mask(5, 5, 30, 20), box_mask(5, 5, 30, 19), box_mask(6, 18, 5, 5)
    places = mask_hierarchy([again, car, wheel])
    assert places.same_as.tolist() == [1, -1, -1]
    assert places.parents.tolist() == [-1, -1, 1]
    assert kinds(places) == ["object", "object", "part"]


def test_equal_masks_have_one_original():
    """Of many equal masks the first is the original of all others."""
    places = mask_hierarchy([box_mask(3, 3, 9, 9)] * 4)
    assert places.same_as.tolist() == [-1, 0, 0, 0]
    assert places.parents.tolist() == [-1] * 4


def test_no_masks():
    """An image without masks has an empty hierarchy."""
    assert len(mask_hierarchy([])) == 0


@pytest.mark.parametrize("options", [{"min_contained": 0.5}, {"min_same_iou": 1.1}])
def test_options_of_hierarchy(options):
    """Half is not enough to be contained, and nothing is more than equal."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        mask_hierarchy([], **options)


def test_malformed_mask():
    """A malformed mask is an error that names it."""
    bad = {"size": [40, 60], "counts": "zz"}
    with pytest.raises(RLEError, match="mask 1"):
        mask_hierarchy([box_mask(0, 0, 3, 3), bad])


@pytest.mark.parametrize("as_stream", [False, True])
def test_column_of_a_dataset(as_stream):
    """The column has ids of annotations, aligned with them, in the type that its features promise."""
    wheel, car = box_mask(6, 18, 5, 5), box_mask(5, 5, 30, 20)
    rows = [make_row(1, [wheel, car]), make_row(2, []), make_row(3, [car, car])]
    dataset = Dataset(make_table(rows))
    dataset = dataset.to_iterable_dataset() if as_stream else dataset
    result = apply_transform(dataset, AddHierarchy())
    found = [[(one["parent_id"], one["same_as_id"], one["kind"]) for one in row["hierarchy"]] for row in result]
    assert found == [
        [(101, -1, "part"), (-1, -1, "object")],
        [],
        [(-1, -1, "object"), (-1, 300, "object")],
    ]
    assert [[one["annotation_id"] for one in row["hierarchy"]] for row in result] == [[100, 101], [], [300, 301]]


def test_type_is_that_of_the_features():
    """The table has the very types of the features, for any slice of rows."""
    table = make_table([make_row(index, blob_masks(index, 3)) for index in (1, 2, 3)])
    transform = AddHierarchy(column="places")
    promised = transform.features(sa1b_features()).arrow_schema
    for part in (table, table.slice(1, 1), table.slice(0, 0), pa.concat_tables([table.slice(0, 1), table.slice(2)])):
        result = transform(part)
        assert result.schema.field("places").type == promised.field("places").type
        ids = [[one["annotation_id"] for one in row] for row in result.column("places").to_pylist()]
        assert ids == [[one["id"] for one in row] for row in part.column("annotations").to_pylist()]
    assert AddHierarchy(column="x").fingerprint != AddHierarchy().fingerprint
    assert isinstance(transform.features(Features()), Features)


REAL = Path(__file__).parents[2] / "shared" / "data" / "real" / "annotations"


@pytest.mark.parametrize("path", sorted(REAL.glob("*.json")), ids=lambda path: path.stem)
def test_real_masks(path):
    """Masks of SA-1B itself, where a copy is at hand, overlap as pycocotools says, and every parent is larger."""
    annotations = json.loads(path.read_text())["annotations"]
    overlap = mask_overlap(annotations)
    raw = as_bytes([one["segmentation"] for one in annotations])
    np.testing.assert_allclose(overlap.share, coco.iou(raw, raw, [1] * len(raw)), rtol=1e-12)
    places = mask_hierarchy(annotations)
    inside = np.flatnonzero(places.parents >= 0)
    assert (overlap.areas[inside] < overlap.areas[places.parents[inside]]).all()
