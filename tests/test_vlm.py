"""Examples for vision-language training: what they hold, and that nothing which does not fit gets into one."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from support.label_scenes import box_mask, label_column, make_row, make_table, paint

from sa1b_hf.errors import ConfigError, RecordError
from sa1b_hf.labels.vlm import FromLabels, VLMBuilder, VLMExample
from sa1b_hf.masks import DecodeMasks

MASKS = [box_mask(2, 2, 10, 10), box_mask(20, 5, 12, 12), box_mask(40, 20, 14, 14)]
COLOURS = [(220, 20, 20), (20, 220, 20), (20, 20, 220)]
SMALL = DecodeMasks(size=30, max_masks=None)


def row(image_id=7, **more):
    return {**make_row(image_id, MASKS, pixels=paint(MASKS, COLOURS)), **more}


def by_colour(images, texts):
    """Relevance of red, green and blue: the share of that colour in the middle of each mask's box."""
    results = []
    for image in images:
        pixels = image.pixels().astype(float)
        middles = image.boxes_xywh[:, :2] + image.boxes_xywh[:, 2:] / 2
        colours = np.array([pixels[int(y), int(x)] for x, y in middles]).reshape(-1, 3)
        channel = ["red", "green", "blue"]
        results.append(colours[:, [channel.index(text) for text in texts]] / 255)
    return results


def test_example_of_a_row():
    """An example has the image and masks at one size, the texts, and the relevance of each to each."""
    example = VLMBuilder(["red", "blue"], by_colour, decode=SMALL).build(row())
    assert example.image.shape == (20, 30, 3)
    assert example.masks.shape == (3, 20, 30)
    assert example.text == ("red", "blue")
    np.testing.assert_allclose(example.relevance, [[0.86, 0.08], [0.08, 0.08], [0.08, 0.86]], atol=0.04)
    assert example.relevance.dtype == np.float32
    assert example.metadata["image_id"] == 7
    assert example.metadata["file_name"] == "sa_7.jpg"
    for mask, colour in zip(example.masks.astype(bool), COLOURS, strict=True):
        np.testing.assert_allclose(example.image[mask].mean(axis=0), colour, atol=40)


def test_relevance_is_of_the_masks_that_were_chosen():
    """When masks are drawn at random, the rows of relevance are those of the masks drawn."""
    builder = VLMBuilder(["red", "green", "blue"], by_colour, decode=DecodeMasks(size=60, max_masks=2, seed=3))
    for image_id in range(1, 9):
        example = builder.build(row(image_id))
        wanted = example.metadata["annotation_ids"] - 100 * image_id
        assert len(wanted) == 2
        assert example.relevance.argmax(axis=1).tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("caption", ("a red box",)),
        ("captions", ("red", "green")),
        (lambda one: [one["file_name"]], ("sa_7.jpg",)),
        (("red",), ("red",)),
    ],
)
def test_where_texts_come_from(text, expected):
    """Texts come from a column of one or several, from a function, or are the same for all."""
    given = row(caption="a red box", captions=["red", "green"])
    example = VLMBuilder(text, lambda images, texts: [np.ones((3, len(texts)))], decode=SMALL).build(given)
    assert example.text == expected


def labelled_dataset(num=3):
    rows = [row(image_id) for image_id in range(1, num + 1)]
    labels = [[(1, 0.75, 0, 0), (-1, 0.0, 0, 0), (0, 0.5, 0, 0)]] * num
    return Dataset(make_table(rows).append_column("labels", label_column(labels, range(100, 100 * num + 1, 100))))


@pytest.mark.parametrize("as_stream", [False, True])
def test_from_labels(as_stream):
    """A column of labels gives a text for each class and the scores, for datasets and streams, row by row or not."""
    dataset = labelled_dataset()
    builder = VLMBuilder(FromLabels(("box", "square"), "a {}"), decode=SMALL)
    rows = dataset.to_iterable_dataset() if as_stream else dataset
    for example in map(builder, rows):
        assert example["text"] == ("a box", "a square")
        np.testing.assert_array_equal(example["relevance"], [[0, 0.75], [0, 0], [0.5, 0]])
    batch = dataset.with_transform(builder)[:2]
    np.testing.assert_array_equal(batch["relevance"][1], example["relevance"])
    table = builder(dataset.with_format("arrow")[:2])
    np.testing.assert_array_equal(table["masks"][1], batch["masks"][1])


def test_features_are_aligned():
    """Features of masks, texts and image of one length are kept under their names."""

    def features(image, texts):
        return {
            "masks": np.ones((len(image), 4)),
            "text": np.ones((len(texts), 4)),
            "image": np.ones(4),
        }

    example = VLMBuilder(["red"], by_colour, decode=SMALL, features=features)(row())
    assert example["features_masks"].shape == (3, 4)
    assert example["features_text"].shape == (1, 4)
    assert example["features_image"].shape == (4,)


def parts(**changes):
    """The parts of a good example, with some replaced."""
    good = {
        "image": np.zeros((4, 6, 3), np.uint8),
        "masks": np.zeros((2, 4, 6), np.uint8),
        "text": ["a", "b", "c"],
        "relevance": np.zeros((2, 3)),
        "metadata": {"image_id": 9},
        "features": {},
    }
    return {**good, **changes}


