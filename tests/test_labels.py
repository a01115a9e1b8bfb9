"""Labels without a model: vocabularies, provenance, the column, and what hooks do with labelers of every temper."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.coloured import COLOURS, NAMES, expected, write_shard

import sa1b_hf
from sa1b_hf import rle
from sa1b_hf.convert import ConvertOptions, convert
from sa1b_hf.errors import ConfigError, ImageError, RecordError
from sa1b_hf.hub import push
from sa1b_hf.labels.base import (
    ABSTAINED,
    ImageMasks,
    LabelCounts,
    Labeler,
    LabelTransform,
    MaskLabels,
    Provenance,
    Vocabulary,
    iter_label_converted,
    label_masks,
    read_images,
)

WORDS = Vocabulary(NAMES)


class ByColour:
    """The labeler of the documentation: the colour that is nearest to the mean of a mask."""

    provenance = Provenance("by-colour", WORDS)
    colours = np.array(list(COLOURS.values()), np.float32)

    def label(self, images):
        return [self.label_one(image) for image in images]

    def label_one(self, image):
        pixels, masks = image.pixels(), rle.decode(image.masks, dtype=bool) if len(image) else []
        means = np.array([pixels[mask].mean(axis=0) for mask in masks], np.float32).reshape(-1, 1, 3)
        return MaskLabels.from_scores(np.exp(-np.abs(means - self.colours).mean(axis=2) / 64), top_k=2)


class Blind:
    """Says something about every mask without looking."""

    provenance = Provenance("blind", WORDS)

    def label(self, images):
        return [MaskLabels.from_scores(np.tile([0.1, 0.2, 0.3, 0.4], (len(image), 1))) for image in images]


class Failing(Blind):
    """Raises for one image."""

    provenance = Provenance("failing", WORDS)

    def label(self, images):
        if any(image.image_id == 3 for image in images):
            raise ValueError("no idea")
        return super().label(images)


class NotANumber(Blind):
    """Has NaN for the first mask of each image."""

    provenance = Provenance("not-a-number", WORDS)

    def label(self, images):
        tables = [np.full((len(image), 4), 0.25) for image in images]
        for table in tables:
            table[:1, 0] = np.nan
        return [MaskLabels.from_scores(table) for table in tables]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two shards of coloured images; image 5 and 15 have no masks."""
    folder = tmp_path_factory.mktemp("coloured")
    write_shard(folder / "sa_000000.tar", range(1, 9))
    write_shard(folder / "sa_000001.tar", range(11, 17))
    return folder


@pytest.fixture(scope="module")
def stream(folder):
    return sa1b_hf.load_dataset("sa1b.py", data_dir=str(folder), split="train", streaming=True)


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return sa1b_hf.load_dataset("sa1b.py", data_dir=str(folder), split="train", cache_dir=cache)


@pytest.fixture
def converted(folder, tmp_path):
    convert(folder, tmp_path / "converted", progress=False)
    return tmp_path / "converted"


def best(rows):
    return {one["annotation_id"]: one["label_ids"][0] for row in rows for one in row["labels"]}


def all_expected(rows):
    return {key: value for row in rows for key, value in expected(row["image_id"]).items()}


def image_of(count, image_id=1, size=(8, 8)):
    masks = [{"size": list(size), "counts": [0, 1, size[0] * size[1] - 1]}] * count
    return ImageMasks(np.zeros((*size, 3), np.uint8), size, masks, np.zeros((count, 4)), np.arange(count), image_id)


# -- vocabularies


def test_presets_and_prompts():
    """COCO's 80 names come along; a class stands in each sentence, with each of its synonyms."""
    coco = Vocabulary.preset("coco", templates=("a {}.", "{}"))
    assert (len(coco), coco.names[0], coco.names[79]) == (80, "person", "toothbrush")
    assert coco.prompts(9) == ("a traffic light.", "traffic light")
    assert coco.prompts(80) == ("a background.", "background")
    words = Vocabulary(("hair_drier",), synonyms={"hair_drier": ["blower"]}, templates=("{}",))
    assert words.prompts(0) == ("hair drier", "blower")


