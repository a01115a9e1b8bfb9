"""Labels from files in COCO's format and from tables: who gets what, and why the others get nothing."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from datasets import Dataset
from pycocotools import mask as coco
from support.label_scenes import HEIGHT, WIDTH, blob_masks, box_mask, image_masks, make_row, make_table

from sa1b_hf.errors import ConfigError, MissingExtraError
from sa1b_hf.labels._match import assign
from sa1b_hf.labels._names import image_ids_of
from sa1b_hf.labels.apply import apply_transform
from sa1b_hf.labels.base import Vocabulary
from sa1b_hf.labels.transfer import AddNegatives, AnnotationTransfer, JoinColumn, MaskTransfer, read_table

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]  # cat has label id 0, dog 1


def coco_file(tmp_path, annotations, images=None, categories=CATEGORIES):
    """A file with one image, sa_1.jpg, unless others are given."""
    images = images or [{"id": 9, "file_name": "sa_000000/sa_1.jpg", "width": WIDTH, "height": HEIGHT}]
    path = tmp_path / "instances.json"
    entries = [{"id": index, "image_id": 9, **one} for index, one in enumerate(annotations)]
    path.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    return path


needs_scipy = pytest.mark.skipif(find_spec("scipy") is None, reason="scipy is an extra")


def best(labels):
    return labels.label_ids[:, 0].tolist()


def adds_up(report):
    return (
        report.rows == report.matched + report.unmatched.total()
        and report.targets == report.labeled + report.unlabeled.total()
    )


@needs_scipy
def test_one_to_one_by_iou(tmp_path):
    """Each mask gets the category of the segment that it equals, with its IoU for a score."""
    masks = [box_mask(0, 0, 10, 10), box_mask(20, 20, 10, 10), box_mask(40, 0, 8, 8)]
    near = box_mask(20, 20, 10, 9)
    path = coco_file(tmp_path, [{"category_id": 7, "segmentation": near}, {"category_id": 3, "segmentation": masks[0]}])
    transfer = MaskTransfer(path)
    (labels,) = transfer.label([image_masks(masks)])
    assert best(labels) == [0, 1, -1]
    np.testing.assert_allclose(labels.scores[:, 0], [1, 0.9, 0], rtol=1e-6)
    assert transfer.provenance.vocabulary.names == ("cat", "dog")
    report = transfer.report()
    assert adds_up(report)
    assert (report.matched, report.unlabeled) == (2, {"no-match": 1})


def brute_force(scores, min_score):
    """Highest sum of scores of any one-to-one pairs, by trying all."""
    scores = np.where(scores >= min_score, scores, 0)
    scores = scores if scores.shape[0] <= scores.shape[1] else scores.T
    return max(
        sum(scores[row, column] for row, column in enumerate(columns))
        for columns in itertools.permutations(range(scores.shape[1]), scores.shape[0])
    )


@needs_scipy
@pytest.mark.parametrize("seed", range(12))
def test_one_to_one_is_optimal(seed):
    """No assignment has a higher sum, no mask or segment is in two pairs, none is below the least score."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 6, 2)
    scores = coco.iou(*(list(map(as_bytes, blob_masks(seed + 50 * i, n))) for i, n in enumerate(shape)), [0] * shape[1])
    pairs = assign(scores, 0.1)
    assert pairs.scores.sum() == pytest.approx(brute_force(scores, 0.1))
    assert len(set(pairs.masks)) == len(set(pairs.segments)) == len(pairs)
    assert (pairs.scores >= 0.1).all()


def as_bytes(mask):
    return {**mask, "counts": mask["counts"].encode()}


