"""Synthetic shards: layout and statistics of the real ones, and faults that are what their manifest says."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import math
import re
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image
from pycocotools import mask as coco

from sa1b_hf import sample
from sa1b_hf.errors import ConfigError
from sa1b_hf.testing import FAULTS, PRESETS, encode_document, make_document, make_jpeg, make_shard, strategies
from sa1b_hf.testing.documents import document_bytes, jpeg_bytes
from sa1b_hf.testing.masks import dense_mask, make_masks
from sa1b_hf.testing.writer import renamed_when_done

# pycocotools 2.0 warns when it decodes under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

KEYS = [
    "bbox",
    "area",
    "segmentation",
    "predicted_iou",
    "point_coords",
    "crop_box",
    "id",
    "stability_score",
]
NAME = re.compile(r"(?:\./|[\w-]+/)?sa_(\d+)\.(jpg|json)")
CAP = 64 << 20


class Bad(Exception):
    """Reason why a shard or a record cannot be used."""


def inflate(data):
    """As much of the stream as can be had, up to a cap, and the reason why that is not all."""
    if not data:
        raise Bad("empty")
    if data[:2] != b"\x1f\x8b":
        if data[257:262] != b"ustar":
            raise Bad("not-a-shard")
        return data, None
    inflater, out = zlib.decompressobj(31), bytearray()
    for at in range(0, len(data), 16):  # small steps: what precedes a defect is not lost with it
        try:
            out += inflater.decompress(data[at : at + 16])
        except zlib.error as error:
            return bytes(out), "gzip-crc" if "incorrect data check" in str(error) else "gzip-data"
        if len(out) > CAP:
            return bytes(out), None
        if inflater.eof:
            return bytes(out), "gzip-trailing-data" if data[at + 16 :] or inflater.unused_data else None
    return bytes(out), "gzip-truncated"


def number(field):
    """Value of a numeric header field."""
    if field[0] == 0xFF:
        raise Bad("header-number")
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field.strip(b" \0") or b"0", 8)


def walk(data):
    """Members of a tar, in order; raises Bad where a strict reader stops."""
    at = 0
    while True:
        header = data[at : at + 512]
        if not header:
            raise Bad("missing-end")
        if len(header) < 512:
            raise Bad("truncated")
        if not header.strip(b"\0"):
            if data[at + 512 : at + 1024].strip(b"\0"):
                raise Bad("lone-zero-block")
            if data[at:].strip(b"\0"):
                raise Bad("data-after-end")
            return
        if not re.fullmatch(rb"[ 0-7\0]{8}", header[148:156]) or number(header[148:156]) != sum(header) + 256 - sum(
            header[148:156]
        ):
            raise Bad("header-checksum")
        size, kind = number(header[124:136]), header[156:157]
        if kind in b"SLK" or (kind == b"x" and (size > 1024 or b" size=" in data[at + 512 : at + 512 + size])):
            raise Bad("unsupported-member")
        if size > CAP:
            raise Bad("member-too-large")
        end = at + 512 + size + -size % 512
        if len(data) < end:
            raise Bad("truncated")
        if kind != b"x":
            yield header[:100].rstrip(b"\0").decode(), kind, data[at + 512 : at + 512 + size]
        at = end


def no_twins(pairs):
    """Hook of json.loads that refuses a key given twice."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise Bad("json-syntax")
    return dict(pairs)


def check_annotation(annotation, height, width):
    """Raise Bad for the first thing wrong with an annotation."""
    if annotation is None:
        raise Bad("wrong-type")
    if set(annotation) != set(KEYS):
        raise Bad("missing-key")
    for key in ("area", "id"):
        if not isinstance(annotation[key], int) or abs(annotation[key]) >= 2**63:
            raise Bad("wrong-type")
    if not all(math.isfinite(annotation[key]) for key in ("predicted_iou", "stability_score")):
        raise Bad("bad-value")
    if len(annotation["bbox"]) != 4:
        raise Bad("wrong-length")
    if annotation["segmentation"]["size"] != [height, width]:
        raise Bad("size-mismatch")
    if not re.fullmatch(r"[0-o]*", annotation["segmentation"]["counts"]):
        raise Bad("rle-characters")


