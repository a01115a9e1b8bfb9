"""Filters against a plain Python reference, on batches of every shape that Arrow has."""

import pickle
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa1b_hf.errors import ConfigError
from sa1b_hf.features import ANNOTATION_TYPE
from sa1b_hf.filters import AnnotationFilter, ImageFilter, read_ids

LIST = pa.list_(ANNOTATION_TYPE)
MASK64 = 2**64 - 1


def annotation(number, *, area=10, iou=0.9, stability=0.96):
    """One annotation with recognisable content."""
    return {
        "id": number,
        "segmentation": {"size": [4, 5], "counts": f"counts of {number}"},
        "bbox": [1.0, 2.0, 3.0, 4.0],
        "area": area,
        "predicted_iou": iou,
        "stability_score": stability,
        "point_coords": [[1.5, float(number or 0)]],
        "crop_box": [0.0, 0.0, 5.0, 4.0],
    }


def apply(options, rows, *, width=None, height=None, image_id=None, kind=LIST):
    """Filter lists of dicts, as the builder would filter a batch."""
    size = len(rows)
    annotations = rows if isinstance(rows, pa.Array) else pa.array(rows, kind)
    return AnnotationFilter(**options).apply(
        annotations,
        width=pa.array(width or [10] * size, pa.int32()),
        height=pa.array(height or [20] * size, pa.int32()),
        image_id=pa.array(image_id or list(range(size)), pa.int64()),
    )


def ids(lists):
    """Annotation ids per image."""
    return [row and [entry["id"] for entry in row] for row in lists.to_pylist()]


def splitmix(number):
    """SplitMix64's next output from this state, after the paper."""
    number = (number + 0x9E3779B97F4A7C15) & MASK64
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK64
    return number ^ (number >> 31)


def hashed(seed, number):
    return splitmix(splitmix(seed & MASK64) ^ (number & MASK64))


def at_least(value, limit):
    return value is not None and value >= limit


def reason_to_reject(options, entry, pixels):
    """The first limit that an annotation does not meet."""
    low, high = options.get("min_area"), options.get("max_area")
    low, high = (limit * pixels if isinstance(limit, float) else limit for limit in (low, high))
    if "min_predicted_iou" in options and not at_least(entry["predicted_iou"], options["min_predicted_iou"]):
        return "min_predicted_iou"
    if "min_stability_score" in options and not at_least(entry["stability_score"], options["min_stability_score"]):
        return "min_stability_score"
    if low is not None and not at_least(entry["area"], low):
        return "min_area"
    if high is not None and (entry["area"] is None or entry["area"] > high):
        return "max_area"
    return None


def preference(options, entry, image_id):
    """A sort key, smaller is better."""
    select = options.get("select", "predicted_iou")
    if select == "first":
        return 0
    if select == "random":
        return hashed(hashed(options.get("seed", 0), image_id), entry["id"])
    value = entry[select]
    return float("inf") if value is None or value != value else -value


def reference(options, rows, width, height, image_id):
    """What the filter must give, one mask at a time."""
    counts = Counter()
    kept = []
    for row, w, h, image in zip(rows, width, height, image_id, strict=True):
        survivors = []
        for entry in row or ():
            reason = reason_to_reject(options, entry, w * h)
            counts.update([reason] if reason else [])
            survivors += [] if reason else [entry]
        limit = options.get("max_masks", len(survivors))
        best = sorted(range(len(survivors)), key=lambda index: preference(options, survivors[index], image))[:limit]
        counts.update({"max_masks": len(survivors) - len(best)})
        kept.append(None if row is None else [survivors[index] for index in sorted(best)])
    return kept, +counts


scores = st.sampled_from([0.5, 0.88, 0.9, 0.95, 1.02, float("nan"), None])
entries = st.builds(
    annotation,
    st.integers(0, 2**40),
    area=st.sampled_from([1, 10, 20, 100, 199, 200, 2**40, None]),
    iou=scores,
    stability=scores,
)
options_strategy = st.fixed_dictionaries(
    {},
    optional={
        "min_predicted_iou": st.sampled_from([0.88, 0.9, -1.0]),
        "min_stability_score": st.sampled_from([0.95, 0.9]),
        "min_area": st.sampled_from([0.05, 0.1, 1, 10]),
        "max_area": st.sampled_from([0.1, 0.5, 1.0, 20, 10_000]),
        "max_masks": st.integers(1, 5),
        "select": st.sampled_from(["predicted_iou", "stability_score", "area", "random", "first"]),
        "seed": st.integers(-(2**70), 2**70),
    },
)