@pytest.mark.parametrize("seed", range(6))
def test_many_to_one_takes_the_highest_iou(tmp_path, seed):
    """With many to one, each mask has the label of the segment that pycocotools' IoU is highest for."""
    masks, segments = blob_masks(seed, 9), blob_masks(seed + 100, 7)
    crowd = [int(index % 3 == 0) for index in range(7)]
    entries = [{"category_id": 100 + i, "segmentation": one, "iscrowd": crowd[i]} for i, one in enumerate(segments)]
    categories = [{"id": 100 + index, "name": f"thing {index}"} for index in range(7)]
    path = coco_file(tmp_path, entries, categories=categories)
    (labels,) = MaskTransfer(path, match="many_to_one", min_overlap=0.2).label([image_masks(masks)])
    iou = coco.iou([as_bytes(one) for one in masks], [as_bytes(one) for one in segments], crowd)
    expected = np.where(iou.max(axis=1) >= 0.2, iou.argmax(axis=1), -1)
    assert best(labels) == expected.tolist()
    np.testing.assert_allclose(labels.scores[:, 0], np.where(expected >= 0, iou.max(axis=1), 0), rtol=1e-6)


def test_part_of_takes_the_smallest_segment_around(tmp_path):
    """A wheel within a car within a street is of the car, however little of the car it is."""
    street, car, wheel = box_mask(0, 0, 60, 40), box_mask(5, 5, 30, 20), box_mask(6, 18, 5, 5)
    half_out = box_mask(30, 10, 10, 4)
    categories = [{"id": 1, "name": "street"}, {"id": 2, "name": "car"}]
    entries = [{"category_id": 1, "segmentation": street}, {"category_id": 2, "segmentation": car}]
    transfer = MaskTransfer(coco_file(tmp_path, entries, categories=categories), match="part_of")
    (labels,) = transfer.label([image_masks([wheel, half_out])])
    assert best(labels) == [1, 0]
    assert labels.scores[:, 0].tolist() == [1, 1]
    assert transfer.provenance.scores == "share"


@needs_scipy
def test_every_row_is_counted_by_reason(tmp_path):
    """Rows that are of no use, each for another reason, are counted under it, and the numbers add up."""
    good = box_mask(0, 0, 10, 10)
    cut = {**good, "counts": good["counts"][:-1]}
    images = [
        {"id": 9, "file_name": "sa_1.jpg", "width": WIDTH, "height": HEIGHT},
        {"id": 10, "file_name": "000000000139.jpg", "width": WIDTH, "height": HEIGHT},
        {"id": 11, "file_name": "sa_2.jpg", "width": WIDTH, "height": HEIGHT},
    ]
    rows = [
        {"segmentation": good},
        {"segmentation": good},
        {"segmentation": box_mask(30, 30, 5, 5)},
        {"segmentation": box_mask(5, 5, 30, 30)},
        {"segmentation": cut},
        {"segmentation": box_mask(0, 0, 4, 4, size=(20, 20))},
        {"segmentation": good, "iscrowd": 1},
        {"segmentation": good, "image_id": 10},
        {"segmentation": good, "image_id": 11},
        {"segmentation": good, "image_id": 12},
        {"segmentation": good, "category_id": 99},
        {"bbox": [0, 0, 1, 1]},
        {"segmentation": [[0, 0, 1e9, 0, 1e9, 1e9]]},
        {"segmentation": [[0, 0, 1, 1]]},
    ]
    transfer = MaskTransfer(coco_file(tmp_path, [{"category_id": 7, **row} for row in rows], images))
    image = image_masks([good])
    transfer.label([image])
    once = transfer.report()
    transfer.label([image])  # a second epoch
    assert transfer.report() == once
    assert adds_up(once)
    assert once.matched == 1
    assert once.unmatched == {
        "taken": 1,
        "no-overlap": 1,
        "low-overlap": 1,
        "malformed": 3,
        "size-mismatch": 1,
        "crowd": 1,
        "image-name": 1,
        "image-unknown": 1,
        "category-unknown": 1,
        "no-segmentation": 1,
        "not-seen": 1,
    }
    assert str(once).startswith("1 of 14 rows matched (malformed 3, category-unknown 1, crowd 1")


@needs_scipy
def test_polygons_are_drawn_as_pycocotools_draws_them(tmp_path):
    """Polygons of two pieces match the mask that pycocotools makes of them exactly."""
    polygons = [[1.0, 1.0, 20.0, 1.0, 20.0, 15.5], [30.0, 30.0, 50.0, 30.0, 40.0, 38.0]]
    mask = coco.merge(coco.frPyObjects(polygons, HEIGHT, WIDTH))
    mask = {**mask, "counts": mask["counts"].decode()}
    path = coco_file(tmp_path, [{"category_id": 3, "segmentation": polygons}])
    (labels,) = MaskTransfer(path, min_overlap=1.0).label([image_masks([mask])])
    assert best(labels) == [0]