@pytest.mark.parametrize(
    ("name", "text", "names", "synonyms"),
    [
        ("words.txt", "cat, kitten\n# animals\ndog\n\n", ("cat", "dog"), {"cat": ("kitten",)}),
        ("words.json", '["cat", "dog"]', ("cat", "dog"), {}),
        (
            "lvis.json",
            '{"categories": [{"id": 2, "name": "dog"}, {"id": 1, "name": "cat", "synonyms": ["cat", "kitten"]}]}',
            ("cat", "dog"),
            {"cat": ("kitten",)},
        ),
        ("own.json", '{"names": ["cat", "dog"], "templates": ["{}"]}', ("cat", "dog"), {}),
    ],
)
def test_vocabularies_from_files(tmp_path, name, text, names, synonyms):
    """Lines, lists, annotations in COCO's format and the attributes themselves are all read."""
    (tmp_path / name).write_text(text)
    found = Vocabulary.from_file(tmp_path / name, background=("sky",))
    assert (found.names, found.synonyms, found.background) == (names, synonyms, ("sky",))


def test_a_vocabulary_of_lvis_size(tmp_path):
    """Twelve hundred classes are read, and every change of a word changes the digest."""
    (tmp_path / "lvis.txt").write_text("".join(f"class_{number}\n" for number in range(1203)))
    one = Vocabulary.from_file(tmp_path / "lvis.txt")
    other = Vocabulary.from_file(tmp_path / "lvis.txt", templates=("{}",))
    assert len(one) == 1203
    assert re.fullmatch("[0-9a-f]{64}", one.digest)
    assert one.digest == Vocabulary.from_file(tmp_path / "lvis.txt").digest != other.digest
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ()}, "at least one class, found none"),
        ({"names": "cat"}, "expected a list of str"),
        ({"names": ("cat", " ")}, "expected words"),
        ({"names": ("cat", "cat")}, "each word once"),
        ({"names": ("cat",), "background": ("cat",)}, "each word once"),
        ({"names": ("cat",), "synonyms": {"dog": ["hound"]}}, "keys that are names"),
        ({"names": ("cat",), "templates": ("a photo",)}, "one {} in each"),
        ({"names": ("cat",), "templates": ()}, "at least one"),
    ],
)
def test_vocabularies_that_make_no_sense(arguments, message):
    """An empty or ambiguous vocabulary is refused, with what is wrong."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        Vocabulary(**arguments)


def test_files_that_are_no_vocabulary(tmp_path):
    """What cannot be read is refused by name, without the path."""
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for name in ("bad.json", "empty.txt", "missing.txt"):
        with pytest.raises(ConfigError, match=f"vocabulary {name}") as caught:
            Vocabulary.from_file(tmp_path / name)
        assert str(tmp_path) not in str(caught.value).replace(f"'{tmp_path / name}'", "")
    with pytest.raises(ConfigError, match="preset"):
        Vocabulary.preset("lvis")


# -- provenance


def test_provenance_survives_json():
    """What is written with the labels can be read back; its fingerprint ignores the version of the package."""
    words = Vocabulary(("cat",), synonyms={"cat": ["kitten"]}, background=("sky",))
    one = Provenance("a/b", words, revision="c0ffee", mode="crop", resolution=224, options={"context": 0.25})
    text = json.dumps(one.to_dict())
    assert Provenance.from_dict(json.loads(text)) == one
    assert {**json.loads(text), "names": ["cat"]} == json.loads(text)
    older = Provenance(
        "a/b", words, revision="c0ffee", mode="crop", resolution=224, options={"context": 0.25}, version="0"
    )
    assert older.fingerprint == one.fingerprint
    assert Provenance("a/b", words, revision="c0ffee").fingerprint != one.fingerprint
    changed = {**json.loads(text), "names": ["dog"], "synonyms": {}}
    with pytest.raises(ConfigError, match="digest"):
        Provenance.from_dict(changed)


@pytest.mark.parametrize("model", ["/models/clip", "~/model", "https://x.org/m?token=secret", "C:\\models\\clip", ""])
def test_provenance_has_no_paths(model):
    """Provenance is published: a path or an address is refused."""
    with pytest.raises(ConfigError, match="model"):
        Provenance(model, WORDS)


# -- labels of one image


def test_best_labels():
    """Labels come best first; background and low scores abstain; NaN abstains and is seen."""
    scores = [[0.7, 0.2, 0.1], [0.2, 0.3, 0.5], [0.1, 0.15, 0.05], [np.nan, 0.5, 0.5], [0.0, 1.0, 0.0]]
    labels = MaskLabels.from_scores(scores, num_names=2, min_score=0.2, top_k=2)
    assert labels.label_ids.tolist() == [[0, 1], [-1, -1], [-1, -1], [-1, -1], [1, 0]]
    np.testing.assert_allclose(labels.scores[[0, 1, 2, 4], 0], [0.7, 0.5, 0.15, 1])
    np.testing.assert_allclose(labels.margin[[0, 1, 4]], [0.5, 0.2, 1], rtol=1e-6)
    np.testing.assert_allclose(labels.entropy[[0, 4]], [0.801819, 0], rtol=1e-5)
    assert labels.not_finite.tolist() == [False, False, False, True, False]
    assert np.isnan([labels.margin[3], labels.entropy[3]]).all()


@pytest.mark.parametrize(
    "arguments",
    [{"scores": [0.1]}, {"scores": np.zeros((2, 0))}, {"scores": [[1]], "top_k": 0}, {"scores": [[1]], "num_names": 2}],
)
def test_scores_of_a_wrong_shape(arguments):
    """Scores are a row per mask and a column per class."""
    with pytest.raises(ConfigError):
        MaskLabels.from_scores(**arguments)


def test_labels_of_a_wrong_shape():
    """Arrays that do not fit each other are refused."""
    nothing = np.zeros(2, np.float32)
    with pytest.raises(ConfigError, match=r"\(N, K\)"):
        MaskLabels(np.zeros((2, 1)), np.zeros((2, 2)), nothing, nothing)
    with pytest.raises(ConfigError, match="margin"):
        MaskLabels(np.zeros((2, 1)), np.zeros((2, 1)), nothing[:1], nothing)
    with pytest.raises(ConfigError, match="embeddings"):
        MaskLabels(np.zeros((2, 1)), np.zeros((2, 1)), nothing, nothing, np.zeros((3, 4)))


# -- hooks


def test_a_labeler_of_a_dozen_lines(stream, prepared):
    """The known colours come out, streamed and prepared, aligned with the annotations; JPEGs stay as they are."""
    assert isinstance(ByColour(), Labeler)
    labelled = label_masks(prepared, ByColour(), batch_images=3)
    rows = list(labelled)
    assert best(rows) == all_expected(rows)
    assert len(best(rows)) == 12 * 4
    for row in rows:
        assert [one["annotation_id"] for one in row["labels"]] == [one["id"] for one in row["annotations"]]
    streamed = list(label_masks(stream, ByColour(), batch_images=3))
    assert [row["labels"] for row in streamed] == [row["labels"] for row in rows]
    bytes_of = [
        dataset.with_format("arrow")[:]["image"].combine_chunks().field("bytes") for dataset in (prepared, labelled)
    ]
    assert bytes_of[0] == bytes_of[1]


def test_features_are_passed_on(stream, prepared, tmp_path):
    """A stream knows its features, a written file has them, and the plain loader of Parquet reads the labels."""
    features = label_masks(stream, Blind()).features
    assert list(features) == [*stream.features, "labels"]
    labelled = label_masks(prepared, Blind())
    assert labelled.features == features
    labelled.to_parquet(str(tmp_path / "rows.parquet"))
    back = datasets.Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))
    assert back.features == features
    assert back[0]["labels"][0]["label_ids"] == [3, 2, 1, 0]


def test_a_dataset_is_labelled_once(prepared):
    """The cache goes by the labeler's fingerprint, which needs no pickle of a model."""
    calls = []

    class Counting(Blind):
        def label(self, images):
            calls.append(len(images))
            return super().label(images)

        def __reduce__(self):
            raise TypeError("far too large")

    one = label_masks(prepared, Counting(), column="mine")
    count = len(calls)
    two = label_masks(prepared, Counting(), column="mine")
    assert count == len(calls) > 0
    assert one._fingerprint == two._fingerprint != prepared._fingerprint


