"""Damaged documents: the parser stays inside its memory, and every engine agrees with the slow, strict reader."""

import importlib.util
import json
import pathlib
import random
import re
import shutil
import struct
import subprocess

import numpy as np
import pyarrow as pa
import pytest

from sa1b_hf import _json_columns
from sa1b_hf._document import read_document
from sa1b_hf.annotations import parse_documents
from sa1b_hf.errors import AnnotationError

HAS_C = importlib.util.find_spec("sa1b_hf._json") is not None
PACKAGE = pathlib.Path(_json_columns.__file__).parent
COLUMNS = 17

SOURCES = [
    (
        b'{"image":{"image_id":7,"width":6,"height":5,"file_name":"sa_7.jpg"},"annotations":[{"bbox":[1.0,0.0,2.5,3e0],'
        b'"area":9,"segmentation":{"size":[5,6],"counts":"\\\\11O2`0"},"predicted_iou":0.9523417353630066,"point_coords":'
        b'[[2.5,1.25]],"crop_box":[0,0,6,5.0],"id":1100000001,"stability_score":0.9742233753204346}]}'
    ),
    (
        b'{"annotations": [], "image": {"file_name": "\\u00e9\\ud83d\\ude00\xc3\xa9\xf0\x9f\x98\x80", "height": 1.0, "x": '
        b'[{"y": [true, false, null, {}]}], "width": 2e0, "image_id": -3}}\n'
    ),
    (
        b'{"info":"other tools","image":{"image_id":8,"width":2,"height":1,"file_name":""},"annotations":[\n {"id":-1,'
        b'"class_name":"bus \\"7\\"","segmentation":{"counts":"02","size":[1,2]},"area":0,"bbox":[0,0,1,0],"crop_box":'
        b'[0,0,2,1],"point_coords":[],"predicted_iou":1,"stability_score":123456789012345678901234567890e-30}]}'
    ),
]
TOKENS = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"NaN", b"-", b"1e999", b"1.5", b"0", b'"id"', b"\xff"),
    *(b"\xc3\xa9", b"\0", b"\n", b"\\u0041", b"\\ud800", b"true", b'"id":5,', b'"x":[],', b"9" * 25, b"e5", b".25"),
]  # fmt: skip

HARNESS = r"""
#define SA1B_JSON_NO_PYTHON
#include "_json.c"
#include <stdio.h>

static void put(const void *data, uint32_t length)
{
    fwrite(&length, sizeof length, 1, stdout);
    fwrite(data, 1, length, stdout);
}

int main(void)
{
    static Byte accepted[1 << 16];
    Buffer columns[COLUMNS] = {{NULL, 0, 0, 0}};
    Parser parser = {NULL, NULL, columns, {NULL, 0, 0, 0}, 0};
    uint32_t length, count = 0, total;
    if (fread(&total, sizeof total, 1, stdin) != 1) return 1;
    columns[COUNTS].data = malloc(total + 1u);
    columns[COUNTS].capacity = total + 1u;
    columns[COUNTS].borrowed = 1;
    begin_columns(&parser);
    while (fread(&length, sizeof length, 1, stdin) == 1) {
        Byte *text = malloc(length); /* so that the byte after the last is out of bounds */
        if (fread(text, 1, length, stdin) != length) return 2;
        accepted[count++] = (Byte)parse_document(&parser, text, length, NULL);
        free(text);
        if (parser.out_of_memory) return 3;
    }
    put(accepted, count);
    for (int i = 0; i < COLUMNS; i++) put(columns[i].data, (uint32_t)columns[i].length);
    free(columns[COUNTS].data);
    free_columns(&parser);
    return 0;
}
"""


def respell(document: bytes, rng: random.Random) -> bytes:
    """Change a number, add a member, or change the whitespace: often the document stays sound."""
    place = rng.choice(list(re.finditer(rb"(?<=[:,\[])\s*-?\d[\d.eE+-]*|[,{\[](?=\s*[\"{\[])", document)))
    if place[0][-1:].isdigit():
        new = rng.choice((b"0", b"-1", b"5.0", b"1e1", b"2.5", b"1e400", b"3" * 20, str(rng.random()).encode()))
    elif place[0] == b"{":
        new = b"{" + rng.choice((b'"x":1,', b'"y":{"id":[]},', b'"id":1,', b'"\\u00e9":NaN,'))
    else:
        new = place[0] + rng.choice((b" ", b"\n", b"\t\r", b"\v"))
    return document[: place.start()] + new + document[place.end() :]


def damage(document: bytes, rng: random.Random) -> bytes:
    """Replace a few bytes."""
    start = rng.randrange(len(document) + 1)
    stop = min(len(document), start + rng.choice((0, 0, 1, 1, 2, 5, 30)))
    new = rng.choice((b"", rng.choice(TOKENS), document[stop : stop + 9], bytes([rng.randrange(256)])))
    return document[:start] + new + document[stop:]


