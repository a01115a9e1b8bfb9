"""ClipLabeler with models of the real classes, small enough for a CPU: exact where it must be, right where it can be."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from click.testing import CliRunner  # noqa: E402
from support.coloured import COLOURS, NAMES, expected, picture, write_shard  # noqa: E402
from support.tiny_models import TINY, colour_clip, save_tiny, tiny_clip  # noqa: E402

import sa1b_hf  # noqa: E402
from sa1b_hf import rle  # noqa: E402
from sa1b_hf.cli import main  # noqa: E402
from sa1b_hf.convert import ConvertOptions, convert  # noqa: E402
from sa1b_hf.errors import ConfigError, MissingExtraError, RecordError  # noqa: E402
from sa1b_hf.labels import _adaptive, _crops, _masked_cls  # noqa: E402
from sa1b_hf.labels._batching import label_images  # noqa: E402
from sa1b_hf.labels._scores import score  # noqa: E402
from sa1b_hf.labels.base import ImageMasks, Labeler, LabelTransform, Vocabulary, label_masks  # noqa: E402
from sa1b_hf.labels.clip import ClipLabeler  # noqa: E402

torch.set_num_threads(1)  # models this small only wait for a second one

REPOSITORY = Path(__file__).parent.parent
WORDS = Vocabulary(("cat", "dog", "car"), background=("texture",))
SIZE = (60, 90)
MODES = ("crop", "masked_cls", "dense")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """Nobody asks the Hub for anything."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module", params=list(TINY))
def tiny(request):
    return TINY[request.param]()


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


def make(parts, vocabulary=WORDS, **options):
    model, tokenizer, processor = parts
    options = {"dtype": "float32", **options}
    return ClipLabeler(model, vocabulary, tokenizer=tokenizer, image_processor=processor, **options)


def image_of(count, seed=0, size=SIZE):
    """Noise with rectangles for masks, the first one the whole image."""
    rng = np.random.default_rng(seed)
    planes = np.zeros((count, *size), np.uint8)
    for index, plane in enumerate(planes):
        top, left = (int(rng.integers(0, side - 10)) for side in size)
        tall, wide = rng.integers(3, 30, 2)
        plane[top : top + tall, left : left + wide] = 1
        if not index:
            plane[:] = 1
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    masks = list(rle.encode(planes)) if count else []
    return ImageMasks(pixels, size, masks, np.zeros((count, 4)), np.arange(count), seed + 1)


def some(image, indices):
    return ImageMasks(
        image.image,
        image.size,
        [image.masks[one] for one in indices],
        np.zeros((len(indices), 4)),
        np.array(indices),
        1,
    )


# -- what the modes promise


def test_a_full_mask_is_the_image(tiny):
    """In masked_cls the embedding of a mask of everything is the embedding of the image, at any resolution."""
    for resolution in (None, 64):
        labeler = make(tiny, mode="masked_cls", resolution=resolution)
        image = image_of(5)
        side = labeler.resolution
        pixels = torch.from_numpy(image.pixels((side, side), "bicubic").transpose(2, 0, 1).copy())[None].float()
        with torch.inference_mode():
            whole = labeler.tower.embed(labeler.preprocess.normalise(pixels))[0].numpy()
        (embedded,) = labeler.embed([image])
        np.testing.assert_allclose(embedded[0], whole, atol=1e-6)
        assert np.abs(embedded[1] - whole).max() > 1e-4


