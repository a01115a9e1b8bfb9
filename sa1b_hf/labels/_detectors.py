"""Text-prompted detectors and segmenters of transformers: image and vocabulary in, detections out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa1b_hf import rle
from sa1b_hf.errors import ConfigError, MissingExtraError

from ._backend import functional, torch, transformers
from ._detections import Detections
from ._loading import weights_digest
from ._vocabulary import Vocabulary

__all__ = ["TransformersDetector"]

_OWL = ("owlvit", "owlv2")
_DINO = ("grounding-dino", "mm-grounding-dino")
_SEGMENTERS = ("sam3",)


class TransformersDetector:
    """OWL-ViT, OWLv2, Grounding DINO or SAM 3.

    Parameters
    ----------
    model
        Name on the Hub, a folder, or a model of transformers.
    revision
        Commit, branch or tag of a model on the Hub.
    image_processor, tokenizer
        Of a model that is not given by name.
    min_score
        Least score of a detection, over 0 to 1.
    device
        To run on; the first GPU if there is one, by default.
    prompts_at_once
        Texts of one pass over an image.

    Attributes
    ----------
    name, revision
        Of the model; the revision is a digest of its weights where no commit is known.
    options
        What else decides.

    Raises
    ------
    ConfigError
        The model cannot be loaded, or is of another kind.
    MissingExtraError
        torch or transformers is not installed.

    Notes
    -----
    OWL-ViT and OWLv2 are given the sentences of the vocabulary's templates, the others its bare words. Scores are
    sigmoids: of a box and a text with OWL; the highest of a text's tokens with Grounding DINO; of an instance times the
    presence of its text with SAM 3. Of several texts of one class the best counts.

    """

    def __init__(
        self,
        model: Any,
        *,
        revision: str | None = None,
        image_processor: Any = None,
        tokenizer: Any = None,
        min_score: float = 0.1,
        device: str | None = None,
        prompts_at_once: int = 128,
    ) -> None:
        if not 0 < min_score <= 1:
            raise ConfigError(f"min_score: expected more than 0, at most 1, found {min_score!r}")
        if prompts_at_once < 1:
            raise ConfigError(f"prompts_at_once: expected 1 or more, found {prompts_at_once!r}")
        if isinstance(model, (str, os.PathLike)):
            model, image_processor, tokenizer, self.name = _load(os.fspath(model), revision, image_processor, tokenizer)
        else:
            self.name = Path(str(getattr(model, "name_or_path", "") or type(model).__name__)).name
        if image_processor is None or tokenizer is None:
            raise ConfigError("image_processor, tokenizer: expected those of the model that was given, found none")
        self.kind = str(model.config.model_type)
        if self.kind not in (*_OWL, *_DINO, *_SEGMENTERS):
            expected = f"expected one of {[*_OWL, *_DINO, *_SEGMENTERS]}"
            raise ConfigError(f"model: {expected}, found {self.kind!r} ({type(model).__name__})")
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.revision = str(getattr(model.config, "_commit_hash", None) or weights_digest(model))
        self._model, self._images, self._tokenizer = model.to(self.device).eval(), image_processor, tokenizer
        self._min_score, self._prompts_at_once = min_score, prompts_at_once

    @property
    def options(self) -> Mapping[str, Any]:
        """What else decides."""
        return {"min_score": self._min_score, "detector": self.kind}

    def detect(self, pixels: NDArray[np.uint8], vocabulary: Vocabulary) -> Detections:
        """Find the classes of a vocabulary, background words included.

        Parameters
        ----------
        pixels
            Shape (H, W, 3), RGB.
        vocabulary
            What to look for.

        Returns
        -------
        Detections
            A box comes once for each class that reaches the least score there.

        """
        texts, label_ids = _prompts(vocabulary, bare=self.kind not in _OWL)
        size = (pixels.shape[0], pixels.shape[1])
        inputs = self._images([pixels], return_tensors="pt")
        image = {name: value.to(self.device) for name, value in inputs.items() if hasattr(value, "to")}
        with torch.inference_mode():
            if self.kind in _SEGMENTERS:
                return self._segment(image, size, texts, label_ids)
            detect = self._owl if self.kind in _OWL else self._dino
            chunks = range(0, len(texts), self._prompts_at_once)
            parts = [
                _keep(*detect(image, size, texts[at : at + self._prompts_at_once]), label_ids[at:], self._min_score)
                for at in chunks
            ]
        return Detections(*(np.concatenate(one) for one in zip(*parts, strict=True)))

    def _owl(self, image: Mapping[str, Any], size: tuple[int, int], texts: Sequence[str]) -> tuple[Any, Any]:
        tokens = self._tokenize(texts, self._model.config.text_config.max_position_embeddings)
        outputs = self._model(**tokens, pixel_values=image["pixel_values"])
        # OWLv2 pads images to a square, OWL-ViT squeezes them into one
        sides = (max(size), max(size)) if self.kind == "owlv2" else size
        return outputs.logits[0].sigmoid(), _corners(outputs.pred_boxes[0], sides)

    def _dino(self, image: Mapping[str, Any], size: tuple[int, int], texts: Sequence[str]) -> tuple[Any, Any]:
        scores, boxes = [], []
        for ids, spans in self._sentences(texts):
            tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            outputs = self._model(**tokens, token_type_ids=torch.zeros_like(ids), **image)
            found = outputs.logits[0].sigmoid()
            scores.append(torch.stack([found[:, span].amax(dim=1) for span in spans], dim=1))
            boxes.append(_corners(outputs.pred_boxes[0], size))
        # each sentence has its own boxes, which say nothing about the texts of the others
        return torch.block_diag(*scores), torch.cat(boxes)

    def _sentences(self, texts: Sequence[str]) -> Iterator[tuple[Any, list[slice]]]:
        """Join texts to sentences such as ``"a cat. a dog."`` as long as the model takes them; where each text is."""
        limit = int(self._model.config.max_text_len)
        stop = self._tokenizer.convert_tokens_to_ids(".")
        first, last = self._tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
        ids: list[int] = [first]
        spans: list[slice] = []
        for text in texts:
            clean = text.lower().replace(".", " ").strip()
            words = self._tokenizer(clean, add_special_tokens=False)["input_ids"][: limit - 3]
            if len(ids) + len(words) + 2 > limit:
                yield torch.tensor([[*ids, last]], device=self.device), spans
                ids, spans = [first], []
            spans.append(slice(len(ids), len(ids) + max(len(words), 1)))
            ids += [*words, stop]
        yield torch.tensor([[*ids, last]], device=self.device), spans

    def _segment(
        self, image: Mapping[str, Any], size: tuple[int, int], texts: Sequence[str], label_ids: NDArray[np.int32]
    ) -> Detections:
        seen = self._model.get_vision_features(pixel_values=image["pixel_values"])
        boxes, labels, scores, masks = [np.zeros((0, 4))], [], [], []
        for text, label_id in zip(texts, label_ids.tolist(), strict=True):
            tokens = self._tokenize([text], self._model.config.text_config.max_position_embeddings)
            outputs = self._model(vision_embeds=seen, **tokens)
            found = outputs.pred_logits[0].sigmoid()
            if outputs.presence_logits is not None:
                found = found * outputs.presence_logits[0].sigmoid()
            keep = found >= self._min_score
            if not keep.any():
                continue
            scale = torch.tensor([size[1], size[0]] * 2, device=self.device)
            boxes.append((outputs.pred_boxes[0][keep] * scale).float().cpu().numpy())
            scores += found[keep].tolist()
            labels += [label_id] * len(boxes[-1])
            # one at a time: at the size of the image they would take gigabytes
            masks += [_encode(one, size) for one in outputs.pred_masks[0][keep]]
        return Detections(np.concatenate(boxes), np.array(labels, np.int32), np.array(scores, np.float32), masks)

    def _tokenize(self, texts: Sequence[str], length: int) -> dict[str, Any]:
        options = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
        tokens = self._tokenizer(list(texts), **options)
        return {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask")}


def _load(name: str, revision: str | None, image_processor: Any, tokenizer: Any) -> tuple[Any, Any, Any, str]:
    is_folder = Path(name).is_dir()
    public = Path(name).resolve().name if is_folder else name
    try:
        kind = transformers.AutoConfig.from_pretrained(name, revision=revision).model_type
        auto = transformers.AutoModel if kind in _SEGMENTERS else transformers.AutoModelForZeroShotObjectDetection
        model = auto.from_pretrained(name, revision=revision)
        if tokenizer is None:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, revision=revision)
        if image_processor is None:
            image_processor = transformers.AutoImageProcessor.from_pretrained(name, revision=revision)
    except MissingExtraError:
        raise
    except (OSError, ValueError, KeyError, ImportError) as error:
        found = str(error).strip().partition("\n")[0]
        expected = "expected a detector of the Hub or a folder with model, tokenizer and image processor"
        raise ConfigError(f"model {public}: {expected}, found: {found}") from error
    return model, image_processor, tokenizer, public


def _prompts(vocabulary: Vocabulary, *, bare: bool) -> tuple[list[str], NDArray[np.int32]]:
    words = vocabulary
    if bare:
        words = Vocabulary(vocabulary.names, vocabulary.synonyms, ("{}",), vocabulary.background)
    prompts = [words.prompts(index) for index in range(len(words.names) + len(words.background))]
    texts = [text for one in prompts for text in one]
    return texts, np.repeat(np.arange(len(prompts), dtype=np.int32), [len(one) for one in prompts])


def _corners(boxes_cxcywh: Any, size: tuple[int, int]) -> Any:
    """Middle, width and height as shares of the sides → left, top, right, bottom in pixels."""
    centre, half = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:] / 2
    scale = torch.tensor([size[1], size[0]] * 2, device=boxes_cxcywh.device)
    return torch.cat([centre - half, centre + half], dim=1) * scale


def _keep(scores: Any, boxes_xyxy: Any, label_ids: NDArray[np.int32], min_score: float) -> tuple[Any, Any, Any]:
    """Boxes, label ids and scores of all that reach the least score; of texts of one class the best counts."""
    table, owner = scores.float().cpu().numpy(), label_ids[: scores.shape[1]]
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    table = np.maximum.reduceat(table, starts, axis=1)
    which, column = np.nonzero(table >= min_score)
    return boxes_xyxy.float().cpu().numpy()[which], owner[starts][column], table[which, column]


def _encode(logits: Any, size: tuple[int, int]) -> Any:
    large = functional.interpolate(logits[None, None].float(), size=size, mode="bilinear", align_corners=False)
    return rle.encode((large[0, 0] > 0).cpu().numpy())