def mutate(document: bytes, rng: random.Random) -> bytes:
    """Change a document in a place or two."""
    changed = rng.choice((respell, damage))(document, rng)
    return changed if rng.random() < 0.5 else rng.choice((respell, damage))(changed, rng)


def outcome(document: bytes) -> str:
    """Give what the slow reader says, values with every bit or the reason."""
    try:
        row = pa.RecordBatch.from_pylist([read_document(document)], _json_columns.ROW_SCHEMA)
    except AnnotationError as error:
        return error.reason
    return repr(row.to_pylist()[0])


def hard_number(rng: random.Random) -> str:
    """Spell a number that needs all 128 bits: many digits, or exactly between two floats."""
    between = 2 * (1 << 52 | rng.getrandbits(52)) + 1
    power = rng.randint(0, 3)
    return rng.choice(
        (
            f"{rng.getrandbits(63)}e{rng.randint(-27, 27)}",
            f"{between * 5**power}e-{power}",
            repr(rng.uniform(-2300, 2300)),
        )
    )


def numbers_document(rng: random.Random) -> bytes:
    points = ",".join(f"[{hard_number(rng)},{hard_number(rng)}]" for _ in range(250))
    return SOURCES[0].replace(b"[2.5,1.25]", points.encode())


@pytest.fixture(scope="module")
def corpus() -> list[tuple[bytes, str]]:
    rng = random.Random(3)
    documents = [*SOURCES, *(mutate(rng.choice(SOURCES), rng) for _ in range(20_000))]
    documents += [SOURCES[0][:length] for length in range(len(SOURCES[0]))]
    documents += [numbers_document(rng) for _ in range(50)]
    return [(document, outcome(document)) for document in documents]


@pytest.mark.parametrize(
    ("engine", "count"),
    [pytest.param("c", None, marks=pytest.mark.skipif(not HAS_C, reason="extension not built")), ("pyarrow", 5_000)],
)
def test_engines_match_the_slow_reader(corpus, engine, count):
    """Damaged documents are accepted with the same values, or refused for the same reason."""
    cases, accepted = corpus[:count], 0
    for start in range(0, len(cases), 50):
        documents, expected = zip(*cases[start : start + 50], strict=True)
        parsed = parse_documents(documents, engine=engine)
        found = dict(zip(parsed.rows.tolist(), map(repr, parsed.table.to_pylist()), strict=True))
        found |= {bad.index: bad.error.reason for bad in parsed.bad}
        assert [found[index] for index in range(len(documents))] == list(expected)
        accepted += len(parsed.rows)
    assert 0.1 * len(cases) < accepted < 0.6 * len(cases)


def compile_harness(folder: pathlib.Path, *options: str) -> pathlib.Path:
    """Build the parser with both sanitizers, or skip."""
    if (gcc := shutil.which("gcc")) is None:
        pytest.skip("no gcc")
    source, program = folder / "harness.c", folder / "harness"
    source.write_text(HARNESS)
    flags = ["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = [gcc, *flags, *options, f"-I{PACKAGE}", str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode and "asan" in built.stderr + "ubsan":
        probe = folder / "probe.c"
        probe.write_text("int main(void) { return 0; }")
        command[-3] = str(probe)
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("gcc has no sanitizers")
    assert not built.stderr, built.stderr
    return program


@pytest.mark.parametrize("options", [[], ["-DSA1B_JSON_NO_INT128"]], ids=["int128", "portable"])
def test_sanitizers(corpus, tmp_path, options):
    """No byte outside the document is read, no behaviour is undefined, and what is accepted has the right values."""
    program = compile_harness(tmp_path, *options)
    texts = [document for document, _ in corpus]
    stdin = struct.pack("=I", sum(map(len, texts))) + b"".join(struct.pack("=I", len(text)) + text for text in texts)
    run = subprocess.run([program], input=stdin, capture_output=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr.decode()
    pieces, at = [], 0
    while at < len(run.stdout):
        (length,) = struct.unpack_from("=I", run.stdout, at)
        pieces.append(run.stdout[at + 4 : at + 4 + length])
        at += 4 + length
    assert len(pieces) == 1 + COLUMNS
    accepted = np.frombuffer(pieces[0], np.bool_)
    batch = _json_columns._to_batch(map(pa.py_buffer, pieces[1:]), int(accepted.sum()))
    batch.validate(full=True)
    good = [said for (_, said), flag in zip(corpus, accepted, strict=True) if flag]
    assert list(map(repr, batch.to_pylist())) == good
    # What the parser leaves to the slow reader may be sound, but seldom is.
    sound = sum(said.startswith("{") for _, said in corpus)
    assert sound * 0.99 < len(good) <= sound


def test_sources_are_sound():
    """The documents that are damaged were good."""
    assert [json.loads(text)["image"]["image_id"] for text in SOURCES] == [7, -3, 8]
    assert all(outcome(text).startswith("{") for text in SOURCES)
