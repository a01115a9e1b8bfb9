"""What detectors find, matched to masks: geometry with a stub, and the real classes of transformers, tiny."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco
from support.label_scenes import HEIGHT, WIDTH, blob_masks, box_mask, image_masks

from sa1b_hf import rle
from sa1b_hf.errors import ConfigError
from sa1b_hf.labels._detections import box_iou, box_masks
from sa1b_hf.labels.base import ImageMasks, Labeler, Vocabulary
from sa1b_hf.labels.grounding import Detections, GroundingLabeler, match_detections

WORDS = Vocabulary(("cat", "dog"), synonyms={"dog": ["puppy"]}, background=("wall",))


class Stub:
    """Finds what it is told, and remembers how it was asked."""

    name, revision, options = "stub", "1", {}

    def __init__(self, boxes, labels, scores, masks=None):
        self.found = Detections(np.reshape(boxes, (-1, 4)), labels, scores, masks)
        self.calls = []

    def detect(self, pixels, vocabulary):
        self.calls.append((pixels.shape, vocabulary))
        return self.found


def picture(masks):
    return ImageMasks(**{**image_masks(masks).__dict__, "image": np.zeros((HEIGHT, WIDTH, 3), np.uint8)})


def test_boxes_name_the_masks_that_they_fit():
    """A box names the mask that fills it, not the one inside of it, nor the one that it lies in."""
    whole, small, around = box_mask(10, 10, 20, 10), box_mask(12, 12, 4, 4), box_mask(0, 0, 60, 40)
    stub = Stub([[10, 10, 30, 20]], [1], [0.8])
    labeler = GroundingLabeler(stub, WORDS)
    assert isinstance(labeler, Labeler)
    (labels,) = labeler.label([picture([small, whole, around])])
    assert labels.label_ids[:, 0].tolist() == [-1, 1, -1]
    np.testing.assert_allclose(labels.scores[:, 0], [0, 0.8, 0], rtol=1e-6)
    assert stub.calls == [((HEIGHT, WIDTH, 3), WORDS)]


def test_score_is_that_of_the_detection_times_the_iou():
    """Of two detections the one with the better product is first, the other second; the margin is between them."""
    mask = box_mask(10, 10, 20, 10)
    stub = Stub([[10, 10, 30, 20], [10, 10, 30, 30]], [0, 1], [0.5, 0.9])
    (labels,) = GroundingLabeler(stub, WORDS, min_iou=0.4).label([picture([mask])])
    assert labels.label_ids.tolist() == [[0, 1]]
    np.testing.assert_allclose(labels.scores, [[0.5, 0.45]], rtol=1e-6)
    assert labels.margin[0] == pytest.approx(0.05, rel=1e-5)


def test_containment_needs_pixels_not_boxes():
    """A frame has the box of what it surrounds, but few of its pixels lie in a smaller box: it is not named."""
    frame = rle.encode(np.pad(np.zeros((18, 18), bool), 1, constant_values=True))
    frame = rle.encode(np.pad(rle.decode(frame), ((0, HEIGHT - 20), (0, WIDTH - 20))))
    solid = box_mask(0, 0, 20, 20)
    stub = Stub([[1, 1, 19, 19]], [0], [0.9])
    (labels,) = GroundingLabeler(stub, WORDS, min_iou=0.7, min_contained=0.5).label([picture([frame, solid])])
    assert labels.label_ids[:, 0].tolist() == [-1, 0]


def test_background_abstains():
    """A mask for which a background word is best has no label, and the score of that word."""
    stub = Stub([[10, 10, 30, 20]] * 2, [2, 0], [0.9, 0.4])
    (labels,) = GroundingLabeler(stub, WORDS).label([picture([box_mask(10, 10, 20, 10)])])
    assert labels.abstained.tolist() == [True]
    assert labels.scores[0, 0] == pytest.approx(0.9)


@pytest.mark.parametrize("seed", range(5))
def test_segments_are_matched_by_masks(seed):
    """With a segmenter's masks, pairs are those of pycocotools' IoU and intersection over mask."""
    masks, found = blob_masks(seed, 8), blob_masks(seed + 50, 6)
    raw = [[{**one, "counts": one["counts"].encode()} for one in many] for many in (masks, found)]
    iou, contained = coco.iou(*raw, [0] * 6), coco.iou(*raw, [1] * 6)
    expected = np.argwhere((iou >= 0.1) & (iou > 0) & (contained >= 0.3))
    detections = Detections(np.zeros((6, 4)), [0] * 6, [0.5] * 6, found)
    first, second, shared = match_detections(masks, (HEIGHT, WIDTH), detections, min_iou=0.1, min_contained=0.3)
    assert np.stack([first, second], axis=1).tolist() == expected.tolist()
    np.testing.assert_allclose(shared, iou[first, second], rtol=1e-12)


def test_boxes_as_run_lengths():
    """Boxes of any place, also beyond the image, are the pixels that slices give, in well-formed runs."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(-15, 75, (60, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes = np.concatenate([boxes, [[0, 0, 60, 40], [5, 0, 9, 40], [-9, -9, -1, -1], [59, 39, 60, 40], [9, 9, 3, 3]]])
    drawn = rle.decode(box_masks(boxes, (HEIGHT, WIDTH)))
    for plane, box in zip(drawn, np.floor(boxes + 0.5).astype(int).tolist(), strict=True):
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        left, top, right, bottom = np.clip(box, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
        expected[top:bottom, left:right] = 1
        np.testing.assert_array_equal(plane, expected)


def test_iou_of_boxes():
    """IoUs of whole boxes are those of their pixels."""
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 40, (20, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    masks = box_masks(boxes, (HEIGHT, WIDTH))
    np.testing.assert_allclose(box_iou(boxes, boxes), rle.iou(masks, masks), rtol=1e-12)


def test_nothing_found_and_nothing_to_find():
    """Without detections all abstain; an image without masks is not looked at."""
    stub = Stub([], [], [])
    labels = GroundingLabeler(stub, WORDS).label([picture([box_mask(0, 0, 5, 5)]), picture([])])
    assert [one.abstained.tolist() for one in labels] == [[True], []]
    assert len(stub.calls) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Detections([[0, 0, 1]], [0], [1.0]),
        lambda: Detections([[0, 0, 1, np.nan]], [0], [1.0]),
        lambda: Detections([[0, 0, 1, 1]], [0], [np.inf]),
        lambda: Detections([[0, 0, 1, 1]], [0], [1.0], []),
        lambda: GroundingLabeler(object(), WORDS),
        lambda: GroundingLabeler(Stub([], [], []), WORDS, min_iou=2),
        lambda: GroundingLabeler(Stub([], [], []), WORDS, top_k=0),
    ],
)
def test_wrong_detections_and_options(wrong):
    """What does not fit together is refused before it is used."""
    with pytest.raises(ConfigError):
        wrong()


