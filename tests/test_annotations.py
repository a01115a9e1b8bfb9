"""JSON documents to Arrow: both engines, every reason, and the same answer from each."""

import importlib.util
import json
import math
import pathlib
import pickle
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

import sa1b_hf.annotations as module
from sa1b_hf._document import read_document
from sa1b_hf._json_tree import MAX_ANNOTATIONS, MAX_DOCUMENT_BYTES, is_oversized
from sa1b_hf.annotations import ParsedDocuments, parse_documents
from sa1b_hf.errors import AnnotationError, ConfigError
from sa1b_hf.features import ANNOTATION_TYPE, DOCUMENT_SCHEMA, row_to_document

HAS_C = importlib.util.find_spec("sa1b_hf._json") is not None
ENGINES = [pytest.param("c", marks=pytest.mark.skipif(not HAS_C, reason="extension not built")), "pyarrow"]
REAL = sorted((pathlib.Path(__file__).parents[1] / "../shared/data/real/annotations").glob("*.json"))
SCHEMA = pa.schema([*DOCUMENT_SCHEMA.field("image").type, ("annotations", pa.list_(ANNOTATION_TYPE))])


def make_document(image_id: int = 7, annotations: int = 3, size: tuple[int, int] = (24, 31), seed: int = 0) -> dict:
    """Make a document in Meta's layout, its masks encoded by pycocotools."""
    rng = np.random.default_rng([seed, image_id])
    height, width = size
    found = []
    for index in range(annotations):
        mask = (rng.random(size) < rng.random()).astype(np.uint8, order="F")
        rle = coco.encode(mask)
        x, y, w, h = coco.toBbox(rle).tolist()
        found.append(
            {
                "bbox": [x, y, w - 1, h - 1],
                "area": int(mask.sum()),
                "segmentation": {"size": [height, width], "counts": rle["counts"].decode()},
                "predicted_iou": float(np.float32(rng.uniform(0.88, 1))),
                "point_coords": rng.uniform(0, 24, (1, 2)).tolist(),
                "crop_box": [0, 0, width, float(height)],
                "id": 1_100_000_000 + index,
                "stability_score": float(rng.uniform(0.95, 1)),
            }
        )
    image = {"image_id": image_id, "width": width, "height": height, "file_name": f"sa_{image_id}.jpg"}
    return {"image": image, "annotations": found}


def dump(document: object, **options: object) -> bytes:
    return json.dumps(document, **options).encode()


def changed(path: str, value: object) -> bytes:
    """Make a document with one value replaced, or removed when the value is ``...``."""
    document = make_document()
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    target = document
    for key in parents:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return dump(document)


GOOD = dump(make_document())


def one(document: bytes, engine: str, **options: object) -> dict:
    """Parse one good document and give its row."""
    parsed = parse_documents([document], engine=engine, **options)
    assert not parsed.bad, parsed.bad[0].error
    parsed.table.validate(full=True)
    return parsed.table.to_pylist()[0]


def reason(document: bytes, engine: str, **options: object) -> str:
    parsed = parse_documents([document], engine=engine, **options)
    assert parsed.table.num_rows == 0
    return parsed.bad[0].error.reason


def same(left: ParsedDocuments, right: ParsedDocuments) -> bool:
    """Compare bit by bit, -0.0 and 0.0 apart."""

    def faults(parsed: ParsedDocuments) -> list:
        return [(bad.index, bad.error.reason, str(bad.error), bad.error.where) for bad in parsed.bad]

    tables = left.table.equals(right.table) and repr(left.table.to_pylist()) == repr(right.table.to_pylist())
    return tables and left.rows.tolist() == right.rows.tolist() and faults(left) == faults(right)