def test_embeddings_are_kept_as_halves(prepared):
    """Embeddings travel as float16, also for images without masks."""

    class WithEmbeddings(Blind):
        provenance = Provenance("with-embeddings", WORDS, embedding_dim=3)

        def label(self, images):
            rows = [np.arange(3 * len(image)).reshape(-1, 3) / 8 for image in images]
            return [MaskLabels.from_scores(np.ones((len(row), 4)), embeddings=row) for row in rows]

    labelled = label_masks(prepared, WithEmbeddings())
    column = labelled.with_format("arrow")[:]["labels"].combine_chunks()
    assert column.values.type.field("embedding").type.value_type == pa.float16()
    assert labelled[0]["labels"][1]["embedding"] == [0.375, 0.5, 0.625]


def test_an_abstained_mask_has_one_entry(prepared):
    """An abstained mask says -1, once; others give as many labels as they have."""

    class Unsure(Blind):
        provenance = Provenance("unsure", WORDS)

        def label(self, images):
            results = []
            for image in images:
                ids = np.tile([[ABSTAINED, 2, 1], [2, 1, 0], [2, ABSTAINED, 1], [1, 0, ABSTAINED]], (1, 1))[
                    : len(image)
                ]
                flat = np.zeros(len(image))
                results.append(MaskLabels(ids, np.full(ids.shape, 0.5), flat, flat))
            return results

    row = label_masks(prepared, Unsure())[0]
    assert [one["label_ids"] for one in row["labels"]] == [[-1], [2, 1, 0], [2], [1, 0]]
    assert [len(one["scores"]) for one in row["labels"]] == [1, 3, 1, 2]


