"""The training set of crops: what is cut, what is split, what is weighed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from datasets import Dataset
from support.label_scenes import HEIGHT, WIDTH, box_mask, label_column, make_row, make_table, paint

from sa1b_hf import rle
from sa1b_hf.errors import ConfigError, ImageError
from sa1b_hf.labels._cutout import cut_crop
from sa1b_hf.labels.pseudo import PseudoLabeled, is_validation
from sa1b_hf.labels.quality import Thresholds

COLOURS = np.array([(220, 20, 20), (20, 220, 20), (20, 20, 220)])


def labelled_dataset(num_images=12, seed=0):
    """Images with three coloured boxes, labelled with the place of their colour; one mask in four is abstained from."""
    rng = np.random.default_rng(seed)
    rows, labels = [], []
    for image_id in range(1, num_images + 1):
        colours = rng.integers(0, 3, 3)
        masks = [box_mask(4 + 18 * place, 5 + int(rng.integers(10)), 14, 14) for place in range(3)]
        rows.append(make_row(image_id, masks, pixels=paint(masks, COLOURS[colours])))
        given = np.where(rng.random(3) < 0.25, -1, colours)
        labels.append([(int(label), float(rng.uniform(0.3, 1)), 0.2, 0.1) for label in given])
    return Dataset(
        make_table(rows).append_column("labels", label_column(labels, range(100, 100 * num_images + 1, 100)))
    )


def test_each_labelled_mask_is_an_example():
    """Crops have the colour of their label, in order of images and masks; weights are the scores, of mean 1."""
    dataset = labelled_dataset()
    view = PseudoLabeled(dataset, size=12, context=0.0)
    masks = [one for row in dataset["labels"] for one in row if one["label_ids"][0] >= 0]
    assert 0 < len(view) == len(masks) < 36
    assert view.annotation_ids.tolist() == [one["annotation_id"] for one in masks]
    scores = np.array([one["scores"][0] for one in masks])
    np.testing.assert_allclose(view.weights, scores / scores.mean(), rtol=1e-5)
    for index, one in enumerate(masks):
        crop, label, weight = view[index]
        assert crop.shape == (12, 12, 3)
        assert crop.dtype == np.uint8
        assert label == one["label_ids"][0]
        assert weight == view.weights[index]
        np.testing.assert_allclose(crop.mean(axis=(0, 1)), COLOURS[label], atol=15)
    assert view[-1][1] == view.label_ids[-1]
    with pytest.raises(IndexError):
        view[len(view)]


def test_split_is_by_image():
    """Train and validation share no image, are all there is, and do not depend on the order of rows."""
    dataset = labelled_dataset(30)
    options = {"size": 8, "validation_share": 0.3, "seed": 5}
    train, validation, everything = (
        PseudoLabeled(dataset, split, **options) for split in ("train", "validation", "all")
    )
    assert not set(train.image_ids) & set(validation.image_ids)
    assert sorted([*train.annotation_ids, *validation.annotation_ids]) == sorted(everything.annotation_ids)
    assert 0 < len(set(validation.image_ids)) < 20
    turned = PseudoLabeled(dataset.select(range(29, -1, -1)), "validation", **options)
    assert set(turned.annotation_ids) == set(validation.annotation_ids)
    other = PseudoLabeled(dataset, "validation", **{**options, "seed": 6})
    assert set(other.image_ids) != set(validation.image_ids)


def test_share_of_the_split():
    """Of many images, the share that is asked for is for validation."""
    ids = np.arange(20_000)
    assert abs(is_validation(ids, 0.2, 3).mean() - 0.2) < 0.01
    assert not is_validation(ids, 0.0).any()
    assert is_validation(ids, 1.0).all()
    with pytest.raises(ConfigError, match="validation_share"):
        is_validation(ids, 1.5)


def test_classes_thresholds_and_balance():
    """Classes are renumbered in the order given; thresholds and limits choose."""
    dataset = labelled_dataset()
    everything = PseudoLabeled(dataset, size=8)
    view = PseudoLabeled(dataset, size=8, classes=[2, 0])
    kept = np.isin(everything.label_ids, [0, 2])
    assert view.label_ids.tolist() == [{2: 0, 0: 1}[label] for label in everything.label_ids[kept].tolist()]
    sure = PseudoLabeled(dataset, size=8, thresholds=Thresholds(min_score=0.7))
    scores = {one["annotation_id"]: one["scores"][0] for row in dataset["labels"] for one in row}
    assert {scores[one] >= 0.7 for one in sure.annotation_ids.tolist()} == {True}
    assert 0 < len(sure) < len(everything)
    balanced = PseudoLabeled(dataset, size=8, max_per_class=2)
    assert np.bincount(balanced.label_ids).tolist() == [2, 2, 2]


@pytest.mark.parametrize(("weight", "expected"), [("one", 1.0), ("margin", 1.0)])
def test_weights(weight, expected):
    """Equal margins, like no weights at all, are weights of 1."""
    view = PseudoLabeled(labelled_dataset(3), size=8, weight=weight)
    np.testing.assert_allclose(view.weights, expected)


def test_shuffled_order():
    """Every example comes once, those of an image together, in another order for another seed."""
    view = PseudoLabeled(labelled_dataset(), size=8)
    order = view.shuffled(1)
    assert sorted(order.tolist()) == list(range(len(view)))
    changes = np.count_nonzero(np.diff(view.image_ids[order]))
    assert changes == len(set(view.image_ids)) - 1
    assert order.tolist() == view.shuffled(1).tolist()
    assert order.tolist() != view.shuffled(2).tolist()


def test_transform_and_pickle():
    """A transform takes each crop; a pickled view gives the same."""
    view = PseudoLabeled(labelled_dataset(3), size=8, transform=np.mean)
    assert view[0][0] == pytest.approx(PseudoLabeled(labelled_dataset(3), size=8)[0][0].mean())
    assert pickle.loads(pickle.dumps(view))[1] == view[1]


def test_data_loader():
    """The default collate of torch makes batches of it, also in worker processes."""
    torch = pytest.importorskip("torch")
    view = PseudoLabeled(labelled_dataset(4), size=8)
    for workers in (0, 1):
        loader = torch.utils.data.DataLoader(
            view,
            batch_size=4,
            sampler=view.shuffled().tolist(),
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
        )
        batches = list(loader)
        crops = torch.cat([batch[0] for batch in batches])
        assert crops.shape == (len(view), 8, 8, 3)
        assert torch.cat([batch[1] for batch in batches]).tolist() == view.label_ids[view.shuffled()].tolist()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"split": "test"}, "split"),
        ({"size": 0}, "size"),
        ({"context": -1}, "context"),
        ({"background": "blue"}, "background"),
        ({"weight": "area"}, "weight"),
        ({"classes": [1, 1]}, "classes"),
        ({"classes": [-1]}, "classes"),
        ({"column": "other"}, "other"),
        ({"max_per_class": 0}, "max_per_class"),
    ],
)
def test_options(options, found):
    """An option out of range is an error that names it."""
    with pytest.raises(ConfigError, match=found):
        PseudoLabeled(labelled_dataset(1), **options)


def test_streams_are_refused():
    """A stream has no length and no places; the message says what to do."""
    with pytest.raises(ConfigError, match="prepare the stream"):
        PseudoLabeled(labelled_dataset(1).to_iterable_dataset())


def test_broken_image():
    """An image that cannot be decoded is an error that names it."""
    row = make_row(7, [box_mask(0, 0, 5, 5)])
    row["image"]["bytes"] = b"\xff\xd8nothing"
    table = make_table([row]).append_column("labels", label_column([[(0, 1.0, 1.0, 0.0)]], [700]))
    with pytest.raises(ImageError, match="sa_7"):
        PseudoLabeled(Dataset(table))[0]


def gradient():
    """Pixels that tell their place: red is the column, green is the row."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([4 * columns, 4 * rows, 0 * rows], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("box", [(10, 8, 16, 16), (0, 0, 60, 40), (50, 30, 10, 10), (5, 5, 1, 1), (59, 0, 1, 40)])