@settings(max_examples=200, deadline=None)
@given(
    options=options_strategy,
    rows=st.lists(st.none() | st.lists(entries, max_size=8), max_size=6),
    large=st.booleans(),
    data=st.data(),
)
def test_filter_agrees_with_the_reference(options, rows, large, data):
    """Masks, order, type and counts are the reference's, for whole and sliced batches with nulls in any place."""
    kind = pa.large_list(ANNOTATION_TYPE) if large else LIST
    start = data.draw(st.integers(0, len(rows)), label="start")
    size = data.draw(st.integers(0, len(rows) - start), label="size")
    width = data.draw(st.lists(st.integers(1, 20), min_size=size, max_size=size), label="width")
    height = data.draw(st.lists(st.integers(1, 20), min_size=size, max_size=size), label="height")
    image_id = data.draw(st.lists(st.integers(0, 2**40), min_size=size, max_size=size), label="image_id")

    sliced = pa.array(rows, kind).slice(start, size)
    found, counts = apply(options, sliced, width=width, height=height, image_id=image_id)
    found.validate(full=True)
    expected, expected_counts = reference(options, rows[start : start + size], width, height, image_id)
    assert repr(found.to_pylist()) == repr(expected)  # by text, since NaN is not equal to itself
    assert counts == dict(expected_counts)
    assert found.type.equals(kind)
    assert (found is sliced) == (not counts)


@pytest.mark.parametrize("select", ["predicted_iou", "stability_score", "area", "random", "first"])
@pytest.mark.parametrize("limit", [1, 3, 6])
def test_crowded_batches_agree_with_the_reference(select, limit):
    """Many images with just under, just at and well over the limit, and with ties, lose the masks they should."""
    draw = np.random.default_rng(limit)
    rows = [
        [
            annotation(
                int(draw.integers(2**40)), area=int(draw.integers(1, 9)), iou=float(draw.choice([0.88, 0.9, np.nan]))
            )
            for _ in range(draw.integers(0, 10))
        ]
        for _ in range(60)
    ]
    options = {"max_masks": limit, "select": select, "min_area": 2}
    size, image_id = [10] * 60, list(range(60))
    found, counts = apply(options, rows, width=size, height=size, image_id=image_id)
    expected, expected_counts = reference(options, rows, size, size, image_id)
    assert repr(found.to_pylist()) == repr(expected)
    assert counts == dict(expected_counts)


def test_null_lists_over_hidden_values():
    """A null list may cover values, which neither show up nor count."""
    values = pa.array([annotation(number, area=number) for number in (1, 2, 30, 40)], ANNOTATION_TYPE)
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 3, 4], pa.int32()), values, mask=pa.array([True, False, False]))
    found, counts = apply({"min_area": 35}, lists)
    assert ids(found) == [None, [], [40]]
    assert counts == {"min_area": 1}


@pytest.mark.parametrize("item", ["item", "element", "annotation"])
@pytest.mark.parametrize("nullable", [True, False])
def test_type_stays_exactly_the_same(item, nullable):
    """The name and nullability of the list's item survive, or `datasets` would cast every table again."""
    kind = pa.list_(pa.field(item, ANNOTATION_TYPE, nullable=nullable))
    found, _ = apply({"max_masks": 1}, [[annotation(1), annotation(2)], []], kind=kind)
    assert found.type.equals(kind)
    assert found.type.value_field.name == item
    assert ids(found) == [[1], []]


def test_first_failing_limit_is_the_reason():
    """A mask that fails several limits is counted once, for the first of them."""
    rows = [
        [annotation(1, iou=0.1, stability=0.1, area=1), annotation(2, stability=0.1, area=1), annotation(3, area=1)]
    ]
    found, counts = apply({"min_predicted_iou": 0.88, "min_stability_score": 0.95, "min_area": 5}, rows)
    assert counts == {"min_predicted_iou": 1, "min_stability_score": 1, "min_area": 1}
    assert ids(found) == [[]]


@pytest.mark.parametrize(
    ("select", "expected"),
    [("predicted_iou", [2, 4]), ("stability_score", [1, 2]), ("area", [3, 4]), ("first", [1, 2])],
)
def test_max_masks_selects_by_column_in_original_order(select, expected):
    """The best two by each column are kept where they stood, ties going to the earlier."""
    rows = [
        [
            annotation(1, area=5, iou=0.88),
            annotation(2, area=5, iou=0.99),
            annotation(3, area=9, iou=float("nan")),
            annotation(4, area=7, iou=0.9),
        ]
    ]
    found, counts = apply({"max_masks": 2, "select": select}, rows)
    assert ids(found) == [expected]
    assert counts == {"max_masks": 2}