def _detector(kind, **options):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("scipy")  # for OWLv2's image processor where torchvision is not installed
    from support.tiny_detectors import TINY_DETECTORS

    from sa1b_hf.labels.grounding import TransformersDetector

    model, image_processor, tokenizer = TINY_DETECTORS[kind]()
    options = {"image_processor": image_processor, "tokenizer": tokenizer, "device": "cpu", **options}
    return TransformersDetector(model, **options), model, image_processor, tokenizer


def _pixels(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize("kind", ["owlvit", "owlv2"])
def test_owl_is_post_processed_as_transformers_does(kind):
    """Boxes and best scores of each patch are those of the library's own post-processing of the same model."""
    detector, model, image_processor, tokenizer = _detector(kind, min_score=1e-6)
    words = Vocabulary(("cat", "dog", "bird"), templates=("{}",))
    found = detector.detect(_pixels(), words)
    inputs = image_processor([_pixels()], return_tensors="pt")
    tokens = tokenizer(["cat", "dog", "bird"], padding="max_length", max_length=24, return_tensors="pt")
    import torch

    with torch.inference_mode():
        outputs = model(**inputs, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    sizes = [(HEIGHT, WIDTH)]
    theirs = image_processor.post_process_object_detection(outputs, threshold=1e-6, target_sizes=sizes)[0]
    assert len(theirs["scores"]) > 5
    clip = [WIDTH, HEIGHT, WIDTH, HEIGHT]
    ours = np.clip(found.boxes_xyxy, 0, clip)
    for score, label, box in zip(*(theirs[name].numpy() for name in ("scores", "labels", "boxes")), strict=True):
        same = (found.label_ids == label) & np.isclose(found.scores, score, rtol=1e-4)
        assert np.isclose(ours[same], np.clip(box, 0, clip), atol=1e-3).all(axis=1).any()
    assert found.scores.max() == pytest.approx(theirs["scores"].max().item(), rel=1e-4)


def test_dino_scores_each_text_by_its_own_tokens():
    """Boxes are the library's; the score of a text is the highest of its tokens, as laid out in the sentence."""
    detector, model, image_processor, tokenizer = _detector("grounding-dino", min_score=1e-9)
    import torch

    words = Vocabulary(("cat", "big dog"))
    found = detector.detect(_pixels(), words)
    tokens = tokenizer(["cat. big dog."], return_tensors="pt")
    pieces = tokenizer.convert_ids_to_tokens(tokens["input_ids"][0])
    stops = [index for index, piece in enumerate(pieces) if piece == "."]
    with torch.inference_mode():
        outputs = model(**tokens, **image_processor([_pixels()], return_tensors="pt"))
    probabilities = outputs.logits[0].sigmoid().numpy()
    expected = np.stack(
        [probabilities[:, 1 : stops[0]].max(axis=1), probabilities[:, stops[0] + 1 : stops[1]].max(axis=1)], axis=1
    )
    np.testing.assert_allclose(found.scores.reshape(-1, 2), expected, rtol=1e-4)
    assert found.label_ids.reshape(-1, 2).tolist() == [[0, 1]] * 6
    x, y, w, h = outputs.pred_boxes[0].numpy().T
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    np.testing.assert_allclose(found.boxes_xyxy[::2], corners, rtol=1e-4, atol=1e-4)


def test_dino_splits_long_vocabularies():
    """Texts that do not fit into one sentence are looked for in several; each still has its own label."""
    detector, *_ = _detector("grounding-dino", min_score=1e-9)
    names = ("elephant", "crocodile", "hippopotamus", "rhinoceros", "cat")
    found = detector.detect(_pixels(), Vocabulary(names))
    assert set(found.label_ids.tolist()) == set(range(5))
    few = _detector("grounding-dino", min_score=1e-9, prompts_at_once=2)[0].detect(_pixels(), Vocabulary(names))
    assert set(few.label_ids.tolist()) == set(range(5))


def test_sam3_gives_masks():
    """A segmenter's instances come with masks of the image's size, and can name masks equal to them."""
    detector, *_ = _detector("sam3", min_score=1e-6)
    found = detector.detect(_pixels(), WORDS)
    assert len(found) == len(found.masks) == 4 * 5  # five queries for each of four texts
    assert found.label_ids.tolist() == [0] * 5 + [1] * 10 + [2] * 5
    assert {tuple(mask["size"]) for mask in found.masks} == {(HEIGHT, WIDTH)}
    areas = rle.area(found.masks)
    assert (areas > 0).any()
    mask = found.masks[int(areas.argmax())]
    image = ImageMasks(**{**image_masks([mask]).__dict__, "image": _pixels()})
    (labels,) = GroundingLabeler(detector, WORDS, min_iou=0.99).label([image])
    assert labels.scores[0, 0] > 0


@pytest.mark.parametrize("kind", ["owlvit", "owlv2", "grounding-dino", "sam3"])
def test_detectors_end_to_end(kind):
    """Each family labels masks, the same each time, with a provenance that JSON can hold and that has no path."""
    detector, *_ = _detector(kind, min_score=1e-6)
    labeler = GroundingLabeler(detector, WORDS, min_iou=0.0, min_contained=0.0)
    image = ImageMasks(**{**image_masks(blob_masks(3, 6)).__dict__, "image": _pixels()})
    first, second = labeler.label([image, image])
    np.testing.assert_array_equal(first.label_ids, second.label_ids)
    np.testing.assert_array_equal(first.scores, second.scores)
    text = json.dumps(labeler.provenance.to_dict())
    assert f'"detector": "{kind}"' in text
    assert detector.revision.startswith("sha256:")


def test_synonyms_count_for_their_name():
    """Of a name and its synonyms the best score counts, once."""
    words = Vocabulary(("cat",), synonyms={"cat": ["dog"]}, templates=("{}",))
    both = _detector("owlv2", min_score=1e-6)[0].detect(_pixels(), words)
    alone = _detector("owlv2", min_score=1e-6)[0].detect(_pixels(), Vocabulary(("cat", "dog"), templates=("{}",)))
    np.testing.assert_allclose(both.scores, alone.scores.reshape(-1, 2).max(axis=1), rtol=1e-5)
    assert set(both.label_ids.tolist()) == {0}


def test_a_folder_is_loaded(tmp_path):
    """A model saved to a folder gives what it gave, under the folder's name alone."""
    from sa1b_hf.labels.grounding import TransformersDetector

    detector, model, image_processor, tokenizer = _detector("owlv2", min_score=1e-6)
    folder = tmp_path / "my-detector"
    for part in (model, image_processor, tokenizer):
        part.save_pretrained(folder)
    loaded = TransformersDetector(folder, min_score=1e-6, device="cpu")
    assert loaded.name == "my-detector"
    assert loaded.revision == detector.revision
    np.testing.assert_allclose(loaded.detect(_pixels(), WORDS).scores, detector.detect(_pixels(), WORDS).scores)


def test_models_of_other_kinds_are_refused(tmp_path):
    """A folder with nothing in it, and a model that detects nothing, are errors that name them."""
    pytest.importorskip("transformers")
    from support.tiny_models import tiny_clip

    from sa1b_hf.labels.grounding import TransformersDetector

    with pytest.raises(ConfigError, match="empty"):
        TransformersDetector(tmp_path / "empty")
    model, tokenizer, image_processor = tiny_clip()
    with pytest.raises(ConfigError, match="'clip'"):
        TransformersDetector(model, tokenizer=tokenizer, image_processor=image_processor)
    with pytest.raises(ConfigError, match="found none"):
        TransformersDetector(model)
    with pytest.raises(ConfigError, match="min_score"):
        TransformersDetector(model, min_score=0)