def check_document(data, image_id):
    """Raise Bad for the first thing wrong with a document; else give it."""
    try:
        document = json.loads(data.decode(), object_pairs_hook=no_twins)
    except (ValueError, RecursionError):
        raise Bad("json-syntax") from None
    if set(document) != {"image", "annotations"}:
        raise Bad("missing-key")
    if document["image"]["image_id"] != image_id:
        raise Bad("image-id-mismatch")
    height, width = document["image"]["height"], document["image"]["width"]
    if min(height, width) < 0:
        raise Bad("bad-value")
    if len(document["annotations"]) > 65_536:
        raise Bad("too-many-annotations")
    for annotation in document["annotations"]:
        check_annotation(annotation, height, width)
    return document


def check_record(image_id, jpeg, data):
    """Raise Bad for the first thing wrong with a pair."""
    document = check_document(data, image_id)
    if jpeg and not jpeg.startswith(b"\xff\xd8\xff"):
        raise Bad("jpeg-signature")
    if not jpeg.endswith(b"\xff\xd9"):
        raise Bad("jpeg-truncated")
    if Image.open(io.BytesIO(jpeg)).size != (document["image"]["width"], document["image"]["height"]):
        raise Bad("size-mismatch")


def sort_members(data, halves, reasons):
    """Sort members into the two halves of pairs, first one first; count the others."""
    for name, kind, content in walk(data):
        match = NAME.fullmatch(name)
        if kind == b"5":
            continue
        if not match:
            reasons.append("foreign-name")
        elif kind != b"0":
            reasons.append("unsupported-type")
        elif int(match[1]) in halves[match[2]]:
            reasons.append("duplicate")
        else:
            halves[match[2]][int(match[1])] = content


def read(path):
    """The whole of a reader in its simplest form: delivered pairs by id, and the reasons for all else."""
    halves, reasons, delivered = {"jpg": {}, "json": {}}, [], {}
    try:
        data, defect = inflate(path.read_bytes())
        try:
            sort_members(data, halves, reasons)
        except Bad as bad:
            reasons.append(defect or str(bad))
            defect = "stopped"
        if defect and defect != "stopped":
            reasons.append(defect)
    except Bad as bad:
        return {}, [str(bad)]
    for image_id in sorted(halves["jpg"].keys() | halves["json"].keys()):
        jpeg, document = halves["jpg"].get(image_id), halves["json"].get(image_id)
        if jpeg is None or document is None:
            if not defect:
                reasons.append("no-jpg" if jpeg is None else "no-json")
            continue
        try:
            check_record(image_id, jpeg, document)
            delivered[image_id] = (jpeg, document)
        except Bad as bad:
            reasons.append(str(bad))
    return delivered, reasons


def names(path):
    """Names of the members, as tarfile lists them."""
    with tarfile.open(path) as tar:
        return tar.getnames()


# ── layout ──