def test_random_selection_is_repeatable_and_fair():
    """The same masks whatever else is in the batch or the order of the images; others with another seed; all alike."""
    rows = [[annotation(100 * image + number) for number in range(20)] for image in range(50)]
    options = {"max_masks": 5, "select": "random", "seed": 3}
    whole = ids(apply(options, rows)[0])
    alone = [ids(apply(options, [row], image_id=[image])[0])[0] for image, row in enumerate(rows)]
    assert whole == alone
    assert all(row == sorted(row) and len(row) == 5 for row in whole)
    assert whole != ids(apply({**options, "seed": 4}, rows)[0])
    drawn = Counter(number % 100 for row in whole for number in row)
    assert set(drawn) == set(range(20))
    assert max(drawn.values()) < 30


def test_areas_are_fractions_or_pixels():
    """1 is a pixel and 1.0 the whole image."""
    rows = [[annotation(1, area=1), annotation(2, area=199), annotation(3, area=200), annotation(4, area=201)]]
    assert ids(apply({"min_area": 1.0}, rows)[0]) == [[3, 4]]
    assert ids(apply({"min_area": 1}, rows)[0]) == [[1, 2, 3, 4]]
    assert ids(apply({"max_area": 1}, rows)[0]) == [[1]]
    assert ids(apply({"max_area": np.float32(0.995)}, rows)[0]) == [[1, 2]]
    assert ids(apply({"max_area": np.int64(199)}, rows)[0]) == [[1, 2]]


def test_unknown_size_passes_no_fraction():
    """Of an image without size nothing is known to be large or small enough."""
    for option in ("min_area", "max_area"):
        found, counts = apply({option: 0.5}, [[annotation(1)]], width=[None])
        assert ids(found) == [[]]
        assert counts == {option: 1}


def test_missing_field_is_a_clear_error():
    """A filter on a field that the annotations lack says so."""
    with pytest.raises(ConfigError, match="annotations need the field 'area'"):
        apply({"min_area": 5}, pa.array([[{"id": 1}]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_predicted_iou": "0.9"}, "min_predicted_iou: expected a finite number or None, found '0.9'"),
        ({"min_stability_score": float("nan")}, "min_stability_score: expected a finite number"),
        ({"min_predicted_iou": True}, "found True"),
        ({"min_area": 0}, r"min_area: expected an int of 1 or more \(pixels\) or a float"),
        ({"min_area": 0.0}, "found 0.0"),
        ({"max_area": 100.0}, r"max_area: .* up to 1\.0 \(fraction of the image\) or None, found 100\.0"),
        ({"max_area": -0.5}, "found -0.5"),
        ({"max_area": float("inf")}, "found inf"),
        ({"max_area": 2**63}, "found 9223372036854775808"),
        ({"min_area": 10, "max_area": 5}, "min_area=10 and max_area=5 exclude each other"),
        ({"min_area": 0.5, "max_area": 0.25}, "exclude each other"),
        ({"max_masks": 0}, "max_masks: expected an int of 1 or more or None, found 0"),
        ({"max_masks": 5.0}, "max_masks: .* found 5.0"),
        ({"select": "best"}, "select: expected one of .*'random'.* found 'best'"),
        ({"select": None}, "select: expected one of"),
        ({"seed": 1.5}, "seed: expected an int, found 1.5"),
        ({"seed": None}, "seed: expected an int"),
    ],
)
def test_nonsense_annotation_filters_are_refused(options, message):
    """Each option out of range is named with what was expected and found."""
    with pytest.raises(ConfigError, match=message):
        AnnotationFilter(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_width": 0}, "min_width: expected an int of 1 or more or None, found 0"),
        ({"min_short_side": 0.5}, "min_short_side: .* found 0.5"),
        ({"min_height": 5, "max_height": 4}, "min_height=5 and max_height=4 exclude each other"),
        ({"sample_fraction": 0}, "sample_fraction: expected a fraction over 0 and up to 1"),
        ({"sample_fraction": 1.5}, "found 1.5"),
        ({"sample_fraction": True}, "found True"),
        ({"seed": "a"}, "seed: expected an int"),
        ({"ids": []}, "ids: expected at least one image id"),
        ({"ids": 5}, "ids: expected ids or the path of a file, found 5"),
    ],
)
def test_nonsense_image_filters_are_refused(options, message):
    """Each option out of range is named with what was expected and found."""
    with pytest.raises(ConfigError, match=message):
        ImageFilter(**options)