# -- labelers that fail


def test_a_labeler_that_raises_names_its_image(stream):
    """The error says which image and which annotations, and is the labeler's own cause."""
    with pytest.raises(RecordError, match=r"sa_3, annotations 30, 31, 32, 33: Failing: ValueError: no idea") as caught:
        list(label_masks(stream, Failing(), batch_images=4))
    assert caught.value.reason == "labeler"
    assert caught.value.shard == "sa_000000"
    assert caught.value.where == {"image_id": 3, "annotation_ids": [30, 31, 32, 33]}
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_tolerant_hook_counts_what_fails(prepared):
    """With on_error="skip" the image's masks are abstained from, the others of its batch are not, all are counted."""
    transform = LabelTransform(Failing(), on_error="skip", batch_images=4)
    table = transform(prepared.with_format("arrow")[:])
    labels = dict(zip(table["image_id"].to_pylist(), table["labels"].to_pylist(), strict=True))
    assert [one["label_ids"] for one in labels[3]] == [[-1]] * 4
    assert [one["label_ids"] for one in labels[4]] == [[3, 2, 1, 0]] * 4
    counts = transform.counts
    assert (counts.images, counts.masks, counts.labelled, counts.abstained, counts.without_masks) == (14, 48, 44, 4, 2)
    assert counts.failed == {"labeler": 1}
    assert str(counts) == "48 masks of 14 images, 44 labelled, 4 abstained, 1 images failed (labeler)"
    assert LabelCounts.from_dict(json.loads(json.dumps(counts.to_dict()))) == counts


def test_what_failed_is_logged(prepared, caplog):
    """A tolerant pass over a dataset never fails in silence."""
    label_masks(prepared, Failing(), on_error="skip", column="logged")
    assert "logged: 48 masks of 14 images, 44 labelled, 4 abstained, 1 images failed (labeler)" in caplog.text


