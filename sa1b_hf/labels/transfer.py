"""Labels that others have published, brought to SA-1B's masks: by overlap, by annotation id, by image.

`MaskTransfer` and `AnnotationTransfer` are labelers, to be used like any other; `JoinColumn` adds a column of texts or
numbers. Each of them counts what it could not place, see `TransferReport`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import datasets
import numpy as np
import pyarrow as pa
from datasets import Value

from sa1b_hf.errors import ConfigError

from ._coco_file import CocoFile, read_coco
from ._evidence import labels_from_evidence
from ._join import AnnotationTransfer, JoinColumn
from ._match import Match, Pairs, match_group
from ._names import image_ids_of
from ._table_file import read_table
from ._transfer_report import TransferReport
from .base import ImageMasks, MaskLabels, Provenance, Vocabulary

__all__ = ["AddNegatives", "AnnotationTransfer", "JoinColumn", "MaskTransfer", "Match", "TransferReport", "read_table"]

_DEFAULTS = {"one_to_one": 0.5, "many_to_one": 0.5, "part_of": 0.9}


class MaskTransfer:
    """A labeler that knows the masks of a file in COCO's format.

    Parameters
    ----------
    path
        The file. An image's ``file_name`` must end with SA-1B's name of it. Files of pairs of image and noun phrase,
        as SA-Co/Gold has them, are told by their ``text_input``; each pair is matched on its own then, so that a mask
        can have several phrases.
    match
        How masks and segments are paired, see `Match`.
    min_overlap
        Least IoU of a pair, 0.5 by default; with ``match="part_of"`` the least part of the mask that lies in the
        segment, 0.9 by default.
    top_k
        Most labels of a mask.

    Raises
    ------
    ConfigError
        The file is not of this format, or an option is out of range.

    Notes
    -----
    Scores are IoUs, or the parts of the masks. A segment of several things at once (``iscrowd``) is never paired one to
    one; with ``match="many_to_one"`` its score is the part of the mask that lies in it, as COCO does it.

    """

    def __init__(
        self,
        path: str | os.PathLike[str] | CocoFile,
        *,
        match: Match = "one_to_one",
        min_overlap: float | None = None,
        top_k: int = 5,
    ) -> None:
        if match not in get_args(Match):
            raise ConfigError(f"match: expected one of {list(get_args(Match))}, found {match!r}")
        self._min_overlap = _DEFAULTS[match] if min_overlap is None else min_overlap
        if not 0 < self._min_overlap <= 1:
            raise ConfigError(f"min_overlap: expected more than 0, at most 1, found {min_overlap}")
        if top_k < 1:
            raise ConfigError(f"top_k: expected 1 or more, found {top_k}")
        self.source = path if isinstance(path, CocoFile) else read_coco(path)
        self._match: Match = match
        self._top_k = top_k
        self._provenance = Provenance(
            model=self.source.name,
            revision=self.source.digest,
            vocabulary=Vocabulary(self.source.names, templates=("{}",)),
            mode=match,
            scores="share" if match == "part_of" else "iou",
            options={"min_overlap": self._min_overlap, "top_k": top_k},
        )
        self._seen: set[int] = set()
        self._rows: Counter[str] = Counter()
        self._masks: Counter[str] = Counter()

    @property
    def provenance(self) -> Provenance:
        """File, digest and options."""
        return self._provenance

    def label(self, images: Sequence[ImageMasks]) -> list[MaskLabels]:
        """Label the masks of some images.

        Parameters
        ----------
        images
            With ``image_id`` or ``file_name``.

        Returns
        -------
        list of MaskLabels
            Abstained where no segment was found.

        Raises
        ------
        RLEError
            A mask of the images is malformed; what is malformed in the file is counted.
        ConfigError
            An image has neither id nor name.

        """
        return [self._label_one(image) for image in images]

    def report(self) -> TransferReport:
        """Give the counts so far."""
        unmatched = self.source.unusable + self._rows
        matched = unmatched.pop("matched", 0)
        if not_seen := self.source.num_rows - matched - unmatched.total():
            unmatched["not-seen"] = not_seen
        unlabeled = Counter(self._masks)
        labeled = unlabeled.pop("labeled", 0)
        negatives = sum(len(self.source.negatives.get(image_id, ())) for image_id in self._seen)
        total = labeled + unlabeled.total()
        return TransferReport(self.source.num_rows, matched, unmatched, total, labeled, unlabeled, negatives)

    def _label_one(self, image: ImageMasks) -> MaskLabels:
        image_id = _id_of(image)
        groups = self.source.groups.get(image_id, [])
        masks, label_ids, scores = [], [], []
        rows: Counter[str] = Counter()
        for group in groups:
            pairs, unmatched = match_group(image.masks, image.size, group, self._match, self._min_overlap)
            rows += unmatched + Counter(matched=len(np.unique(pairs.segments)))
            masks.append(pairs.masks)
            label_ids.append(_label_ids(group, pairs))
            scores.append(pairs.scores)
        evidence = [
            np.concatenate([np.zeros(0, kind), *parts])
            for kind, parts in ((np.int64, masks), (np.int32, label_ids), (np.float64, scores))
        ]
        labels = labels_from_evidence(len(image), *evidence, top_k=self._top_k)
        if image_id not in self._seen:
            self._seen.add(image_id)
            self._rows += rows
            missing = "no-match" if image_id in self.source.groups else "not-in-source"
            num_missing = int(labels.abstained.sum())
            self._masks += Counter({"labeled": len(labels) - num_missing, missing: num_missing})
        return labels


def _id_of(image: ImageMasks) -> int:
    if image.image_id is not None:
        return image.image_id
    found = -1 if image.file_name is None else int(image_ids_of(pa.array([image.file_name]))[0])
    if found < 0:
        raise ConfigError("expected columns 'image_id' or 'file_name', by which to find an image in the file")
    return found


def _label_ids(group: Sequence[Any], pairs: Pairs) -> Any:
    return np.array([segment.label_id for segment in group], np.int32)[pairs.segments]


class AddNegatives:
    """Adds a column with what is not to be seen in an image: the pairs of SA-Co/Gold that have no annotations.

    Parameters
    ----------
    transfer
        Its file and its label ids are meant.
    column
        Name of the column; its values are lists of int32 label ids, empty for images that the file does not have.

    """

    def __init__(self, transfer: MaskTransfer, *, column: str = "negative_label_ids") -> None:
        self._source, self._column = transfer.source, column

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was done, for the table's metadata."""
        return {"kind": "negatives", "column": self._column, "source": self._source.name, "digest": self.fingerprint}

    @property
    def fingerprint(self) -> str:
        """Identity of what it does."""
        return f"negatives-{self._column}-{self._source.digest}"

    def features(self, features: datasets.Features) -> datasets.Features:
        """Add the column's feature."""
        return datasets.Features({**features, self._column: [Value("int32")]})

    def __call__(self, table: Any) -> Any:
        """Add the column to an Arrow table with ``image_id``."""
        ids = table.column("image_id").to_pylist()
        lists = pa.array([self._source.negatives.get(image_id, []) for image_id in ids], pa.list_(pa.int32()))
        return table.append_column(self._column, lists)