@pytest.mark.parametrize("mode", MODES)
def test_masks_do_not_influence_each_other(tiny, mode):
    """A mask's embedding is the same alone, in another order, and beside other images in the batch."""
    labeler = make(tiny, mode=mode)
    image, other = image_of(6), image_of(3, seed=7)
    order = [4, 2, 0, 5, 1, 3]
    together, _ = labeler.embed([image, other])
    (shuffled,) = labeler.embed([some(image, order)])
    np.testing.assert_allclose(shuffled, together[order], atol=1e-6)
    for index in (0, 3):
        (alone,) = labeler.embed([some(image, [index])])
        np.testing.assert_allclose(alone[0], together[index], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_crops_may_stand_anywhere_in_a_batch(clip, batch_size):
    """Batches that begin in one image and end in another give what one batch gives."""
    images = [image_of(5), image_of(0, seed=1), image_of(4, seed=2)]
    one = make(clip, batch_size=64).embed(images)
    other = make(clip, batch_size=batch_size).embed(images)
    assert [len(rows) for rows in other] == [5, 0, 4]
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_passes_are_split_without_a_trace(clip, monkeypatch):
    """A thousand masks go through in several passes, with the embeddings of one."""
    labeler = make(clip, mode="masked_cls")
    image = image_of(1000)
    (whole,) = labeler.embed([image])
    monkeypatch.setattr("sa1b_hf.labels.clip._MASKS_AT_ONCE", 2000)
    (once,) = labeler.embed([image])
    np.testing.assert_allclose(whole, once, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_results_are_deterministic(mode):
    """The same weights give the same labels, to the bit, from one object to the next."""
    first, second = (make(tiny_clip(), mode=mode, embeddings=True).label([image_of(9)])[0] for _ in range(2))
    assert first.embeddings.tobytes() == second.embeddings.tobytes()
    assert (first.label_ids == second.label_ids).all()
    assert (first.scores == second.scores).all()


# -- preprocessing


def test_crops_look_like_those_of_the_image_processor(clip):
    """A crop that fills its window is, within a few grey levels, what Pillow and the image processor make of it."""
    processor = clip[2]
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(small).resize((400, 300), Image.Resampling.BICUBIC))
    labeler = make(clip, fill="keep", context=0.0)
    for left, top, side in [(100, 40, 200), (0, 0, 48), (370, 260, 24)]:
        plane = np.zeros((300, 400), np.uint8)
        plane[top : top + side, left : left + side] = 1
        cutter = _crops.Cutter(
            pixels, [rle.encode(plane)], resolution=32, context=0.0, fill="keep",
            preprocess=labeler.preprocess, device="cpu", dtype=torch.float32,
        )  # fmt: skip
        (mine,) = cutter.cut(0, 1)
        picture = Image.fromarray(pixels).crop((left, top, left + side, top + side))
        theirs = processor(picture, return_tensors="pt")["pixel_values"][0]
        assert (mine - theirs).abs().mean() * 0.27 * 255 < 3
        assert (mine - theirs).abs().max() * 0.27 * 255 < 40


@pytest.mark.parametrize("fill", ["keep", "blur", "mean"])
def test_fill_changes_the_background_alone(clip, fill):
    """Within the mask a crop has the image's pixels; outside of it what the option says."""
    labeler = make(clip)
    pixels = np.full((64, 64, 3), 40, np.uint8)
    pixels[:, ::2] = 60
    plane = np.zeros((64, 64), np.uint8)
    plane[16:48, 16:32] = 1
    pixels[plane == 1] = 200
    cutter = _crops.Cutter(
        pixels, [rle.encode(plane)], resolution=32, context=0.0, fill=fill,
        preprocess=labeler.preprocess, device="cpu", dtype=torch.float32,
    )  # fmt: skip
    (crop,) = cutter.cut(0, 1)
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (labeler.preprocess.mean, labeler.preprocess.std))
    grey = (crop * std + mean) * 255
    # the window is 32 pixels, the mask its columns 8 to 23
    assert (grey[:, :, 9:23] - 200).abs().max() < 1
    outside = grey[:, :, :7]
    if fill == "mean":
        assert crop[:, :, :7].abs().max() < 1e-5
    else:
        # stripes of 40 and 60, or nothing of them but their mean
        assert outside.std() == pytest.approx(10, abs=1) if fill == "keep" else outside.std() < 1
        assert outside.mean() == pytest.approx(50, abs=3)


def test_windows_stay_in_the_image():
    """A window holds its mask, is moved into the image, and is centred on an image that it is larger than."""
    boxes = np.array([[0, 0, 10, 40], [95, 45, 5, 5], [0, 0, 100, 50], [50, 25, 1, 1], [0, 0, 0, 0]])
    found = _crops.windows(boxes, (50, 100), 0.25)
    assert found.tolist() == [[0, -5, 60], [84, 34, 16], [-25, -50, 150], [42.5, 17.5, 16], [0, 0, 16]]


