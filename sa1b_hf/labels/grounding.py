"""Labels from text-prompted detectors and segmenters: what they find, given to the masks that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sa1b_hf.errors import ConfigError

from ._detections import Detections, match_detections
from ._detectors import TransformersDetector
from ._evidence import labels_from_evidence
from .base import ImageMasks, MaskLabels, Provenance, Vocabulary

__all__ = ["Detections", "Detector", "GroundingLabeler", "TransformersDetector", "match_detections"]


@runtime_checkable
class Detector(Protocol):
    """Anything that finds the words of a vocabulary in an image."""

    @property
    def name(self) -> str:
        """Of the model, never a path."""
        ...

    @property
    def revision(self) -> str:
        """Commit, or a digest of the weights."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """What else decides, as JSON can hold it."""
        ...

    def detect(self, pixels: NDArray[np.uint8], vocabulary: Vocabulary) -> Detections:
        """Find what there is.

        Parameters
        ----------
        pixels
            Shape (H, W, 3), RGB.
        vocabulary
            What to look for.

        Returns
        -------
        Detections
            In pixels of the image.

        """
        ...


class GroundingLabeler:
    """Names masks by what a detector finds where they are.

    Parameters
    ----------
    detector
        A `Detector`, such as `TransformersDetector`.
    vocabulary
        Classes, and background words: a mask for which one of these is best is abstained from.
    min_iou
        Least IoU of a mask with a detection: of masks with a segmenter's, else of boxes.
    min_contained
        Least part of a mask that lies within the detection.
    top_k
        Most labels of a mask.

    Raises
    ------
    ConfigError
        An option is out of range, or the detector is none.

    Notes
    -----
    The score of a label is that of the detection times the IoU, so that of two detections around a mask the one that
    fits better counts; it is 0 to 1, and called ``"score*iou"`` in the provenance.

    """

    def __init__(
        self,
        detector: Any,
        vocabulary: Vocabulary,
        *,
        min_iou: float = 0.5,
        min_contained: float = 0.8,
        top_k: int = 5,
    ) -> None:
        if not isinstance(detector, Detector):
            expected = "expected an object with `name`, `revision`, `options` and `detect(pixels, vocabulary)`"
            raise ConfigError(f"detector: {expected}, found {type(detector).__name__}")
        for name, value in (("min_iou", min_iou), ("min_contained", min_contained)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}: expected 0 to 1, found {value!r}")
        if top_k < 1:
            raise ConfigError(f"top_k: expected 1 or more, found {top_k!r}")
        self._detector: Detector = detector
        self._vocabulary, self._top_k = vocabulary, top_k
        self._limits = {"min_iou": min_iou, "min_contained": min_contained}
        self._provenance = Provenance(
            detector.name,
            vocabulary,
            revision=detector.revision,
            mode="grounding",
            scores="score*iou",
            options={**self._limits, "top_k": top_k, **detector.options},
        )

    @property
    def provenance(self) -> Provenance:
        """Detector, vocabulary and options."""
        return self._provenance

    def label(self, images: Sequence[ImageMasks]) -> list[MaskLabels]:
        """Label the masks of some images.

        Parameters
        ----------
        images
            Each is looked at on its own, at its full size; one without masks is not looked at.

        Returns
        -------
        list of MaskLabels
            Abstained where nothing was found.

        Raises
        ------
        ImageError, RLEError
            An image or a mask cannot be decoded.

        """
        return [self._label_one(image) for image in images]

    def _label_one(self, image: ImageMasks) -> MaskLabels:
        if not len(image):
            return MaskLabels.nothing(0)
        found = self._detector.detect(image.pixels(), self._vocabulary)
        masks, which, iou = match_detections(image.masks, image.size, found, **self._limits)
        return labels_from_evidence(
            len(image),
            masks,
            found.label_ids[which],
            found.scores[which] * iou,
            top_k=self._top_k,
            num_names=len(self._vocabulary),
        )