def test_scores_that_are_not_numbers(prepared):
    """NaN ends a strict pass with the masks it is about, and is abstained from and counted by a tolerant one."""
    with pytest.raises(RecordError, match="1 of 4 masks; float16 overflows") as caught:
        label_masks(prepared, NotANumber())
    assert caught.value.reason == "not-finite"
    assert caught.value.where == {"image_id": 1, "annotation_ids": [10]}
    transform = LabelTransform(NotANumber(), on_error="skip")
    transform(prepared.with_format("arrow")[:])
    assert (transform.counts.not_finite, transform.counts.abstained) == (12, 12)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "labels for each of 1 images, found 0"),
        ([MaskLabels.nothing(3)], "labels for each of 4 masks, found 3"),
        ([MaskLabels.from_scores(np.ones((4, 9)))], "label ids of -1 to 3"),
    ],
)
def test_labels_that_do_not_fit_the_masks(prepared, results, message):
    """Too few labels, or ids of no class, are the labeler's failure and never reach a row."""

    class Wrong(Blind):
        def label(self, images):
            return results

    with pytest.raises(RecordError, match=re.escape(message)):
        LabelTransform(Wrong())(prepared.with_format("arrow")[:1])


def test_an_image_that_cannot_be_read(prepared):
    """A broken JPEG is counted under its own reason."""
    table = prepared.with_format("arrow")[:2]
    images = pa.array(
        [{"bytes": b"\xff\xd8 no jpeg", "path": None}, {"bytes": None, "path": None}], table["image"].type
    )
    broken = table.set_column(0, "image", images)
    transform = LabelTransform(ByColour(), on_error="skip")
    assert transform(broken).num_rows == 2
    assert transform.counts.failed == {"image-decode": 1, "image-missing": 1}
    with pytest.raises(RecordError, match="sa_1, annotations") as caught:
        LabelTransform(ByColour())(broken)
    assert isinstance(caught.value.__cause__, ImageError)


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_any_number_of_masks(count):
    """No mask, one, a thousand: the column has as many entries."""
    image = image_of(count)
    rows = {"image_id": [1], "width": [8], "height": [8]}
    annotations = [{"id": index, "segmentation": mask, "bbox": [0.0] * 4} for index, mask in enumerate(image.masks)]
    table = pa.table({**rows, "annotations": pa.array([annotations], read_type())})
    labels = LabelTransform(Blind())(table)["labels"].to_pylist()
    assert [one["annotation_id"] for one in labels[0]] == list(range(count))


def read_type():
    segmentation = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.list_(pa.int64()))])
    return pa.list_(pa.struct([("id", pa.int64()), ("segmentation", segmentation), ("bbox", pa.list_(pa.float64()))]))