def test_which_patches_a_mask_owns():
    """A large mask owns what it mostly covers, a small or thin one what it covers best, nobody nothing."""
    shares = np.array([[1, 0.6, 0.4, 0], [0.02, 0.015, 0.001, 0], [0.3, 0.2, 0.1, 0], [0, 0, 0, 0]], np.float32)
    owned = _masked_cls.own_patches(shares)
    assert owned.tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [True, True, False, False],
        [True] * 4,
    ]


# -- what is labelled


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A shard of coloured images; image 5 has no masks."""
    folder = tmp_path_factory.mktemp("coloured")
    write_shard(folder / "sa_000000.tar", range(1, 9))
    return folder


@pytest.fixture(scope="module")
def colours():
    return colour_clip(COLOURS)


def by_id(rows):
    return {one["annotation_id"]: one["label_ids"][0] for row in rows for one in row["labels"]}


TRUTH = {key: value for image_id in range(1, 9) for key, value in expected(image_id).items()}


@pytest.mark.parametrize("mode", MODES)
def test_known_colours_end_to_end(folder, colours, tmp_path, mode):
    """A model that sees mean colours names each shape rightly, streamed and converted, with provenance in the file."""
    labeler = make(colours, Vocabulary(NAMES, templates=("a {} thing", "{}")), mode=mode, resolution=96, fill="mean")
    stream = sa1b_hf.load_dataset("sa1b.py", data_dir=str(folder), split="train", streaming=True)
    rows = list(label_masks(stream, labeler, batch_images=3))
    assert by_id(rows) == TRUTH
    assert len(TRUTH) == 28
    result = convert(folder, tmp_path, ConvertOptions(transforms=(LabelTransform(labeler),)), progress=False)
    (part,) = (tmp_path / one.path for one in result.manifests[0].parts)
    table = pq.read_table(part)
    assert by_id(table.select(["labels"]).to_pylist()) == TRUTH
    assert table["labels"].to_pylist() == [row["labels"] for row in rows]
    (provenance,) = json.loads(pq.read_schema(part).metadata[b"sa1b_hf"])["transforms"]
    assert (provenance["mode"], provenance["resolution"], provenance["scores"]) == (mode, 96, "softmax")
    assert provenance["digest"] == labeler.vocabulary.digest


@pytest.mark.parametrize("mode", MODES)
def test_masks_of_one_pixel_and_of_none(colours, mode):
    """A mask of one pixel gets the colour around it; an empty mask is abstained from, with score 0."""
    pixels = np.full((96, 96, 3), 255, np.uint8) * np.array([0, 0, 1], np.uint8)
    planes = np.zeros((3, 96, 96), np.uint8)
    planes[0, 50, 60] = planes[1, 0, 0] = 1
    image = ImageMasks(pixels, (96, 96), list(rle.encode(planes)), np.zeros((3, 4)), np.arange(3), 1)
    words = Vocabulary(NAMES, templates=("{}",))
    (labels,) = make(colours, words, mode=mode, fill="keep").label([image])
    assert labels.label_ids[:, 0].tolist() == [2, 2, -1]
    assert labels.scores[2, 0] == 0
    assert not labels.not_finite.any()


@pytest.mark.parametrize("mode", MODES)
def test_relevance_of_free_texts(colours, tiny, mode):
    """Relevance lies between 0 and 1, and is higher for the text that is meant."""
    labeler = make(tiny, mode=mode)
    (table,) = labeler.relevance([image_of(4)], ["a cat", "something else", "x"])
    assert table.shape == (4, 3)
    assert ((table >= 0) & (table <= 1)).all()
    for texts in ([], [""], "cat"):
        with pytest.raises(ConfigError, match="texts"):
            labeler.relevance([image_of(1)], texts)


def test_relevance_tells_colours_apart(colours, monkeypatch):
    """The colour of a mask is more relevant to it than any other."""
    monkeypatch.setattr("sa1b_hf.labels._scores._ANYTHING", ("yellow",))
    labeler = make(colours, Vocabulary(NAMES), fill="mean")
    pixels, planes, truth = picture(1)
    image = ImageMasks(pixels, pixels.shape[:2], list(rle.encode(planes)), np.zeros((4, 4)), np.arange(4), 1)
    (table,) = labeler.relevance([image], NAMES[:3])
    for row, colour in zip(table, truth, strict=True):
        if colour < 3:
            assert row.argmax() == colour
            assert row[colour] > 0.9


# -- scores and texts


def test_scores_are_named_as_they_are(tiny):
    """SigLIP gives each class a score of its own, CLIP a share of all; each says which."""
    labeler = make(tiny, Vocabulary(WORDS.names), top_k=3)
    total = labeler.label([image_of(4)])[0].scores.sum(axis=1)
    if labeler.model.config.model_type == "clip":
        assert labeler.provenance.scores == "softmax"
        np.testing.assert_allclose(total, 1, atol=1e-6)
    else:
        assert labeler.provenance.scores == "sigmoid"
        assert np.abs(total - 1).max() > 0.1


def test_scores_agree_with_the_model(tiny):
    """Texts and scores are those of the model's own forward pass on the same pixels and words."""
    model, tokenizer, _ = tiny
    labeler = make(tiny, mode="masked_cls", top_k=3)
    words = Vocabulary(("cat", "dog", "a bird"), templates=("{}",))
    classes = labeler.texts.classes(words)
    padding = "max_length" if labeler.provenance.scores == "sigmoid" else True
    tokens = tokenizer(list(words.names), return_tensors="pt", padding=padding)
    accepted = {"input_ids": tokens["input_ids"]}
    if labeler.provenance.scores == "softmax":
        accepted["attention_mask"] = tokens["attention_mask"]
    with torch.inference_mode():
        theirs = torch.nn.functional.normalize(model.get_text_features(**accepted).pooler_output, dim=-1)
    np.testing.assert_allclose(classes, theirs.numpy(), atol=1e-6)
    image = image_of(1)
    pixels = torch.from_numpy(image.pixels((32, 32), "bicubic").transpose(2, 0, 1).copy())[None].float()
    inputs = labeler.tower._inputs(labeler.preprocess.normalise(pixels))
    with torch.inference_mode():
        logits = model(**inputs, **accepted).logits_per_image
    wanted = logits.softmax(-1) if labeler.provenance.scores == "softmax" else logits.sigmoid()
    found = score(model, labeler.embed([image])[0], classes, labeler.provenance.scores)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_templates_and_synonyms_are_averaged(clip):
    """A class is the average of its sentences, of length one."""
    labeler = make(clip)
    words = Vocabulary(("cat",), synonyms={"cat": ["kitten"]}, templates=("a {}", "{}"))
    single = labeler.texts.texts(["a cat", "cat", "a kitten", "kitten"])
    mean = single.mean(axis=0)
    np.testing.assert_allclose(labeler.texts.classes(words)[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_texts_are_embedded_once(clip, tmp_path, monkeypatch):
    """Embeddings of a vocabulary are remembered, in a folder too; a damaged file is made anew, other words are not mixed up."""
    labeler = make(clip, text_cache=tmp_path)
    labeler.label([image_of(1)])
    (path,) = tmp_path.iterdir()
    calls = []
    embed = type(labeler.texts)._embed
    monkeypatch.setattr(type(labeler.texts), "_embed", lambda self, texts: calls.append(texts) or embed(self, texts))
    labeler.label([image_of(1)])
    make(clip, text_cache=tmp_path).label([image_of(1)])
    assert calls == []
    path.write_bytes(path.read_bytes()[:50])
    make(clip, text_cache=tmp_path).label([image_of(1)])
    assert len(calls) == 1
    make(clip, Vocabulary(("bird",)), text_cache=tmp_path).label([image_of(1)])
    assert len(calls) == 2
    make(tiny_clip(seed=1), text_cache=tmp_path).label([image_of(1)])
    assert len(calls) == 3


# -- memory and numbers


def _failing(limit, error):
    """A function of ranges that has room for a few items only."""

    def function(first, last):
        if last - first > limit:
            raise error
        return list(range(first, last))

    return function


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce fail] can't allocate memory: 9 bytes")],
)
def test_batches_shrink_until_they_fit(error):
    """Memory that runs out halves the batch, for good, and loses nothing."""
    batch = _adaptive.AdaptiveBatch(64, "crops")
    results = batch.run(_failing(10, error), 100)
    assert [one for part in results for one in part] == list(range(100))
    assert batch.size == 8
    assert max(map(len, batch.run(_failing(10, error), 30))) == 8