def saco_file(tmp_path):
    """A file like those of SA-Co/Gold: pairs of image and phrase, one of them without annotations."""
    dog, pair_of_dogs = box_mask(0, 0, 10, 10), box_mask(0, 0, 10, 10)
    images = [
        {"id": 10000000, "file_name": "sa_1.jpg", "text_input": "a dog", "width": WIDTH, "height": HEIGHT},
        {"id": 10000001, "file_name": "sa_1.jpg", "text_input": "brown animal", "width": WIDTH, "height": HEIGHT},
        {"id": 10000002, "file_name": "sa_1.jpg", "text_input": "a cat", "width": WIDTH, "height": HEIGHT},
        {"id": 10000003, "file_name": "sa_2.jpg", "text_input": "a dog", "width": WIDTH, "height": HEIGHT},
    ]
    near = box_mask(0, 0, 10, 9)
    entries = [
        {"image_id": 10000000, "category_id": 1, "segmentation": dog, "bbox": [0, 0, 0.1, 0.1]},
        {"image_id": 10000001, "category_id": 1, "segmentation": near, "bbox": [0, 0, 0.1, 0.1]},
    ]
    return coco_file(tmp_path, entries, images, [{"id": 1, "name": "object"}]), pair_of_dogs


@needs_scipy
def test_pairs_of_image_and_phrase(tmp_path):
    """One mask gets the phrases of two pairs, best first; what has no annotations is a negative, not a label."""
    path, mask = saco_file(tmp_path)
    transfer = MaskTransfer(path)
    (labels,) = transfer.label([image_masks([mask])])
    names = transfer.provenance.vocabulary.names
    assert names == ("a cat", "a dog", "brown animal")
    assert [names[index] for index in labels.label_ids[0]] == ["a dog", "brown animal"]
    np.testing.assert_allclose(labels.scores[0], [1, 0.9], rtol=1e-6)
    assert transfer.report().negatives == 1
    table = make_table([make_row(1, [mask]), make_row(2, [mask]), make_row(3, [mask])])
    negatives = AddNegatives(transfer)
    assert negatives(table).column("negative_label_ids").to_pylist() == [[0], [1], []]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "JSON"),
        ("[]", "JSON"),
        ('{"images": [], "annotations": []}', "categories"),
        ('{"images": [], "annotations": [], "categories": []}', "none"),
        ('{"images": [{"id": 1}], "annotations": [3], "categories": []}', "JSON"),
    ],
)
def test_other_files_are_refused(tmp_path, content, found):
    """A file of another format is an error that names the file and what it should have."""
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=rf"other\.json: expected .*{found}"):
        MaskTransfer(path)