# ── what is accepted ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("engine", ENGINES)
def test_round_trip(engine):
    """Documents come back equal, value for value, in a table of exactly the schema."""
    documents = [make_document(image_id, annotations=image_id % 5, seed=1) for image_id in range(40)]
    parsed = parse_documents([dump(d) for d in documents], image_ids=range(40), engine=engine)
    assert parsed.table.schema.equals(SCHEMA, check_metadata=True)
    parsed.table.validate(full=True)
    assert parsed.rows.tolist() == list(range(40))
    assert parsed.rows.dtype == np.int64
    assert [row_to_document(row) for row in parsed.table.to_pylist()] == documents


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.skipif(not REAL, reason="no real annotations here")
def test_round_trip_of_real_annotations(engine):
    """Meta's own documents come back equal."""
    texts = [path.read_bytes() for path in REAL]
    parsed = parse_documents(texts, engine=engine)
    assert not parsed.bad
    assert [row_to_document(row) for row in parsed.table.to_pylist()] == [json.loads(text) for text in texts]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "options",
    [{"indent": 1}, {"separators": (",", ":")}, {"sort_keys": True}, {"indent": "\t", "separators": (" ,", "\r\n: ")}],
)
def test_layout(engine, options):
    """Whitespace and the order of keys make no difference."""
    document = make_document()
    text = b" \r\n\t" + dump(document, **options) + b"\n\n"
    assert row_to_document(one(text, engine)) == document
    assert len(parse_documents([text] * 3, engine=engine).rows) == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_any_key_order(engine):
    """Every key may come first or last, the image after its annotations too."""
    shuffle = random.Random(5).shuffle

    def shuffled(value):
        if isinstance(value, dict):
            items = [(key, shuffled(item)) for key, item in value.items()]
            shuffle(items)
            return dict(items)
        return (
            [shuffled(item) for item in value]
            if isinstance(value, list) and value and isinstance(value[0], dict)
            else value
        )

    for _ in range(40):
        assert row_to_document(one(dump(shuffled(make_document())), engine)) == make_document()


def nested(depth: int) -> object:
    return [] if depth == 1 else [nested(depth - 1)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "extra",
    [
        "bus",
        'a "quoted" \\ \n é 😀',
        None,
        True,
        False,
        -1.5e3,
        {},
        [],
        [1, [2, {"id": [3]}]],
        {"image": {"annotations": 1}},
        nested(61),
    ],
    ids=repr,
)
def test_unknown_keys(engine, extra):
    """Unknown keys of other tools are skipped at every level, whatever they hold."""
    document = make_document()
    for target in (document, document["image"], document["annotations"][1], document["annotations"][0]["segmentation"]):
        if extra == nested(61) and target is document["annotations"][0]["segmentation"]:
            continue
        target |= {"class_name": extra, "": extra, **target, "é": extra}
    assert row_to_document(one(dump(document), engine)) == make_document()
    assert row_to_document(one(dump(document, ensure_ascii=False), engine)) == make_document()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "spelled", [r"sa_\u0037\u00e9\u20ac\ud83d\ude00\"\\\/\b\f\n\r\t.jpg", "sa_7é€😀 \x7f.jpg", "", "\\u0000a"]
)
def test_string_escapes(engine, spelled):
    """Escapes of every kind, and raw characters of every length, are the characters they stand for."""
    text = dump(make_document()).replace(b"sa_7.jpg", spelled.encode())
    assert one(text, engine)["file_name"] == json.loads(f'"{spelled}"')