def test_default_layout_is_the_released_one(tmp_path):
    """A gzip stream named .tar, the directory first, flat names with ./ in random order."""
    manifest = make_shard(tmp_path / "sa_000003.tar", num_images=40, first_id=500)
    assert manifest.path.read_bytes()[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
    found = names(manifest.path)
    assert found[0] == "."
    expected = {f"./sa_{i}.{kind}" for i in manifest.image_ids for kind in ("jpg", "json")}
    assert set(found[1:]) == expected
    assert len(found) == 81
    assert gzip.decompress(manifest.path.read_bytes())[:3] == b"./\0"
    distance = [abs(found.index(f"./sa_{i}.jpg") - found.index(f"./sa_{i}.json")) for i in manifest.image_ids]
    assert np.mean(distance) > 10
    assert manifest.shard == "sa_000003"


def test_sorted_layout_has_adjacent_pairs(tmp_path):
    """Order "sorted" writes each JPEG and then its JSON, ids ascending."""
    manifest = make_shard(tmp_path / "s.tar", order="sorted", prefix="")
    assert names(manifest.path) == [f"sa_{i}.{kind}" for i in manifest.image_ids for kind in ("jpg", "json")]


@pytest.mark.parametrize(
    ("prefix", "first"), [(None, b"./"), ("./", b"./"), ("sa_000000/", b"sa_000000/"), ("", b"sa_")]
)
def test_prefix(tmp_path, prefix, first):
    """Names and the directory entry carry the prefix that was asked for."""
    manifest = make_shard(tmp_path / "s.tar", prefix=prefix, compression="none")
    assert manifest.path.read_bytes().startswith(first)
    assert read(manifest.path)[0].keys() == set(manifest.image_ids)


@pytest.mark.parametrize(
    ("tar_format", "magic"), [("ustar", b"ustar\x0000"), ("gnu", b"ustar  \0"), ("pax", b"ustar\x0000")]
)
def test_tar_formats(tmp_path, tar_format, magic):
    """Each dialect has its magic; pax has an extended header for each member and tarfile reads all of them."""
    manifest = make_shard(tmp_path / "s.tar", tar_format=tar_format, compression="none", num_images=5)
    data = manifest.path.read_bytes()
    assert data[257:265] == magic
    assert (data.count(b" mtime=1680307200.25\n") == 11) == (tar_format == "pax")
    assert len(names(manifest.path)) == 11
    assert read(manifest.path)[0].keys() == set(manifest.image_ids)


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_members_are_what_the_manifest_says(tmp_path, compression):
    """Every member's bytes are those of `jpeg` and `document`."""
    manifest = make_shard(tmp_path / "s.tar", compression=compression, seed=4)
    delivered, reasons = read(manifest.path)
    assert (reasons, manifest.faults, manifest.good_ids) == ([], (), frozenset(manifest.image_ids))
    for image_id in manifest.image_ids:
        assert delivered[image_id] == (manifest.jpeg(image_id), encode_document(manifest.document(image_id)))


def test_equal_arguments_give_equal_bytes(tmp_path):
    """A shard is a function of its arguments, and the seed is one of them."""
    one = make_shard(tmp_path / "a.tar").path.read_bytes()
    assert make_shard(tmp_path / "b.tar").path.read_bytes() == one
    assert make_shard(tmp_path / "c.tar", seed=1).path.read_bytes() != one


def test_ids_ascend_with_gaps(tmp_path):
    """Ids begin at first_id and leave out a few."""
    ids = make_shard(tmp_path / "s.tar", num_images=200, first_id=223_750, compresslevel=0).image_ids
    steps = np.diff(ids)
    assert ids[0] == 223_750
    assert set(steps.tolist()) == {1, 2}
    assert 0.01 < np.mean(steps == 2) < 0.12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "tiny"}, "preset.*'tiny'"),
        ({"order": "shuffled"}, "order.*'shuffled'"),
        ({"compression": "zstd"}, "compression.*'zstd'"),
        ({"compresslevel": 10}, "compresslevel.*10"),
        ({"tar_format": "v7"}, "tar_format.*'v7'"),
        ({"prefix": "../"}, "prefix.*'../'"),
        ({"num_images": 0}, "num_images.*0"),
        ({"first_id": -1}, "first_id.*-1"),
        ({"seed": -1}, "seed.*-1"),
        ({"faults": ["nonsense"]}, "faults.*'nonsense'"),
        ({"faults": ["missing_end", "empty_file"]}, "at most one"),
        ({"faults": ["torn_jpg", "empty_jpg"], "num_images": 1}, "at least 2"),
        ({"faults": ["gzip_bad_crc"], "compression": "none"}, "gzip_bad_crc.*gzip"),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, words):
    """A wrong option is named with what was expected and found, and leaves no file."""
    with pytest.raises(ConfigError, match=words):
        make_shard(tmp_path / "s.tar", **options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written_keeps_the_name(tmp_path):
    """An error while writing removes the temporary file and leaves the old one."""
    path = tmp_path / "s.tar"
    path.write_bytes(b"old")

    def fail(temporary):
        temporary.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), renamed_when_done(path) as temporary:
        fail(temporary)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("s.tar", b"old")]


# ── documents and pictures ──


@pytest.mark.parametrize("preset", ["small", "demo"])
@pytest.mark.parametrize("image_id", [1, 2, 226_381])
def test_annotations_agree_with_pycocotools(image_id, preset):
    """Area, box (one less than COCO's) and counts are those of the mask; keys and their order are Meta's."""
    document = make_document(image_id, preset=preset)
    assert list(document) == ["image", "annotations"]
    assert list(document["image"]) == ["image_id", "width", "height", "file_name"]
    size = [document["image"]["height"], document["image"]["width"]]
    for annotation in document["annotations"]:
        assert list(annotation) == KEYS
        rle = annotation["segmentation"]
        assert rle["size"] == size
        assert annotation["area"] == coco.area(rle) > 0
        assert annotation["bbox"] == (coco.toBbox(rle) - [0, 0, 1, 1]).tolist()
        assert coco.encode(coco.decode(rle))["counts"].decode() == rle["counts"]