def test_batches_that_cannot_shrink():
    """If not even one item fits there is advice; other errors pass as they are."""
    with pytest.raises(ConfigError, match="memory for one of crops at a time"):
        _adaptive.AdaptiveBatch(4, "crops").run(_failing(0, torch.OutOfMemoryError("CUDA out of memory")), 3)
    with pytest.raises(RuntimeError, match="shape"):
        _adaptive.AdaptiveBatch(4, "crops").run(_failing(0, RuntimeError("shape mismatch")), 3)


@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_runs_out_of_memory(clip, monkeypatch, mode):
    """Labels are those of a machine with more memory."""
    images = [image_of(7), image_of(3, seed=1)]
    wanted = make(clip, mode=mode).embed(images)
    labeler = make(clip, mode=mode)
    name = "embed" if mode == "crop" else "tokens"
    method = getattr(labeler.tower, name)

    def narrow(pixels):
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return method(pixels)

    monkeypatch.setattr(labeler.tower, name, narrow)
    labeler._embed_crops = labeler.tower.embed
    for found, rows in zip(labeler.embed(images), wanted, strict=True):
        np.testing.assert_allclose(found, rows, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("mode", MODES)
def test_half_precision(mode, dtype):
    """Half precision gives nearly the same embeddings, and says what it is."""
    image = image_of(6)
    (full,) = make(tiny_clip(), mode=mode).embed([image])
    labeler = make(tiny_clip(), mode=mode, dtype=dtype)
    (half,) = labeler.embed([image])
    assert labeler.provenance.dtype == dtype
    assert half.dtype == np.float32
    assert (full * half).sum(axis=1).min() > 0.995


@pytest.mark.parametrize(("has", "wanted"), [({"avx512_bf16": True}, "bfloat16"), ({"avx512_bf16": False}, "float32")])
def test_precision_by_default(monkeypatch, has, wanted):
    """On a CPU the default is bfloat16 where it has the instructions, and the provenance says which it was."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert make(tiny_clip(), dtype="auto", device="cpu").provenance.dtype == wanted


def test_a_model_that_overflows():
    """Weights that give NaN are an error with the images' ids, or are counted; embeddings stay finite."""
    parts = tiny_clip()
    labeler = make(parts, embeddings=True)
    labeler.texts.classes(WORDS)
    with torch.no_grad():
        parts[0].visual_projection.weight[0] = float("inf")
    transform = LabelTransform(labeler, on_error="skip")
    (labels,) = labeler.label([image_of(3)])
    assert labels.not_finite.all()
    assert np.isfinite(labels.embeddings).all()
    with pytest.raises(RecordError, match="found NaN or infinity for 3 of 3 masks"):
        label_images(labeler, [image_of(3)], transform.counts, tolerant=False)
    with torch.no_grad():
        parts[0].text_projection.weight[0] = float("inf")
    with pytest.raises(ConfigError, match="finite embeddings, found NaN or infinity for 'a photo of a bird"):
        labeler.texts.classes(Vocabulary(("bird",)))


@pytest.mark.slow
def test_compiled(clip):
    """A compiled model gives the same."""
    image = image_of(5)
    (plain,) = make(clip).embed([image])
    (compiled,) = make(clip, compile="eager").embed([image])
    np.testing.assert_allclose(plain, compiled, atol=1e-5)


# -- from folders, and for other processes


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny("clip", tmp_path_factory.mktemp("models") / "tiny-clip")


def test_a_model_from_a_folder(saved, clip):
    """A folder has all that is needed; provenance has its name and a digest of its weights, and no path."""
    labeler = ClipLabeler(saved, WORDS, dtype="float32")
    assert isinstance(labeler, Labeler)
    assert labeler.preprocess == make(clip).preprocess
    text = json.dumps(labeler.provenance.to_dict())
    assert (labeler.provenance.model, str(saved.parent) in text) == ("tiny-clip", False)
    assert re.fullmatch(r"sha256:[0-9a-f]{16}", labeler.provenance.revision)
    assert labeler.provenance.revision == make(clip).provenance.revision
    assert labeler.provenance.revision != make(tiny_clip(seed=1)).provenance.revision
    clip[0].name_or_path = "someone/some-clip"
    assert make(clip).provenance.model == "someone/some-clip"
    clip[0].name_or_path = str(saved)
    assert make(clip).provenance.model == "tiny-clip"
    clip[0].name_or_path = ""
    (one,), (other,) = labeler.label([image_of(4)]), make(clip).label([image_of(4)])
    assert (one.scores == other.scores).all()


def test_a_labeler_travels_without_its_weights(saved):
    """Pickled, a labeler made by name is small, and gives the same labels where it arrives."""
    labeler = ClipLabeler(saved, WORDS, mode="masked_cls")
    data = pickle.dumps(LabelTransform(labeler))
    assert len(data) < 2000
    arrived = pickle.loads(data)
    assert arrived.fingerprint == LabelTransform(labeler).fingerprint
    assert (arrived.labeler.label([image_of(4)])[0].scores == labeler.label([image_of(4)])[0].scores).all()


def test_the_command(folder, saved, tmp_path):
    """`sa1b label` labels a converted folder, says what it did, and does nothing the second time."""
    convert(folder, tmp_path / "converted", progress=False)
    (tmp_path / "words.txt").write_text("cat\ndog\n")
    arguments = [
        "label",
        tmp_path / "converted",
        tmp_path / "out",
        "--model",
        saved,
        "--vocabulary",
        tmp_path / "words.txt",
    ]
    arguments += ["--mode", "masked_cls", "--background", "sky", "--embeddings", "--format", "json"]
    lines = []
    for _ in range(2):
        done = CliRunner().invoke(main, [str(one) for one in arguments])
        assert done.exit_code == 0, done.output
        lines.append(json.loads(done.stdout))
    assert [one["status"] for one in lines] == ["labelled", "done before"]
    assert lines[0]["counts"]["masks"] == 28
    (part,) = (tmp_path / "out").glob("data/train/*.parquet")
    row = pq.read_table(part).to_pylist()[0]
    assert len(row["labels"][0]["embedding"]) == 32
    (provenance,) = json.loads(pq.read_schema(part).metadata[b"sa1b_hf"])["transforms"]
    assert (provenance["names"], provenance["background"], provenance["model"]) == (
        ["cat", "dog"],
        ["sky"],
        "tiny-clip",
    )
    assert str(tmp_path) not in json.dumps(provenance)


def test_converting_with_labels(folder, saved, tmp_path):
    """`sa1b convert --label` writes labels in the same pass; half of its options is an error that says so."""

    def run(*arguments):
        return CliRunner().invoke(main, ["convert", str(folder), *map(str, arguments)])

    done = run(tmp_path / "out", "--label", saved, "--vocabulary", "coco", "--label-mode", "dense")
    assert done.exit_code == 0, done.output
    (part,) = (tmp_path / "out").glob("data/train/*.parquet")
    assert {len(row["labels"]) for row in pq.read_table(part).to_pylist()} == {0, 4}
    (provenance,) = json.loads(pq.read_schema(part).metadata[b"sa1b_hf"])["transforms"]
    assert (len(provenance["names"]), provenance["mode"]) == (80, "dense")
    for arguments, message in [
        (["--label", saved], "go together"),
        (["--vocabulary", "coco"], "go together"),
        (["--label", saved, "--vocabulary", "coco", "--no-images"], "--label needs images"),
        (["--label", saved, "--vocabulary", "lvis"], "a preset"),
    ]:
        done = run(tmp_path / "none", *arguments)
        assert (done.exit_code, message in done.output) == (2, True), done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "boxes"}, "mode: expected one of"),
        ({"fill": "black"}, "fill"),
        ({"resolution": 33}, "multiple of the patch size 8, found 33"),
        ({"top_k": 0}, "top_k"),
        ({"context": -1}, "context"),
        ({"min_score": float("nan")}, "min_score"),
        ({"scores": "logits"}, "scores"),
        ({"device": "quantum"}, "device: expected one that torch has here"),
        ({"mode": "dense", "compile": True}, "compile"),
    ],
)
def test_options_are_checked(clip, options, message):
    """An option out of range is refused with what was expected."""
    with pytest.raises(ConfigError, match=message):
        make(clip, **options)