@pytest.mark.parametrize("engine", ENGINES)
def test_escaped_counts_and_keys(engine):
    """Run lengths and keys may be spelled in escapes throughout."""

    def spell(match: str) -> str:
        return "".join(f"\\u{ord(c):04X}" for c in match)

    document = make_document()
    text = dump(document).decode()
    for counts in {a["segmentation"]["counts"] for a in document["annotations"]}:
        text = text.replace(json.dumps(counts), f'"{spell(counts)}"')
    for key in ("image", "counts", "bbox", "id"):
        text = text.replace(f'"{key}"', f'"{spell(key)}"')
    assert row_to_document(one(text.encode(), engine)) == document


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "counts", ["\\1", "0\\0", "\\\\\\O", "0" * 7 + "\\" + "1" * 8, "oO", "1" * 5000 + "\\" * 33 + "0", "[]^_`aO"]
)
def test_backslashes_in_counts(engine, counts):
    """The backslash is a character of run lengths, wherever it stands."""
    assert (
        one(changed("annotations.1.segmentation.counts", counts), engine)["annotations"][1]["segmentation"]["counts"]
        == counts
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_fast_engines_do_their_own_work(engine, monkeypatch):
    """Ordinary documents never reach the slow reader; the extension reads unknown keys and escapes by itself too."""

    def refuse(*_):
        pytest.fail("the slow reader was called")

    monkeypatch.setattr(module, "read_document", refuse)
    documents = [GOOD, dump(make_document(annotations=0), indent=2), *(path.read_bytes() for path in REAL)]
    if engine == "c":
        extra = {"class_name": 'é"\n', "x": [{"y": [-1.5e300, None]}], **make_document()}
        documents += [dump(extra), dump(extra, ensure_ascii=False), GOOD.replace(b'"area": ', b'"area": 0.5e1, "x": ')]
        documents += [GOOD.replace(b'"predicted_iou": 0.', b'"predicted_iou": 0.123456789012345678901234567890')]
    assert len(parse_documents(documents, engine=engine).rows) == len(documents)


@pytest.mark.skipif(not HAS_C, reason="extension not built")
def test_auto_prefers_the_extension(monkeypatch):
    """The extension is used where it was built, and its absence is no obstacle."""
    assert module._engine("auto") is module._engine("c")
    monkeypatch.setattr(module, "HAS_EXTENSION", False)
    assert module._engine("auto") is module._engine("pyarrow")
    with pytest.raises(ConfigError, match="'c' was asked for, but"):
        parse_documents([GOOD], engine="c")


@pytest.mark.skipif(not HAS_C, reason="extension not built")
@pytest.mark.parametrize(
    ("documents", "ids", "error"),
    [(["{}"], None, TypeError), (5, None, TypeError), ([b"{}"], b"1234567", ValueError), ([b"{}"], 5, TypeError)],
)
def test_extension_checks_its_arguments(documents, ids, error):
    """The extension itself refuses what is not bytes, or too few ids."""
    with pytest.raises(error):
        importlib.import_module("sa1b_hf._json").parse(documents, ids)


@pytest.mark.parametrize("engine", ENGINES)
def test_bytes_like(engine):
    """Any buffer is a document."""
    texts = [GOOD, bytearray(GOOD), memoryview(GOOD), np.frombuffer(GOOD, np.uint8), pa.py_buffer(GOOD)]
    assert len(parse_documents(texts, engine=engine).rows) == 5


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing(engine):
    """No document gives an empty table of the schema."""
    parsed = parse_documents([], image_ids=[], engine=engine)
    assert parsed.table.schema.equals(SCHEMA)
    assert (parsed.table.num_rows, parsed.rows.tolist(), parsed.bad) == (0, [], [])


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("spelled", "value"),
    [
        ("1234.0", 1234), ("12e2", 1200), ("1.2E+3", 1200), ("120e-1", 12), ("-0", 0), ("0e99999999999999999999", 0),
        ("9223372036854775807", 2**63 - 1), ("9223372036854775807.00000", 2**63 - 1), ("-9223372036854775808", -(2**63)),
        ("0.00000000000000000000001e23", 1), ("1e18", 10**18), ("-1e+00000000000000000000001", -10),
    ],
)  # fmt: skip
def test_integers(engine, spelled, value):
    """Integers are exact however they are spelled."""
    text = GOOD.replace(b'"id": 1100000000', b'"id": ' + spelled.encode())
    assert one(text, engine)["annotations"][0]["id"] == value


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "spelled",
    [
        "1.5",
        "1e-1",
        "9223372036854775808",
        "-9223372036854775809",
        "1e19",
        "1e999999999999",
        '"1"',
        "true",
        "[1]",
        "{}",
    ],
)
def test_not_integers(engine, spelled):
    """A fraction, an overflow or another type is not an integer."""
    text = GOOD.replace(b'"id": 1100000000', b'"id": ' + spelled.encode())
    assert reason(text, engine) == "wrong-type"