def test_ranges_of_annotations():
    """Scores, points, crops and ids keep to the ranges and types of the real ones."""
    every = [a for image_id in range(1, 200) for a in make_document(image_id)["annotations"]]
    ids = [annotation["id"] for annotation in every]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 2**30
    off_mask = 0
    for annotation in every:
        iou, stability = annotation["predicted_iou"], annotation["stability_score"]
        assert 0.88 <= iou < 1.05
        assert 0.95 <= stability < 1
        assert (float(np.float32(iou)), float(np.float32(stability))) == (iou, stability)
        ((x, y),) = annotation["point_coords"]
        left, top, width, height = annotation["crop_box"]
        assert left <= x < left + width
        assert top <= y < top + height
        box = annotation["bbox"]
        assert left <= box[0] <= box[0] + box[2] < left + width
        assert top <= box[1] <= box[1] + box[3] < top + height
        assert all(isinstance(value, float) for value in [x, y, *box, *annotation["crop_box"]])
        off_mask += not coco.decode(annotation["segmentation"])[int(y), int(x)]
    assert 0 < off_mask < 0.1 * len(every)


def test_documents_are_written_as_the_real_ones():
    """One line of ASCII with default separators; the fast way to write it gives the same bytes."""
    document = make_document(7, seed=2)
    data = encode_document(document)
    assert data == document_bytes(7, seed=2)
    assert data.startswith(b'{"image": {"image_id": 7, "width": ')
    assert json.loads(data) == document
    assert make_document(7, seed=3) != document


def test_real_documents_have_these_keys():
    """The key order is that of the real documents, where they are at hand."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "real" / "annotations"
    if not folder.is_dir():
        pytest.skip("no real documents here")
    for path in folder.glob("*.json"):
        document = json.loads(path.read_text())
        assert list(document["annotations"][0]) == KEYS
        assert check_document(path.read_bytes(), document["image"]["image_id"]) == document


@pytest.mark.parametrize(("width", "height"), [(96, 72), (640, 480), (50, 33)])
def test_jpeg_is_baseline_jfif(width, height):
    """RGB of the size asked for, baseline, JFIF, no EXIF, complete; its bytes are the image's own, its pixels need not be."""
    data = make_jpeg(5, width=width, height=height)
    assert data[:4] == b"\xff\xd8\xff\xe0"
    assert data.endswith(b"\xff\xd9")
    picture = Image.open(io.BytesIO(data))
    picture.load()
    assert (picture.size, picture.mode, picture.format) == ((width, height), "RGB", "JPEG")
    assert "progressive" not in picture.info
    assert not picture.getexif()
    assert data != make_jpeg(6, width=width, height=height)
    assert data == make_jpeg(5, width=width, height=height)