def test_models_that_cannot_be_used(clip, tmp_path):
    """A missing tokenizer, a missing folder, and a model without texts are refused."""
    with pytest.raises(ConfigError, match="tokenizer"):
        ClipLabeler(clip[0], WORDS)
    with pytest.raises(ConfigError, match="model nobody/nothing: expected a model of the Hub"):
        ClipLabeler("nobody/nothing", WORDS)
    with pytest.raises(ConfigError, match="get_text_features"):
        ClipLabeler(clip[0].vision_model, WORDS, tokenizer=clip[1])


class _Other(torch.nn.Module):
    """A model of another kind, of which only the two methods are known."""

    def __init__(self, colours):
        super().__init__()
        self.clip, self.tokenizer, _ = colours
        self.config = type("Config", (), {"model_type": "other", "image_size": 32})()
        self.logit_scale = self.clip.logit_scale
        self.get_text_features = self.clip.get_text_features

    def get_image_features(self, pixel_values):
        return pixel_values.mean(dim=(2, 3))


def test_any_model_with_two_methods(colours):
    """A model that is neither CLIP nor SigLIP works with crops, and is told so for other modes."""
    other = _Other(colours)
    words = Vocabulary(NAMES, templates=("{}",))
    labeler = ClipLabeler(other, words, tokenizer=other.tokenizer, image_processor=colours[2], fill="mean")
    pixels, planes, truth = picture(2)
    image = ImageMasks(pixels, pixels.shape[:2], list(rle.encode(planes)), np.zeros((4, 4)), np.arange(4), 2)
    assert labeler.label([image])[0].label_ids[:, 0].tolist() == truth.tolist()
    with pytest.raises(ConfigError, match="neither CLIP nor SigLIP"):
        ClipLabeler(other, words, tokenizer=other.tokenizer, mode="masked_cls")
    with pytest.raises(ConfigError, match="images of 32 pixels alone"):
        ClipLabeler(other, words, tokenizer=other.tokenizer, resolution=64)