def hard_floats(count: int) -> list[str]:
    """Spell floats that are hard to round: float32 values, halfway cases, many digits, subnormals, all exponents."""
    rng = random.Random(11)
    spelled = ["-0", "-0.0", "0", "0.0", "-0e5", "1e22", "1e23", "9007199254740993", "9007199254740992.5", "1e-27", "1e-28",
               "2.2250738585072011e-308", "4.9e-324", "2e-324", "1e-400", "1.7976931348623157e308", "0" + "." + "0" * 400 + "1",
               "123456789012345678901234567890", "0.1" + "0" * 60 + "1", "9" * 19, "18446744073709551615", "18446744073709551616",
               "0.18446744073709551615", "1" + "0" * 27, "1" + "0" * 28, "5e-1", "1e-0000000000000000000000001"]  # fmt: skip
    while len(spelled) < count:
        digits = rng.randint(1, 25)
        mantissa = rng.randint(0, 10**digits)
        exact = rng.getrandbits(53) | 1 << 52
        spelled += [
            repr(float(np.float32(rng.random()))),
            repr(rng.uniform(0, 2300)),
            repr(math.ldexp(rng.getrandbits(53), rng.randint(-1074, 971))),
            f"{mantissa}e{rng.randint(-340, 270)}",
            f"{mantissa / 10**10:.{rng.randint(0, 12)}f}",
            str(2 * exact + 1),  # halfway between two floats
            f"{(2 * exact + 1) * 5**3}e-3",
            f"{'-' * rng.randint(0, 1)}{rng.randint(0, 9)}.{mantissa:0{digits}d}",
            f"{rng.randint(0, 2**64)}e{rng.randint(-30, 12)}",
            f"{rng.randint(2**64 - 9, 2**64 + 9)}e{rng.randint(-27, 27)}",
        ]
    return spelled[:count]


@pytest.mark.parametrize(("engine", "count"), [pytest.param("c", 200_000, marks=ENGINES[0].marks), ("pyarrow", 20_000)])
def test_floats_are_exact(engine, count):
    """Every float is bit for bit what Python makes of its spelling."""
    spelled = [number for number in hard_floats(count) if math.isfinite(float(number))]
    template = GOOD.replace(b'"point_coords": [[', b'"point_coords": [%s, [', 1)
    texts = []
    for start in range(0, len(spelled), 1000):
        numbers = (spelled[start : start + 1000] + ["0"] * 1000)[:1000]
        points = ", ".join(f"[{x},{y} ]" for x, y in zip(numbers[::2], numbers[1::2], strict=True))
        texts.append(template.replace(b"%s", points.encode(), 1))
    parsed = parse_documents(texts, engine=engine)
    assert not parsed.bad
    found = []
    for row in parsed.table.column("annotations"):
        found += row.values.field("point_coords")[0].values[:-1].flatten().to_pylist()
    expected = np.array([float(number) for number in spelled])
    np.testing.assert_array_equal(np.array(found[: len(spelled)]).view(np.int64), expected.view(np.int64))


# ── what is not ─────────────────────────────────────────────────────────────────────────────────────────────────────