def test_picture_shows_its_masks():
    """Colours change at the masks' edges, more than at the edges of the same masks moved elsewhere."""
    document = make_document(3, preset="demo")
    pixels = np.asarray(Image.open(io.BytesIO(jpeg_bytes(3, preset="demo"))), np.float64)
    ratios = []
    for annotation in document["annotations"]:
        mask = coco.decode(annotation["segmentation"]).astype(bool)
        height, width = mask.shape
        moved = np.roll(mask, (height // 2, width // 2), (0, 1))
        ratios.append(_edge_contrast(pixels, mask) / _edge_contrast(pixels, moved))
    assert np.median(ratios) > 1.5


def _edge_contrast(pixels, mask):
    """Mean absolute difference of the pixels on either side of a mask's vertical edges, 4 pixels apart."""
    edge = mask[:, 4:] != mask[:, :-4]
    return np.abs(pixels[:, 4:] - pixels[:, :-4]).mean(2)[edge].mean() + 1e-9


def test_masks_are_connected_shapes_in_the_image():
    """Blobs are trimmed, lie in the image, come largest area drawn first, and have far less edge than noise has."""
    masks = make_masks(np.random.default_rng(3), 40, height=300, width=450)
    assert len(masks) == 40
    for placed in masks:
        dense = dense_mask(placed, height=300, width=450)
        assert dense.flags.f_contiguous
        assert dense.sum() == placed.area > 0
        assert placed.patch[0].any()
        assert placed.patch[:, -1].any()
        changes = np.count_nonzero(np.diff(dense, axis=0)) + np.count_nonzero(np.diff(dense, axis=1))
        assert changes <= 12 * math.sqrt(placed.area) + 2 * 450


# ── the full preset ──


@pytest.fixture(scope="module")
def full_pool():
    """Bytes of JPEG and JSON for each picture of the full preset."""
    return [
        (jpeg_bytes(i, preset="full"), document_bytes(i, preset="full")) for i in range(1, PRESETS["full"].pool + 1)
    ]


def test_full_preset_has_released_statistics(full_pool):
    """Short side 1500, JPEGs of about 1 MB, documents of about 63 KB with about 100 masks."""
    sizes = {Image.open(io.BytesIO(jpeg)).size for jpeg, _ in full_pool}
    assert all(min(size) == 1500 for size in sizes)
    assert any(width > height for width, height in sizes)
    assert any(width < height for width, height in sizes)
    assert 0.8e6 < np.mean([len(jpeg) for jpeg, _ in full_pool]) < 1.25e6
    assert 45e3 < np.mean([len(data) for _, data in full_pool]) < 80e3
    counts = [len(json.loads(data)["annotations"]) for _, data in full_pool]
    assert 60 < np.mean(counts) < 140
    assert max(counts) <= 320
    areas = [a["area"] / 3.2e6 for _, data in full_pool for a in json.loads(data)["annotations"]]
    assert min(areas) < 0.0005 < np.median(areas) < 0.01 < 0.2 < max(areas)


def test_full_documents_agree_with_pycocotools(full_pool):
    """At full size too, area and counts are those of the mask."""
    document = json.loads(full_pool[0][1])
    rles = [annotation["segmentation"] for annotation in document["annotations"]]
    assert [annotation["area"] for annotation in document["annotations"]] == coco.area(rles).tolist()
    assert coco.encode(coco.decode(rles[:1]))[0]["counts"].decode() == rles[0]["counts"]


def test_full_shard_is_streamed_to_disk(full_pool, tmp_path):
    """Once the pool is there, 24 images cost little memory and time, vary in size, and gzip takes a few percent off."""
    assert full_pool
    tracemalloc.start()
    start = time.process_time()
    manifest = make_shard(tmp_path / "s.tar", num_images=24, preset="full")
    seconds = time.process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16e6
    assert seconds < 10
    plain = make_shard(tmp_path / "p.tar", num_images=24, preset="full", compression="none").path.stat().st_size
    assert 0.93 < manifest.path.stat().st_size / plain < 0.99
    with tarfile.open(tmp_path / "p.tar") as tar:
        jpegs = [member.size for member in tar if member.name.endswith(".jpg")]
    assert len(set(jpegs)) == 24


# ── faults ──

NOT_PLAIN = [name for name, spec in FAULTS.items() if spec.needs_gzip]
CASES = [(name, "gzip") for name in FAULTS] + [(name, "none") for name in FAULTS if name not in NOT_PLAIN]


@pytest.mark.parametrize(("name", "compression"), CASES)
def test_fault_is_what_its_manifest_says(tmp_path, name, compression):
    """A strict reader delivers the good ids, the others not, and gives the reason that was expected."""
    manifest = make_shard(tmp_path / "s.tar", faults=[name], compression=compression, num_images=16)
    (fault,) = manifest.faults
    delivered, reasons = read(manifest.path)
    assert fault.name == name
    assert set(reasons) & set(fault.reasons), reasons
    assert len(reasons) == 1, reasons
    assert manifest.good_ids <= set(manifest.image_ids)
    if name == "corrupt_gzip_late":  # members behind the damage may look whole
        assert manifest.good_ids <= delivered.keys()
    else:
        assert delivered.keys() == manifest.good_ids
    for image_id in manifest.good_ids:
        assert delivered[image_id] == (manifest.jpeg(image_id), encode_document(manifest.document(image_id)))


SHARD_FAULTS = [name for name, spec in FAULTS.items() if spec.scope == "shard" and name != "gzip_bomb"]


@pytest.mark.parametrize("name", SHARD_FAULTS)
@pytest.mark.parametrize(("order", "tar_format"), [("sorted", "gnu"), ("random", "pax")])
def test_shard_fault_in_other_layouts(tmp_path, name, order, tar_format):
    """The reason does not depend on the order of members nor on the header dialect."""
    manifest = make_shard(tmp_path / "s.tar", faults=[name], order=order, tar_format=tar_format)
    delivered, reasons = read(manifest.path)
    assert set(reasons) & set(manifest.faults[0].reasons), reasons
    assert delivered.keys() >= manifest.good_ids
    assert manifest.faults[0].image_ids == tuple(i for i in manifest.image_ids if i not in manifest.good_ids)


def test_record_faults_do_not_hit_each_other(tmp_path):
    """All record faults at once: each on its own image, every other image delivered, every reason given."""
    every = [name for name, spec in FAULTS.items() if spec.scope == "record"]
    manifest = make_shard(tmp_path / "s.tar", faults=every, num_images=50)
    delivered, reasons = read(manifest.path)
    assert delivered.keys() == manifest.good_ids
    assert sorted(reasons) == sorted(fault.reason for fault in manifest.faults)
    hit = [image_id for fault in manifest.faults for image_id in fault.image_ids]
    assert len(set(hit)) == len(hit) == len(every)
    undelivered = {i for f in manifest.faults if not FAULTS[f.name].delivered for i in f.image_ids}
    assert manifest.good_ids == set(manifest.image_ids) - undelivered


@pytest.mark.parametrize("name", ["truncated_jpg", "truncated_gzip", "hole_of_zeros", "corrupt_gzip_late"])
def test_middle_faults_leave_something_on_both_sides(tmp_path, name):
    """A fault in the middle spares some images and costs others."""
    manifest = make_shard(tmp_path / "s.tar", faults=[name], num_images=60)
    assert 0 < len(manifest.good_ids) < 60


@pytest.mark.parametrize("name", ["truncated_gzip", "truncated_gzip_trailer", "gzip_bad_crc"])
def test_gzip_module_sees_gzip_faults(tmp_path, name):
    """The standard library agrees that the stream is damaged."""
    path = make_shard(tmp_path / "s.tar", faults=[name]).path
    with pytest.raises((EOFError, OSError, zlib.error)):
        gzip.decompress(path.read_bytes())


def test_registry_describes_every_fault():
    """Names are unique, scopes known, and every fault has a reason and a description; values work like names."""
    for name, spec in FAULTS.items():
        assert spec.name == name
        assert spec.scope in ("shard", "record")
        assert spec.reason == spec.reasons[0]
        assert spec.description
    assert sum(name.startswith("json_") for name in FAULTS) >= 15


def test_fault_may_be_given_as_its_spec(tmp_path):
    """A value of FAULTS does what its name does."""
    by_name = make_shard(tmp_path / "a.tar", faults=["torn_jpg"]).path.read_bytes()
    assert make_shard(tmp_path / "b.tar", faults=[FAULTS["torn_jpg"]]).path.read_bytes() == by_name


# ── strategies ──


@settings(max_examples=80, deadline=None)
@given(mask=strategies.masks())
def test_masks_strategy(mask):
    """Masks are small, dense, bool and in C order."""
    assert mask.dtype == np.bool_
    assert mask.flags.c_contiguous
    assert min(mask.shape) >= 1
    assert max(mask.shape) <= 40


@settings(max_examples=80, deadline=None)
@given(rle=strategies.rles())
def test_rles_strategy(rle):
    """RLEs decode to their size, and encode to themselves."""
    mask = coco.decode(rle)
    assert list(mask.shape) == rle["size"]
    assert coco.encode(mask)["counts"].decode() == rle["counts"]


@settings(max_examples=60, deadline=None)
@given(document=strategies.documents())
def test_documents_strategy(document):
    """Documents are valid, survive JSON unchanged, and their areas and boxes are their masks'."""
    assert check_document(encode_document(document), document["image"]["image_id"]) == document
    for annotation in document["annotations"]:
        assert annotation["area"] == coco.area(annotation["segmentation"])
        if annotation["area"]:
            assert annotation["bbox"] == (coco.toBbox(annotation["segmentation"]) - [0, 0, 1, 1]).tolist()


def test_strategies_reach_the_corners():
    """Within a few hundred draws: an empty mask, a full one, a document of none, scores of both widths."""
    seen = set()

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(mask=strategies.masks(), document=strategies.documents())
    def draw(mask, document):
        seen.add("full" if mask.all() else "empty" if not mask.any() else "mixed")
        seen.add("none" if not document["annotations"] else "some")
        for annotation in document["annotations"]:
            score = annotation["predicted_iou"]
            seen.add("narrow" if float(np.float32(score)) == score else "wide")

    draw()
    assert seen == {"full", "empty", "mixed", "none", "some", "narrow", "wide"}


def test_only_strategies_need_hypothesis():
    """Without Hypothesis the package imports, and its strategies say which extra to install."""
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import sa1b_hf.testing\n"
        "from sa1b_hf.errors import MissingExtraError\n"
        "try:\n    import sa1b_hf.testing.strategies\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'sa1b_hf[testing]'" in done.stdout


# ── the embedded sample ──


@pytest.fixture
def quick_recipe(monkeypatch):
    """The sample's recipe with pictures that take no time."""
    monkeypatch.setitem(sample._RECIPE, "preset", "small")


def test_sample_is_two_whole_shards(tmp_path):
    """The sample is made in a few seconds: 48 images of moderate size in two shards whose ids do not overlap."""
    start = time.process_time()
    shards = sample.sample_shards(tmp_path)
    assert time.process_time() - start < 15
    assert [path.name for path in shards] == ["sa_000000.tar", "sa_000001.tar"]
    found = [read(path) for path in shards]
    assert [reasons for _, reasons in found] == [[], []]
    assert [len(delivered) for delivered, _ in found] == [24, 24]
    assert not found[0][0].keys() & found[1][0].keys()
    jpeg, document = next(iter(found[0][0].values()))
    assert min(Image.open(io.BytesIO(jpeg)).size) == 480
    assert len(json.loads(document)["annotations"]) > 5


@pytest.mark.usefixtures("quick_recipe")
def test_sample_is_made_once(tmp_path, monkeypatch):
    """The second call finds what the first made, in the cache of `datasets` by default."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    path = sample.sample_shard()
    assert tmp_path in path.parents
    before = path.stat()
    assert sample.sample_shard() == path
    assert path.stat() == before
    assert len(list(path.parent.parent.iterdir())) == 1


@pytest.mark.usefixtures("quick_recipe")
def test_sample_that_fails_leaves_nothing(tmp_path, monkeypatch):
    """An error on the way leaves no folder that a later call would take for the sample."""

    def fail(*_args, **_options):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(sample, "make_shard", fail)
        with pytest.raises(OSError, match="disk full"):
            sample.sample_shard(tmp_path)
    assert list((tmp_path / "sa1b_hf").iterdir()) == []
    assert sample.sample_shard(tmp_path).is_file()


def test_sample_by_two_processes(tmp_path):
    """Processes that begin together all get the same whole shards, and leave one folder."""
    code = (
        "import sys; from sa1b_hf import sample; sample._RECIPE['preset'] = 'small'\n"
        "print(*sample.sample_shards(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    (line,) = printed
    assert all(read(Path(path))[1] == [] for path in line.split())
    assert len(list((tmp_path / "sa1b_hf").iterdir())) == 1


def test_sample_lost_race(tmp_path, monkeypatch):
    """A process that finds the folder already published throws its own away."""
    monkeypatch.setitem(sample._RECIPE, "preset", "small")
    first = sample.sample_shard(tmp_path)
    before = first.stat()
    sample._make(first.parent)
    assert first.stat() == before
    assert len(list(first.parent.parent.iterdir())) == 1


def test_variants_use_the_whole_pool():
    """Neighbouring images show different pictures, all of the pool in turn."""
    pool = PRESETS["small"].pool
    pictures = {
        np.asarray(Image.open(io.BytesIO(jpeg_bytes(i)))).tobytes()
        for i in itertools.islice(itertools.count(100), pool)
    }
    assert len(pictures) == pool