def test_without_the_extra(monkeypatch):
    """Where torch is missing the error has the line to type."""
    from sa1b_hf.labels._backend import _Lazy

    with pytest.raises(MissingExtraError, match=re.escape("pip install 'sa1b_hf[labels]'")):
        _ = _Lazy("no_such_module_at_all").tensor


# -- what is written about it


def test_the_documentation_with_a_small_model(saved, tmp_path, monkeypatch):
    """The example with a model of the Hub runs with a smaller one in its place."""
    text = (REPOSITORY / "docs/labels.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```py\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    code = block.replace("openai/clip-vit-base-patch16", str(saved)).replace("448", "64")
    assert str(saved) in code
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards/sa_000000.tar", range(1, 3))
    monkeypatch.chdir(tmp_path)
    names = {"sa1b_hf": sa1b_hf}
    exec(code, names)
    assert len(next(iter(names["ds"]))["labels"][0]["label_ids"]) in (1, 5)


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path):
    """The benchmark checks that contenders look at the same, and reports on every bar."""
    arguments = ["--tiny", "--preset", "small", "--masks", "2", "--rounds", "1", "--json", tmp_path / "out.json"]
    command = [sys.executable, "-W", "ignore", REPOSITORY / "benchmarks/bench_labels.py", *arguments]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(one) for one in command], env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\| .* \| (?:NOT )?met \|$", done.stdout, flags=re.MULTILINE)) == 4
    assert "not measured: no GPU was at hand" in done.stdout
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert set(results) == {
        "plain recipe",
        "crop @224",
        "crop @224, default precision",
        "masked_cls @224",
        "masked_cls @448",
        "dense @448",
    }
    assert all(one["masks_per_second"] > 0 for one in results.values())