@pytest.mark.parametrize("context", [0.0, 0.5])
def test_crop_shows_the_right_place(box, context):
    """Each pixel of a crop is the image's at the place that arithmetic says, or grey outside of it."""
    x, y, w, h = box
    size = 32
    crop = cut_crop(gradient(), box_mask(*box), size=size, context=context)
    side = max(w, h) * (1 + 2 * context)
    at = (np.arange(size) + 0.5) * side / size
    columns, rows = x + w / 2 - side / 2 + at, y + h / 2 - side / 2 + at
    # pixels near the border of the image are mixed with it or shifted to whole pixels
    edge = max(1.0, side / size)
    inside = np.ix_((rows > edge) & (rows < HEIGHT - edge), (columns > edge) & (columns < WIDTH - edge))
    expected = np.stack(np.broadcast_arrays(4 * (columns[None, :] - 0.5), 4 * (rows[:, None] - 0.5)), axis=-1)
    np.testing.assert_allclose(crop[..., :2][inside], expected[inside], atol=4 + 4 * side / size)
    outside = (rows[:, None] < -edge) | (rows[:, None] > HEIGHT + edge) | (columns < -edge) | (columns > WIDTH + edge)
    assert (crop[outside] == 128).all()


def test_grey_background():
    """Outside of the mask all is grey, inside it is the image."""
    dense = np.zeros((HEIGHT, WIDTH), bool)
    dense[10:26, 10:26] = np.tri(16, dtype=bool)
    pixels = np.full((HEIGHT, WIDTH, 3), 250, np.uint8)
    crop = cut_crop(pixels, rle.encode(dense), size=16, context=0.0, background="grey")
    np.testing.assert_array_equal(crop[np.tri(16, dtype=bool)], 250)
    np.testing.assert_array_equal(crop[~np.tri(16, dtype=bool)], 128)


def test_crops_of_strange_masks():
    """An empty mask is all grey; a mask of another size than the image is refused."""
    assert (cut_crop(gradient(), box_mask(0, 0, 0, 0), size=4) == 128).all()
    with pytest.raises(ConfigError, match=r"\(40, 60\)"):
        cut_crop(gradient(), box_mask(0, 0, 2, 2, size=(60, 40)), size=4)