A = "annotations.1"
BAD = [
    ("json-syntax", b""),
    ("json-syntax", b" \n"),
    ("json-syntax", GOOD[:-1]),
    ("json-syntax", GOOD[:200]),
    ("json-syntax", GOOD + GOOD),
    ("json-syntax", GOOD + b"\n" + GOOD),
    ("json-syntax", GOOD + b"x"),
    ("json-syntax", GOOD + b"\0"),
    ("json-syntax", b"\xef\xbb\xbf" + GOOD),
    ("json-syntax", GOOD.decode().encode("utf-16")),
    ("json-syntax", GOOD.replace(b"sa_7", b"sa_\xff")),
    ("json-syntax", GOOD.replace(b"sa_7", b"sa_\xc0\xaf")),
    ("json-syntax", GOOD.replace(b"sa_7", b"sa_\xed\xa0\x80")),
    ("json-syntax", GOOD.replace(b"sa_7", b"sa_\xf4\x90\x80\x80")),
    ("json-syntax", GOOD.replace(b"sa_7", b"sa_\n")),
    ("json-syntax", GOOD.replace(b"sa_7", b"sa_\\x")),
    ("json-syntax", GOOD.replace(b"sa_7", b"sa_\\ud83d")),
    ("json-syntax", GOOD.replace(b"sa_7", b"sa_\\ude00")),
    ("json-syntax", GOOD.replace(b"sa_7", b"sa_\\u12g4")),
    ("json-syntax", GOOD.replace(b"]}", b",]}", 1)),
    ("json-syntax", GOOD.replace(b'"area": ', b'"area": +')),
    ("json-syntax", GOOD.replace(b'"area": ', b'"area": 0')),
    ("json-syntax", GOOD.replace(b'"area": ', b'"area": .')),
    ("json-syntax", GOOD.replace(b'"id": 1100000000', b'"id": 1.')),
    ("json-syntax", GOOD.replace(b'"id": 1100000000', b'"id": 1e')),
    ("json-syntax", GOOD.replace(b'"id": 1100000000', b'"id": -')),
    ("json-syntax", GOOD.replace(b'"id": 1100000000', b'"id": nul')),
    ("json-syntax", GOOD.replace(b"{", b"{/**/", 1)),
    ("json-syntax", GOOD.replace(b'"width"', b'"height"')),
    ("json-syntax", GOOD.replace(b'"area"', b'"id"')),
    ("json-syntax", GOOD.replace(b'"area"', b'"\\u0069d": 5, "area"')),
    ("json-syntax", GOOD.replace(b"{", b'{"x": ' + dump(nested(64)) + b",", 1)),
    ("json-syntax", GOOD.replace(b"{", b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b",", 1)),
    ("json-syntax", b"[" * 1_000_000),
    ("json-syntax", b'{"annotations": [' * 5_000),
    ("bad-value", GOOD.replace(b'"predicted_iou": 0', b'"predicted_iou": NaN, "x": 0')),
    ("bad-value", GOOD.replace(b'"bbox": [', b'"bbox": [-Infinity, ')),
    ("bad-value", GOOD.replace(b"{", b'{"x": Infinity,', 1)),
    ("bad-value", GOOD.replace(b'"stability_score": 0', b'"stability_score": 1e999, "x": 0')),
    ("bad-value", changed("image.width", 0)),
    ("bad-value", changed("image.height", -24)),
    ("bad-value", changed(f"{A}.area", -1)),
    *(("missing-key", changed(path, value)) for value in (..., None) for path in (
        "image", "annotations", "image.image_id", "image.width", "image.height", "image.file_name", f"{A}.id", f"{A}.segmentation",
        f"{A}.segmentation.size", f"{A}.segmentation.counts", f"{A}.bbox", f"{A}.area", f"{A}.predicted_iou",
        f"{A}.stability_score", f"{A}.point_coords", f"{A}.crop_box")),
    ("missing-key", b"{}"),
    ("wrong-type", b"[]"),
    ("wrong-type", b"null"),
    ("wrong-type", b"1"),
    *(("wrong-type", changed(path, value)) for path, value in (
        ("image", []), ("image", "sa_7.jpg"), ("annotations", {}), (A, None), (A, []), ("image.width", 2.5), ("image.width", 2**31),
        ("image.width", True), ("image.file_name", 7), (f"{A}.id", "7"), (f"{A}.area", 2**63), (f"{A}.bbox", 1.0),
        (f"{A}.bbox.2", "1"), (f"{A}.bbox.2", None), (f"{A}.bbox", [1, 2, 3, [4]]), (f"{A}.point_coords", [1, 2]),
        (f"{A}.point_coords", [[1, None]]), (f"{A}.point_coords", [None]), (f"{A}.predicted_iou", "0.9"),
        (f"{A}.stability_score", False), (f"{A}.segmentation", "abc"), (f"{A}.segmentation.counts", [1, 2, 3]),
        (f"{A}.segmentation.size", [24.5, 31]), (f"{A}.segmentation.size", [24, 2**40]), (f"{A}.crop_box", {}))),
    *(("wrong-length", changed(path, value)) for path, value in (
        (f"{A}.bbox", [1, 2, 3]), (f"{A}.bbox", []), (f"{A}.bbox", [1, 2, 3, 4, 5]), (f"{A}.crop_box", [1]),
        (f"{A}.segmentation.size", [24]), (f"{A}.segmentation.size", [24, 31, 1]), (f"{A}.point_coords", [[1]]),
        (f"{A}.point_coords", [[1, 2], []]), (f"{A}.point_coords", [[1, 2], [1, 2, 3]]), (f"{A}.point_coords", [[1, 2, 3], [1]]))),
    ("size-mismatch", changed(f"{A}.segmentation.size", [31, 24])),
    ("size-mismatch", changed(f"{A}.segmentation.size", [-24, -31])),
    *(("rle-characters", changed(f"{A}.segmentation.counts", value)) for value in (
        "", "ab/0", "abp0", "0\n0", "0é0", "0P", "o", "0 ", '0"0', "0" * 100 + "~" + "0" * 100, "\x00", "0\x7f")),
    ("rle-characters", GOOD.replace(b'"counts": "', b'"counts": "\\u002f')),
]  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("expected", "document"), BAD, ids=[f"{index}-{bad[0]}" for index, bad in enumerate(BAD)])
def test_reasons(engine, expected, document):
    """Every fault has its reason."""
    assert reason(document, engine) == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_image_id_mismatch(engine):
    """A document of another image is not taken for this one."""
    assert reason(GOOD, engine, image_ids=[8]) == "image-id-mismatch"
    assert one(GOOD, engine, image_ids=[7])["image_id"] == 7