def test_filters_that_filter_nothing_touch_nothing():
    """Without limits the very same object comes back, even if the batch has no columns to look at."""
    annotations = pa.array([[{"id": 1}]])
    for options in ({}, {"select": "random", "seed": 5}):
        assert AnnotationFilter(**options).keeps_all
        found, counts = apply(options, annotations)
        assert found is annotations
        assert counts == {}
    assert ImageFilter(seed=3).keeps_all
    assert ImageFilter(seed=3).apply({}) == (None, {})
    assert ImageFilter().accepts_id(5) is None
    assert not ImageFilter(drop_empty=True).keeps_all
    assert not ImageFilter(ids=[1]).keeps_all
    assert not AnnotationFilter(max_masks=1).keeps_all


BATCH = {
    "width": pa.array([10, 20, 30, None, 40], pa.int32()),
    "height": pa.array([50, 5, 30, 30, 40], pa.int32()),
    "annotations": pa.array([[annotation(1)], [annotation(2)], [], None, [annotation(3)]], LIST),
}


@pytest.mark.parametrize(
    ("options", "kept", "counts"),
    [
        ({"min_width": 20}, [1, 2, 4], {"min_width": 2}),
        ({"max_width": 20}, [0, 1], {"max_width": 3}),
        ({"min_height": 30}, [0, 2, 3, 4], {"min_height": 1}),
        ({"max_height": 30}, [1, 2, 3], {"max_height": 2}),
        ({"min_short_side": 10}, [0, 2, 4], {"min_short_side": 2}),
        ({"drop_empty": True}, [0, 1, 4], {"no_masks": 2}),
        (
            {"min_width": 20, "min_height": 10, "drop_empty": True},
            [4],
            {"min_width": 2, "min_height": 1, "no_masks": 1},
        ),
        ({"min_height": 5}, None, {}),
        ({"ids": [77], "sample_fraction": 0.001}, None, {}),
    ],
)
@pytest.mark.parametrize("make", [dict, pa.RecordBatch.from_pydict])
def test_images_are_filtered_by_size_and_masks(options, kept, counts, make):
    """The mask and the reasons are right for a dict of columns and a RecordBatch; an unknown size passes no limit."""
    mask, found = ImageFilter(**options).apply(make(BATCH))
    assert (None if mask is None else np.flatnonzero(mask).tolist()) == kept
    assert found == counts
    assert mask is None or (mask.dtype == np.bool_ and mask.shape == (5,))


@pytest.mark.parametrize("make", [dict, pa.RecordBatch.from_pydict])
def test_missing_column_is_a_clear_error(make):
    """An image filter on a column that was left out says so."""
    with pytest.raises(ConfigError, match="the column 'height' is needed and missing"):
        ImageFilter(min_height=5).apply(make({"width": BATCH["width"]}))


@given(
    wanted=st.none() | st.frozensets(st.integers(0, 40), min_size=1),
    fraction=st.none() | st.floats(0, 1, exclude_min=True),
    seed=st.integers(-5, 5),
    image_ids=st.lists(st.integers(0, 40) | st.integers(0, 2**63 - 1), max_size=30),
)
def test_ids_one_by_one_and_together(wanted, fraction, seed, image_ids):
    """`keep_ids` keeps what `accepts_id` accepts, which is what the definition of the hash says."""
    options = ImageFilter(ids=wanted, sample_fraction=fraction, seed=seed)
    reasons = [options.accepts_id(image_id) for image_id in image_ids]
    assert options.keep_ids(np.array(image_ids, np.int64)).tolist() == [reason is None for reason in reasons]
    for image_id, reason in zip(image_ids, reasons, strict=True):
        if wanted is not None and image_id not in wanted:
            assert reason == "ids"
        elif fraction is not None and hashed(seed, image_id) >= fraction * 2**64:
            assert reason == "sample_fraction"
        else:
            assert reason is None


def test_smaller_samples_are_inside_larger_ones_of_about_the_right_size():
    """1 % is in 10 % is in everything; sizes are as asked for, and another seed takes others."""
    image_ids = np.arange(100_000)
    one, ten, everything = (ImageFilter(sample_fraction=part).keep_ids(image_ids) for part in (0.01, 0.1, 1.0))
    assert np.all(one <= ten)
    assert everything.all()
    assert 900 < one.sum() < 1100
    assert 9700 < ten.sum() < 10_300
    other = ImageFilter(sample_fraction=0.1, seed=1).keep_ids(image_ids)
    assert 800 < (ten & other).sum() < 1200