def test_good_parts():
    """The parts that the next test breaks are good; no masks at all are good too."""
    assert VLMExample(**parts()).relevance.dtype == np.float32
    empty = VLMExample(**parts(masks=np.zeros((0, 4, 6), bool), relevance=np.zeros((0, 3))))
    assert empty.relevance.shape == (0, 3)


@pytest.mark.parametrize(
    ("stage", "changes", "found"),
    [
        ("image", {"image": np.zeros((4, 6), np.uint8)}, r"\(4, 6\) of uint8"),
        ("image", {"image": np.zeros((4, 6, 3))}, "float64"),
        ("image", {"image": None}, "NoneType"),
        ("masks", {"masks": np.zeros((2, 6, 4), np.uint8)}, r"shape \(N, 4, 6\).*found \(2, 6, 4\)"),
        ("masks", {"masks": np.full((2, 4, 6), 255, np.uint8)}, "up to 255"),
        ("masks", {"masks": [1]}, "list"),
        ("text", {"text": []}, "none"),
        ("text", {"text": "abc"}, "str"),
        ("text", {"text": ["a", " ", "c"]}, "' ' at 1"),
        ("relevance", {"relevance": np.zeros((3, 2))}, r"\(2, 3\), masks by texts, found \(3, 2\)"),
        ("relevance", {"relevance": np.array([[0, 0, 0], [0, 1.5, 0]])}, "1.5 for mask 1 and text 1"),
        ("relevance", {"relevance": np.array([[0, np.nan, 0], [0, 0, 0]])}, "nan for mask 0 and text 1"),
        ("features", {"features": {"masks": np.zeros((3, 4))}}, r"'masks' of shape \(2, D\), found \(3, 4\)"),
        ("features", {"features": {"image": np.zeros((1, 4))}}, r"'image' of shape \(D\)"),
        ("features", {"features": {"text": np.full((3, 4), np.nan)}}, "finite"),
        ("features", {"features": {"text": np.zeros((3, 4)), "masks": np.zeros((2, 5))}}, "'text': 4, 'masks': 5"),
        ("features", {"features": {"words": np.zeros((3, 4))}}, "words"),
    ],
)
def test_parts_that_do_not_fit(stage, changes, found):
    """A part that does not fit is an error that names the image, the stage, what was expected and what was found."""
    with pytest.raises(RecordError, match=rf"^sa_9: {stage}: expected .*{found}") as caught:
        VLMExample(**parts(**changes))
    assert (caught.value.reason, caught.value.where) == (stage, {"image_id": 9})


@pytest.mark.parametrize(
    ("relevance", "found"),
    [
        (lambda images, texts: [], "one array for one image, found 0"),
        (lambda images, texts: [np.zeros((len(texts), 3))], r"\(3, 1\)"),
        (lambda images, texts: [np.full((3, 1), 2.0)], "2.0"),
    ],
)
def test_functions_that_give_what_does_not_fit(relevance, found):
    """What a user's function gives is checked before it is used."""
    with pytest.raises(RecordError, match=rf"sa_7: relevance: .*{found}"):
        VLMBuilder(["red"], relevance, decode=SMALL).build(row())


def test_faults_of_rows():
    """Missing columns, empty captions and repeated ids are errors that say so."""
    ones = lambda images, texts: [np.ones((3, len(texts)))]  # noqa: E731
    with pytest.raises(ConfigError, match="'caption'"):
        VLMBuilder("caption", ones, decode=SMALL).build(row())
    with pytest.raises(RecordError, match="text: expected at least one"):
        VLMBuilder("caption", ones, decode=SMALL).build(row(caption=None))
    with pytest.raises(ConfigError, match="'labels'"):
        VLMBuilder(FromLabels(("a",)), decode=SMALL).build(row())
    repeated = row()
    repeated["annotations"][1]["id"] = repeated["annotations"][0]["id"]
    with pytest.raises(RecordError, match="repeated"):
        VLMBuilder(["red"], by_colour, decode=SMALL).build(repeated)


@pytest.mark.parametrize(
    "make",
    [
        lambda: VLMBuilder(["a"]),
        lambda: VLMBuilder(FromLabels(("a",)), by_colour),
        lambda: VLMBuilder(["a"], by_colour, decode=DecodeMasks(layout="bits")),
        lambda: VLMBuilder(["a"], by_colour, decode=DecodeMasks(image=False)),
        lambda: VLMBuilder(["a"], by_colour, decode=DecodeMasks(size=8, pad=True)),
    ],
)
def test_options_that_do_not_go_together(make):
    """Options that make no example are refused at once."""
    with pytest.raises(ConfigError):
        make()


def test_relevance_of_a_labeler():
    """A labeler with a method `relevance` is taken as it is: here a tiny CLIP."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from support.tiny_models import tiny_clip

    from sa1b_hf.labels.base import Vocabulary
    from sa1b_hf.labels.clip import ClipLabeler

    model, tokenizer, image_processor = tiny_clip()
    labeler = ClipLabeler(model, Vocabulary(("a",)), tokenizer=tokenizer, image_processor=image_processor, device="cpu")
    example = VLMBuilder(["red", "blue"], labeler, decode=SMALL).build(row())
    assert example.relevance.shape == (3, 2)