def crowded(*annotations: str) -> bytes:
    """Make a document with as many annotations as are allowed, and these."""
    document = make_document(annotations=1, size=(2, 3))
    allowed = [json.dumps(document["annotations"][0])] * MAX_ANNOTATIONS
    return (
        f'{{"annotations": [{",".join([*allowed, *annotations])}], "image": {json.dumps(document["image"])}}}'.encode()
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_most_annotations(engine):
    """The cap on annotations is exact in both fast engines."""
    batch, accepted = module._engine(engine)([crowded(), crowded("null")], None)
    assert accepted.tolist() == [True, False]
    assert len(batch.column("annotations")[0]) == MAX_ANNOTATIONS


def test_too_many_annotations():
    """One annotation more than allowed is refused before it is looked at."""
    assert reason(crowded("null"), "auto") == "too-many-annotations"


@pytest.mark.parametrize("engine", ENGINES)
def test_too_large(engine):
    """A document of more than 64 MiB, or of too many values for memory, is refused before it is parsed."""
    assert reason(GOOD + b" " * MAX_DOCUMENT_BYTES, engine) == "too-large"
    assert reason(b'{"x": [' + b"[]," * (5 << 20), engine) == "too-large"
    assert not is_oversized(b" " * MAX_DOCUMENT_BYTES)


@pytest.mark.parametrize("engine", ENGINES)
def test_bad_documents_cost_only_themselves(engine):
    """Good documents among bad ones are delivered in order, with their places."""
    documents, expected = [], []
    for index, (_, bad) in enumerate(BAD):
        documents += [dump(make_document(index)), bad]
        expected.append(make_document(index))
    parsed = parse_documents(documents, engine=engine, shard="sa_000020")
    assert [row_to_document(row) for row in parsed.table.to_pylist()] == expected
    assert parsed.rows.tolist() == list(range(0, len(documents), 2))
    assert [(bad.index, bad.error.reason) for bad in parsed.bad] == [
        (2 * i + 1, slug) for i, (slug, _) in enumerate(BAD)
    ]
    assert all(str(bad.error).startswith("sa_000020: ") for bad in parsed.bad)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "pieces",
    [
        [GOOD[:120], GOOD[120:]],
        [GOOD + GOOD, b""],
        [b"", GOOD + b"\n" + GOOD],
        [GOOD[: GOOD.index(b"}, {") + 1], GOOD[GOOD.index(b"}, {") + 1 :] + GOOD],
        [GOOD + b"{", b"}" + GOOD],
        [GOOD.replace(b"{", b'{"x": {"y": "', 1), GOOD],
    ],
    ids=range(6),
)
def test_documents_do_not_leak_into_each_other(engine, pieces):
    """Two bad documents that make good ones when joined stay bad."""
    parsed = parse_documents([GOOD, *pieces, GOOD], engine=engine)
    assert [bad.error.reason for bad in parsed.bad] == ["json-syntax"] * sum(piece != GOOD for piece in pieces)