def test_equal_filters_pickle_alike():
    """The bytes depend neither on the order of the ids nor on what was asked before, since caches are keyed by them."""
    big = 2**40
    one, other = ImageFilter(ids=[8, 0, big]), ImageFilter(ids=[big, 0, 8, 8])
    one.keep_ids(np.array([1]))
    assert pickle.dumps(one) == pickle.dumps(other)
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(one) == hash(other)
    options = AnnotationFilter(max_masks=3, select="random")
    assert pickle.loads(pickle.dumps(options)) == options


NAMES = ["560", "sa_561.jpg", "sa_000000/sa_562", "./sa_000012/sa_563.JSON", r"C:\sa\sa_564.jpeg"]
PARSED = frozenset(range(560, 565))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ([3, 1, 3], {1, 3}),
        ((number for number in [1, 2]), {1, 2}),
        (np.array([5, 4], np.uint32), {4, 5}),
        (frozenset([9]), {9}),
        (pa.array([7, 8]).to_numpy(), {7, 8}),
        (NAMES, PARSED),
        ([0, 2**63 - 1], {0, 2**63 - 1}),
    ],
)
def test_ids_from_iterables(source, expected):
    """Numbers and names of any iterable give plain integers."""
    found = read_ids(source)
    assert found == expected
    assert all(type(number) is int for number in found)


def test_ids_from_files(tmp_path):
    """Text, CSV and Parquet give the same ids, numbers or names; a filter takes the path as it is."""
    (tmp_path / "ids.txt").write_text("\ufeff# chosen by hand\n\n" + "\r\n".join(NAMES) + "  # last", encoding="utf-8")
    pyarrow.csv.write_csv(pa.table({"score": [1.0] * 5, "image_id": sorted(PARSED)}), tmp_path / "numbers.csv")
    pyarrow.csv.write_csv(pa.table({"image_id": NAMES}), tmp_path / "names.CSV")
    pyarrow.parquet.write_table(pa.table({"image_id": sorted(PARSED), "x": NAMES}), tmp_path / "numbers.parquet")
    pyarrow.parquet.write_table(pa.table({"image_id": NAMES}), tmp_path / "names.parquet")
    for name in ("ids.txt", "numbers.csv", "names.CSV", "numbers.parquet", "names.parquet"):
        assert read_ids(tmp_path / name) == read_ids(str(tmp_path / name)) == PARSED, name
    assert ImageFilter(ids=tmp_path / "ids.txt").ids == PARSED


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([1, -1], "ids, entry 2: expected an id such as 560 or 'sa_560.jpg', found -1"),
        ([1.0], r"found 1\.0"),
        ([True], "found True"),
        ([None], "found None"),
        ([2**63], "entry 1"),
        (["sa_x.jpg"], "found 'sa_x.jpg'"),
        (["9" * 19], "entry 1"),
        (["x" * 10_000], r"found 'x{79}$"),
        (np.array([0.5]), "entry 1"),
        (np.array([True]), "entry 1"),
        (np.array([[1, 2]]), "entry 1"),
        (b"560", "expected ids or the path of a file"),
        ([], "expected at least one image id"),
    ],
)
def test_what_is_no_id_is_refused(source, message):
    """The entry that is no id is named, and quoted in part."""
    with pytest.raises(ConfigError, match=message):
        read_ids(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ids.txt", b"1\n2\nthree\n", r"ids\.txt, line 3: expected an id .* found 'three'"),
        ("ids.txt", b"# nothing\n", "expected at least one image id, found none"),
        ("ids.txt", b"1\n\xff\xfe", "expected UTF-8 text"),
        ("ids.csv", b"id\n1\n", "expected a column 'image_id'"),
        ("ids.csv", b"", "expected a column 'image_id'"),
        ("ids.csv", b"image_id\n1\n1.5\n", r"row 1: .* found 1\.0"),
        ("ids.parquet", b"PAR1", "expected a column 'image_id'"),
        ("none/ids.txt", None, "found: No such file"),
        ("ids.csv", None, "found: No such file"),
        ("ids.parquet", None, "found: No such file"),
    ],
)
def test_unusable_id_files_are_refused(tmp_path, name, content, message):
    """Each defect of a file is told with its path and line."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_ids(path)


def test_huge_id_file_is_refused_unread(tmp_path):
    """A file that cannot be a list of ids is not read into memory."""
    with (tmp_path / "ids.txt").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match="at most"):
        read_ids(tmp_path / "ids.txt")