@pytest.mark.parametrize("options", [{"match": "best"}, {"min_overlap": 0}, {"min_overlap": 1.1}, {"top_k": 0}])
def test_options_of_mask_transfer(tmp_path, options):
    """An option out of range is an error that names it."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        MaskTransfer(coco_file(tmp_path, []), **options)


@needs_scipy
def test_image_without_masks(tmp_path):
    """An image without masks gets no labels, and its segments are counted."""
    transfer = MaskTransfer(coco_file(tmp_path, [{"category_id": 7, "segmentation": box_mask(0, 0, 3, 3)}]))
    (labels,) = transfer.label([image_masks([])])
    assert len(labels) == 0
    assert transfer.report().unmatched == {"no-overlap": 1}


def test_one_to_one_without_scipy(tmp_path):
    """Without scipy the message has the line to type; many to one does not need it."""
    code = (
        "import sys; sys.modules['scipy'] = None; sys.modules['scipy.optimize'] = None\n"
        "import numpy as np; from sa1b_hf.errors import MissingExtraError; from sa1b_hf.labels._match import assign\n"
        "try: assign(np.eye(2), 0.5)\n"
        "except MissingExtraError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "pip install 'sa1b_hf[transfer]'" in out
    assert issubclass(MissingExtraError, ImportError)


def test_names_of_images():
    """Ids and all usual names are understood; everything else is -1."""
    names = ["sa_560", "sa_560.jpg", "x/sa_000000/sa_9.JPEG", "sa_.jpg", "560", None, "sa_1.png", "csa_1.jpg"]
    assert image_ids_of(pa.array(names)).tolist() == [560, 560, 9, -1, -1, -1, -1, -1]
    assert image_ids_of(pa.chunked_array([[3, None], [-4]])).tolist() == [3, -1, -1]
    with pytest.raises(ConfigError, match="double"):
        image_ids_of(pa.array([0.5]))


ROWS = {
    "annotation_id": [100, 101, 101, 101, None, 102, 999, 103, 104],
    "label": ["dog", "dog", "cat", "dog", "dog", None, "cat", "cat", "bird"],
    "score": [0.5, 0.25, 0.75, 0.9, 1.0, 1.0, 1.0, 0.0, 1.0],
    "image": ["sa_1", "sa_1", "sa_1", "sa_1", "sa_1", "sa_1", "sa_1.jpg", "sa_1", "sa_2"],
}


def test_labels_by_annotation_id():
    """Masks get the labels of their ids, several rows of one mask best first; all rows are accounted for."""
    transfer = AnnotationTransfer(pa.table(ROWS), score="score", image="image", name="mine")
    (labels,) = transfer.label([image_masks(blob_masks(0, 4))])
    assert transfer.provenance.vocabulary.names == ("bird", "cat", "dog")
    assert labels.label_ids.tolist() == [[2, -1], [1, 2], [-1, -1], [-1, -1]]
    np.testing.assert_allclose(labels.scores, [[0.5, 0], [0.75, 0.25], [0, 0], [0, 0]])
    report = transfer.report()
    assert adds_up(report)
    assert report.matched == 3
    expected = {"repeated": 1, "no-key": 1, "no-label": 1, "no-score": 1, "annotation-unknown": 1, "not-seen": 1}
    assert report.unmatched == expected


def test_vocabulary_of_a_table():
    """With a vocabulary, its names alone count, in its order."""
    transfer = AnnotationTransfer(pa.table(ROWS), vocabulary=Vocabulary(("dog", "horse")))
    (labels,) = transfer.label([image_masks(blob_masks(0, 2))])
    assert best(labels) == [0, 0]
    assert transfer.report().unmatched["not-in-vocabulary"] == 4


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tsv", "jsonl"])
def test_tables_from_files(tmp_path, suffix):
    """Each kind of file gives the rows that were written."""
    table = pa.table({"image": ["sa_1.jpg", "sa_2.jpg"], "caption": ["a, b", "c\u00e9"]})
    path = tmp_path / f"captions.{suffix}"
    if suffix == "parquet":
        pyarrow.parquet.write_table(table, path)
    elif suffix == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in table.to_pylist()), encoding="utf-8")
    else:
        delimiter = "\t" if suffix == "tsv" else ","
        pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(delimiter=delimiter))
    assert read_table(path, columns=["caption", "image"]).to_pylist() == [
        {"caption": row["caption"], "image": row["image"]} for row in table.to_pylist()
    ]
    assert read_table([path, path]).num_rows == 4


@pytest.mark.parametrize(
    ("source", "found"), [("missing.parquet", "missing.parquet"), ("labels.txt", "labels.txt"), ([], "none")]
)
def test_tables_that_cannot_be_read(source, found):
    """A file that is missing or of another kind is an error that names it."""
    with pytest.raises(ConfigError, match=found):
        read_table(source)


def sacap_table():
    """Rows like those of SACap-1M."""
    segments = [[{"anno_id": 100, "caption": "a red box"}, {"anno_id": 102, "caption": "a disc"}], []]
    return pa.table({"imagename": ["sa_1.jpg", "sa_2.jpg"], "caption": ["boxes", "nothing"], "segments_info": segments})


def test_captions_of_masks_and_images():
    """Captions come to their images by name and to their masks by id, as columns that the features describe."""
    rows = [make_row(image_id, blob_masks(image_id, 3)) for image_id in (1, 2, 3)]
    dataset = Dataset(make_table(rows))
    by_image = JoinColumn(sacap_table(), value="caption", key="imagename")
    exploded = read_table(sacap_table(), explode="segments_info")
    assert exploded.column_names == ["imagename", "caption", "anno_id", "segments_info.caption"]
    by_mask = JoinColumn(
        exploded, value="segments_info.caption", key="anno_id", on="annotation", column="mask_captions"
    )
    captioned = apply_transform(apply_transform(dataset, by_image), by_mask)
    assert captioned["caption"][:] == ["boxes", "nothing", None]
    assert captioned["mask_captions"][:] == [["a red box", None, "a disc"], [None] * 3, [None] * 3]
    assert captioned.features["caption"] == dataset.features["file_name"]
    assert by_image.report().unlabeled == {"not-in-source": 1}
    assert (by_mask.report().matched, by_mask.report().targets) == (2, 9)
    streamed = apply_transform(dataset.to_iterable_dataset(), by_image)
    assert [row["caption"] for row in streamed] == ["boxes", "nothing", None]
    assert streamed.features["caption"] == captioned.features["caption"]


def test_first_of_repeated_captions():
    """Of several captions of one image the first one counts, nulls aside, and the others are counted."""
    table = pa.table({"image": [None, 1, 1, 1, 5], "caption": ["x", None, "first", "second", "y"]})
    join = JoinColumn(table, value="caption", key="image", column="text")
    assert join(pa.table({"image_id": [1, 2]})).column("text").to_pylist() == ["first", None]
    report = join.report()
    assert adds_up(report)
    assert report.unmatched == {"no-key": 1, "no-value": 1, "repeated": 1, "not-seen": 1}


def test_fingerprints_tell_sources_apart(tmp_path):
    """Another table, column or option is another fingerprint; a copy of the table is the same."""
    table = pa.table({"image": [1, 2], "caption": ["a", "b"]})
    options = {"value": "caption", "key": "image"}
    same = JoinColumn(pa.concat_tables([table.slice(0, 1), table.slice(1)]), **options).fingerprint
    assert JoinColumn(table, **options).fingerprint == same
    other = pa.table({"image": [1, 2], "caption": ["a", "c"]})
    assert JoinColumn(other, **options).fingerprint != same
    assert JoinColumn(table, **options, column="x").fingerprint != same
    path = coco_file(tmp_path, [])
    first = MaskTransfer(path, match="many_to_one").provenance.fingerprint
    assert MaskTransfer(path, match="part_of").provenance.fingerprint != first
    assert MaskTransfer(copy.copy(path), match="many_to_one").provenance.fingerprint == first


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: JoinColumn(pa.table({"a": [1]}), value="b", key="a"), r"\['b'\]"),
        (lambda: JoinColumn(pa.table({"a": [0.5], "b": [1]}), value="b", key="a"), "double"),
        (lambda: JoinColumn(pa.table({"a": ["x"], "b": [1]}), value="b", key="a", on="annotation"), "string"),
        (lambda: JoinColumn(pa.table({"a": [1], "b": [1]}), value="b", key="a", on="mask"), "mask"),
        (lambda: AnnotationTransfer(pa.table({"annotation_id": [1], "label": [1]})), "int64"),
        (lambda: AnnotationTransfer(pa.table({"annotation_id": [1], "label": pa.nulls(1, pa.string())})), "none"),
        (lambda: read_table(pa.table({"a": [1]}), explode="a"), "lists of structs"),
        (lambda: apply_transform([1], None), "list"),
    ],
)
def test_wrong_tables(make, found):
    """A column that is missing or of another type is an error that says which, or of what type."""
    with pytest.raises(ConfigError, match=found):
        make()


@pytest.mark.parametrize("as_stream", [False, True])
def test_as_a_labeler_of_datasets(tmp_path, as_stream):
    """Through `label_masks` the labels become the column, for datasets and streams, and the report counts them."""
    from sa1b_hf.labels.base import label_masks

    masks = [box_mask(0, 0, 10, 10), box_mask(20, 20, 10, 10)]
    path = coco_file(tmp_path, [{"category_id": 7, "segmentation": masks[1]}])
    transfer = MaskTransfer(path, match="many_to_one")
    dataset = Dataset(make_table([make_row(1, masks), make_row(2, masks)]))
    labelled = label_masks(dataset.to_iterable_dataset() if as_stream else dataset, transfer)
    found = [[one["label_ids"] for one in row["labels"]] for row in labelled]
    assert found == [[[-1], [1]], [[-1], [-1]]]
    report = transfer.report()
    assert (report.matched, report.labeled) == (1, 1)
    assert report.unlabeled == {"no-match": 1, "not-in-source": 2}


def test_in_converting(tmp_path):
    """Labels by annotation id and captions by image come into the Parquet of a converted shard."""
    from sa1b_hf.convert import ConvertOptions, process_shard
    from sa1b_hf.labels.base import LabelTransform
    from sa1b_hf.testing import make_shard

    shard = tmp_path / "sa_000000.tar"
    manifest = make_shard(shard, first_id=1, num_images=3)
    captions = pa.table({"image": [f"sa_{manifest.image_ids[1]}.jpg"], "caption": ["a street"]})
    plain = tmp_path / "plain"
    process_shard(shard, plain, ConvertOptions())
    ids = [
        one["id"]
        for path in sorted(plain.rglob("*.parquet"))
        for row in pyarrow.parquet.read_table(path).column("annotations").to_pylist()
        for one in row
    ]
    labels = AnnotationTransfer(pa.table({"annotation_id": ids[:2], "label": ["dog", "cat"]}))
    transforms = (JoinColumn(captions, value="caption", key="image"), LabelTransform(labels))
    process_shard(shard, tmp_path / "out", ConvertOptions(transforms=transforms))
    table = pa.concat_tables(map(pyarrow.parquet.read_table, sorted((tmp_path / "out").rglob("*.parquet"))))
    given = {one["annotation_id"]: one["label_ids"] for row in table.column("labels").to_pylist() for one in row}
    assert sorted(given) == sorted(ids)
    assert (given[ids[0]], given[ids[1]], given[ids[2]]) == ([1], [0], [-1])
    assert sorted(filter(None, table.column("caption").to_pylist())) == ["a street"]


JUNK = [None, True, -1, 0.5, float("nan"), 10**30, "", "sa_1.jpg", [], [[]], [[0, 0, 1, 0, 1, 1]], {}, {"size": [1]}]


def _places(value, at=()):
    """Every place in a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*at, key)
        yield from _places(child, (*at, key))