def test_rows_and_batches_are_read_too(stream):
    """What `read_images` takes from a table it takes from a row, with the image's name and shard."""
    row = next(iter(stream.cast_column("image", datasets.Image(decode=False))))
    (image,) = read_images(row)
    assert (image.image_id, image.file_name, image.shard, image.size, len(image)) == (
        1,
        "sa_1.jpg",
        "sa_000000",
        (96, 144),
        4,
    )
    assert image.pixels((48, 72)).shape == (48, 72, 3)
    with pytest.raises(ConfigError, match="annotations"):
        read_images({"image_id": 1, "height": 4, "width": 4})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labeler": object()}, "`provenance` and `label"),
        ({"labeler": Blind(), "batch_images": 0}, "batch_images"),
        ({"labeler": Blind(), "on_error": "warn"}, "on_error"),
    ],
)
def test_options_that_make_no_sense(stream, arguments, message):
    """Options are checked before anything is read."""
    with pytest.raises(ConfigError, match=message):
        label_masks(stream, **arguments)


def test_what_is_no_dataset():
    """A dictionary of splits is refused with the advice to choose one."""
    with pytest.raises(ConfigError, match="of several splits, choose one"):
        label_masks(datasets.DatasetDict(), Blind())


# -- converting


def test_converting_with_labels(folder, tmp_path):
    """The transform of a conversion writes the column and, into each part, where the labels come from."""
    transform = LabelTransform(ByColour())
    result = convert(folder, tmp_path, ConvertOptions(transforms=(transform,)), progress=False)
    parts = [tmp_path / part.path for manifest in result.manifests for part in manifest.parts]
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert best(rows) == all_expected(rows)
    for part in parts:
        (provenance,) = json.loads(pq.read_schema(part).metadata[b"sa1b_hf"])["transforms"]
        assert provenance == {**ByColour.provenance.to_dict(), "column": "labels"}
        assert provenance["names"] == list(NAMES)
    again = convert(folder, tmp_path, ConvertOptions(transforms=(LabelTransform(ByColour()),)), progress=False)
    assert again.num_done == 2


def test_labelling_what_is_converted(converted, tmp_path):
    """A converted folder gets labels in files of their own, the same as a conversion would have written them."""
    out = tmp_path / "labelled"
    done = list(iter_label_converted(converted, out, LabelTransform(ByColour()), progress=False))
    assert [(one.manifest.shard, one.was_done) for one in done] == [("sa_000000", False), ("sa_000001", False)]
    assert [one.counts.masks for one in done] == [28, 20]
    rows = list(
        datasets.load_dataset(
            "parquet", data_files=str(out / "data/train/*.parquet"), split="train", cache_dir=str(tmp_path / "c")
        )
    )
    assert best(rows) == all_expected(rows)
    metadata = json.loads(pq.read_schema(out / done[0].manifest.parts[0].path).metadata[b"sa1b_hf"])
    assert [one["model"] for one in metadata["transforms"]] == ["by-colour"]
    assert [
        one.was_done for one in iter_label_converted(converted, out, LabelTransform(ByColour()), progress=False)
    ] == [True, True]


def test_labelling_goes_on_where_it_ended(converted, tmp_path):
    """After a failure in the second shard the first is kept, and the rerun ends in the bytes of an undisturbed run."""

    class Interrupted(ByColour):
        def label(self, images):
            if any(image.image_id == 14 for image in images):
                raise KeyboardInterrupt
            return super().label(images)

    def parts(out):
        return {path.name: path.read_bytes() for path in sorted(out.glob("data/train/*"))}

    out, whole = tmp_path / "out", tmp_path / "whole"
    with pytest.raises(KeyboardInterrupt):
        list(iter_label_converted(converted, out, LabelTransform(Interrupted()), progress=False))
    assert list(parts(out)) == ["sa_000000-00000.parquet"]
    rerun = list(iter_label_converted(converted, out, LabelTransform(ByColour()), progress=False))
    assert [one.was_done for one in rerun] == [True, False]
    list(iter_label_converted(converted, whole, LabelTransform(ByColour()), progress=False))
    assert parts(out) == parts(whole)
    other = list(iter_label_converted(converted, out, LabelTransform(Blind()), progress=False))
    assert [one.was_done for one in other] == [False, False]


def test_folders_that_cannot_be_labelled(converted, tmp_path):
    """The folder itself, one without manifests, unknown shards and missing parts are refused."""
    transform = LabelTransform(Blind())
    for arguments, message in [
        ((converted, converted), "other than the converted one"),
        ((tmp_path, tmp_path / "out"), "expected a converted folder"),
    ]:
        with pytest.raises(ConfigError, match=message):
            list(iter_label_converted(*arguments, transform, progress=False))
    with pytest.raises(ConfigError, match="sa_000009"):
        list(iter_label_converted(converted, tmp_path / "out", transform, shards=("sa_000009",), progress=False))
    next(converted.glob("data/train/sa_000001*")).unlink()
    with pytest.raises(OSError, match="convert this shard again"):
        list(iter_label_converted(converted, tmp_path / "out", transform, progress=False))
    assert Path(tmp_path / "out/manifests/sa_000000.json").exists()


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's own HTTP client
def test_labels_go_to_the_hub_with_their_provenance(folder, tmp_path, hub):
    """Labelled while converting and pushed, the rows have the known colours, and the card says who named them."""
    transform = LabelTransform(ByColour())
    convert(folder, tmp_path / "labelled", ConvertOptions(transforms=(transform,)), progress=False)
    push(tmp_path / "labelled", "ada/coloured")
    rows = list(datasets.load_dataset("ada/coloured", split="train", streaming=True))
    assert best(rows) == all_expected(rows)
    assert len(rows) == 14
    card = hub.files("ada/coloured")["README.md"].decode()
    assert '"by-colour"' in card
    assert WORDS.digest in card
    assert all(name in card for name in COLOURS)
    assert "48 of 48 masks have a label" in card