def test_error_names_the_place():
    """The error says what was expected and found, where, and what to do; and survives pickling."""
    with pytest.raises(AnnotationError) as caught:
        read_document(changed(f"{A}.bbox", [1, 2, 3]), 7, "sa_000020")
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error).startswith(
        "sa_000020: image 7: annotation 1 (id 1100000001): bbox: expected 4 numbers, found 3; "
    )
    assert error.where == {"image_id": 7, "annotation": 1, "annotation_id": 1100000001, "key": "bbox"}


@pytest.mark.parametrize("engine", ENGINES)
def test_errors_keep_no_document_alive(engine):
    """Errors that are kept for the report hold no frames, and with them no documents."""
    error = parse_documents([GOOD + b"x"], engine=engine).bad[0].error
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)


def test_syntax_error_has_its_offset_in_bytes():
    """The offset counts bytes, not characters."""
    text = '{"é😀": x}'.encode()
    with pytest.raises(AnnotationError, match="byte 11") as caught:
        read_document(text)
    assert text[caught.value.where["offset"] :] == b"x}"


@pytest.mark.parametrize(
    ("documents", "options", "message"),
    [
        ([GOOD], {"engine": "simdjson"}, "engine: expected 'auto', 'c' or 'pyarrow', found 'simdjson'"),
        ([GOOD], {"image_ids": [1, 2]}, "expected one for each of 1 documents"),
        ([GOOD], {"image_ids": [1.5]}, "expected integers of 64 bits"),
        ([GOOD], {"image_ids": [2**63]}, "expected integers of 64 bits"),
        ([GOOD, "{}"], {}, r"documents\[1\]: expected bytes, found str"),
    ],
)
def test_misuse(documents, options, message):
    """A wrong call says what was expected."""
    with pytest.raises(ConfigError, match=message):
        parse_documents(documents, **options)


# ── both engines say the same ───────────────────────────────────────────────────────────────────────────────────────

numbers = st.one_of(st.floats(), st.integers(), st.floats(width=32), st.integers(-(2**70), 2**70))
values = st.recursive(st.none() | st.booleans() | numbers | st.text(max_size=5), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "é", "bbox", "x"]), inner, max_size=3), max_leaves=6)  # fmt: skip
paths = st.sampled_from(["x", "image", "annotations", "image.x", "image.width", "image.file_name", A, f"{A}.id", f"{A}.x", f"{A}.bbox", f"{A}.bbox.1", f"{A}.area", f"{A}.predicted_iou", f"{A}.point_coords", f"{A}.point_coords.0", f"{A}.segmentation", f"{A}.segmentation.size.0", f"{A}.segmentation.counts"])  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(paths, values), min_size=1, max_size=4))
@pytest.mark.skipif(not HAS_C, reason="extension not built")
def test_engines_agree_on_any_values(changes):
    """Whatever stands in a key's place, both engines give the same table and the same faults."""
    documents = [GOOD, *(changed(path, value) for path, value in changes), GOOD]
    assert same(parse_documents(documents, engine="c"), parse_documents(documents, engine="pyarrow"))