def test_junk_anywhere_in_a_file(tmp_path):
    """Whatever stands anywhere in a file, reading and matching give labels or an error of the package."""
    mask = box_mask(0, 0, 10, 10)
    entry = {"id": 1, "image_id": 9, "category_id": 7, "segmentation": mask, "iscrowd": 0}
    polygons = {**entry, "segmentation": [[0, 0, 9, 0, 9, 9]]}
    image = {"id": 9, "file_name": "sa_1.jpg", "width": WIDTH, "height": HEIGHT}
    good = {"images": [image, {**image, "id": 8}], "annotations": [entry, polygons], "categories": CATEGORIES}
    pairs = {**good, "images": [{**image, "text_input": "a"}, {**image, "id": 8, "text_input": "b"}]}
    path, outcomes = tmp_path / "junk.json", set()
    for document in (good, pairs):
        for place in _places(document):
            for junk in JUNK:
                broken = copy.deepcopy(document)
                owner = broken
                for key in place[:-1]:
                    owner = owner[key]
                owner[place[-1]] = junk
                path.write_text(json.dumps(broken))
                try:
                    transfer = MaskTransfer(path, match="many_to_one")
                    transfer.label([image_masks([mask])])
                    assert adds_up(transfer.report())
                    outcomes.add("labels")
                except ConfigError:
                    outcomes.add("refused")
    assert outcomes == {"labels", "refused"}


def test_deeply_nested_file(tmp_path):
    """A file nested deeper than Python can follow is refused, not a crash."""
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ConfigError, match=r"deep\.json"):
        MaskTransfer(path)
