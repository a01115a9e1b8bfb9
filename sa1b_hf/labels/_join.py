"""Labels, captions and other values from tables, by annotation id or by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sa1b_hf.errors import ConfigError

from ._evidence import labels_from_evidence
from ._key_index import KeyIndex, digest_of, integer_keys
from ._names import image_ids_of
from ._read_column import read_annotation_ids, row_starts
from ._table_file import read_table
from ._transfer_report import TransferReport
from .base import ABSTAINED, ImageMasks, MaskLabels, Provenance, Vocabulary

__all__ = ["AnnotationTransfer", "JoinColumn"]


class AnnotationTransfer:
    """A labeler that knows the labels of a table, by annotation id.

    Parameters
    ----------
    table
        As for `read_table`.
    annotation_id
        Column of annotation ids.
    label
        Column of names.
    score
        Column of scores over 0; 1 for every label without one.
    image
        Column of image ids or names, by which the report can tell annotations that their image does not have from
        images that did not come by. SA-1B's annotation ids are unique without it.
    vocabulary
        Labels to take; by default all that the table has, sorted.
    name
        Of the source, for the provenance.
    top_k
        Most labels of a mask, of which the table may have several, in rows of their own.

    Raises
    ------
    ConfigError
        A column is missing or of another type, or there are no labels.

    """

    def __init__(
        self,
        table: Any,
        *,
        annotation_id: str = "annotation_id",
        label: str = "label",
        score: str | None = None,
        image: str | None = None,
        vocabulary: Vocabulary | None = None,
        name: str = "table",
        top_k: int = 5,
    ) -> None:
        columns = [column for column in (annotation_id, label, score, image) if column is not None]
        rows = read_table(table, columns=columns)
        names, label_ids = _label_ids(rows.column(label), vocabulary)
        self._label_ids, self._top_k = label_ids, top_k
        self._scores = np.ones(len(label_ids), np.float32) if score is None else _scores(rows.column(score))
        unusable = {
            "no-label": np.asarray(rows.column(label).is_null()),
            "not-in-vocabulary": label_ids == ABSTAINED,
            "no-score": ~(self._scores > 0),
        }
        images = None if image is None else image_ids_of(rows.column(image))
        self._index = KeyIndex(integer_keys(rows.column(annotation_id)), unusable, images)
        self._index.drop_repeated(label_ids)
        self._masks: Counter[str] = Counter()
        words = Vocabulary(names, templates=("{}",)) if vocabulary is None else vocabulary
        kind = "given" if score is None else "table"
        options = {"top_k": top_k, "label": label}
        self._provenance = Provenance(
            name, words, revision=digest_of(rows, ""), mode="annotation_id", scores=kind, options=options
        )

    @property
    def provenance(self) -> Provenance:
        """Name, digest and options."""
        return self._provenance

    def label(self, images: Sequence[ImageMasks]) -> list[MaskLabels]:
        """Look up the labels of the masks of some images; abstained where the table has none."""
        return [self._label_one(image) for image in images]

    def report(self) -> TransferReport:
        """Give the counts so far."""
        matched, unmatched = self._index.counts()
        unlabeled = Counter(self._masks)
        labeled = unlabeled.pop("labeled", 0)
        total = labeled + unlabeled.total()
        return TransferReport(self._index.num_rows, matched, unmatched, total, labeled, unlabeled)

    def _label_one(self, image: ImageMasks) -> MaskLabels:
        masks, rows = self._index.find(np.asarray(image.annotation_ids, np.int64))
        labels = labels_from_evidence(len(image), masks, self._label_ids[rows], self._scores[rows], top_k=self._top_k)
        # images without an id are all counted
        if image.image_id is None or self._index.see_images([image.image_id])[0]:
            num_missing = int(labels.abstained.sum())
            self._masks += Counter({"labeled": len(labels) - num_missing, "not-in-source": num_missing})
        return labels


class JoinColumn:
    """Adds a column with values of a table, by image or by annotation: captions, for example.

    A transform of tables, see `apply_transform`.

    Parameters
    ----------
    table
        As for `read_table`.
    value
        Column to take.
    key
        Column of image ids or names such as ``"sa_560"``, ``"sa_560.jpg"``, ``"sa_000000/sa_560.jpg"``; or of
        annotation ids.
    on
        What `key` names. By ``"annotation"`` the new column has lists, aligned with ``annotations``.
    column
        Name of the new column; that of `value` by default.

    Raises
    ------
    ConfigError
        A column is missing or of another type.

    Notes
    -----
    Images and annotations that the table does not have get null. Of several rows with one key the first counts.

    Examples
    --------
    >>> captions = pa.table({"image": ["sa_000000/sa_560.jpg"], "caption": ["a harbour"]})
    >>> join = JoinColumn(captions, value="caption", key="image")
    >>> join(pa.table({"image_id": [559, 560]})).column("caption").to_pylist()
    [None, 'a harbour']
    >>> print(join.report())
    1 of 1 rows matched, 1 of 2 targets labeled (not-in-source 1)

    """

    def __init__(
        self,
        table: Any,
        *,
        value: str,
        key: str,
        on: Literal["image", "annotation"] = "image",
        column: str | None = None,
    ) -> None:
        if on not in ("image", "annotation"):
            raise ConfigError(f"on: expected 'image' or 'annotation', found {on!r}")
        rows = read_table(table, columns=[key, value])
        self._on, self._column = on, value if column is None else column
        self._values = rows.column(value).combine_chunks()
        keys = image_ids_of(rows.column(key)) if on == "image" else integer_keys(rows.column(key))
        self._index = KeyIndex(keys, {"no-value": np.asarray(rows.column(value).is_null())})
        self._index.drop_repeated()
        self._targets: Counter[str] = Counter()
        self._fingerprint = digest_of(rows, (on, self._column))

    @property
    def fingerprint(self) -> str:
        """Identity of what it does."""
        return self._fingerprint

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was done, for the table's metadata."""
        return {"kind": "join", "column": self._column, "on": self._on, "digest": self._fingerprint}

    def features(self, features: datasets.Features) -> datasets.Features:
        """Add the column's feature."""
        new = datasets.Features.from_arrow_schema(pa.schema([("value", self._values.type)]))["value"]
        return datasets.Features({**features, self._column: new if self._on == "image" else [new]})

    def __call__(self, table: Any) -> Any:
        """Add the column to an Arrow table with ``image_id``, or ``annotations``."""
        by_image = self._on == "image"
        keys = integer_keys(table.column("image_id")) if by_image else read_annotation_ids(table.column("annotations"))
        values = self._look_up(keys)
        self._count(table, np.asarray(pc.is_valid(values)))
        if not by_image:
            starts = pa.array(row_starts(table.column("annotations")), pa.int32())
            values = pa.ListArray.from_arrays(starts, values)
        return table.append_column(self._column, values)

    def report(self) -> TransferReport:
        """Give the counts so far."""
        matched, unmatched = self._index.counts()
        unlabeled = Counter(self._targets)
        labeled = unlabeled.pop("labeled", 0)
        total = labeled + unlabeled.total()
        return TransferReport(self._index.num_rows, matched, unmatched, total, labeled, unlabeled)

    def _look_up(self, keys: NDArray[np.int64]) -> Any:
        places, rows = self._index.find(keys)
        index = np.full(len(keys), -1)
        index[places] = rows
        return self._values.take(pa.array(np.maximum(index, 0), mask=index < 0))

    def _count(self, table: Any, found: NDArray[np.bool_]) -> None:
        is_new = np.ones(table.num_rows, bool)
        if "image_id" in table.schema.names:
            is_new = self._index.see_images(table.column("image_id").to_pylist())
        if self._on == "annotation":
            is_new = np.repeat(is_new, np.diff(row_starts(table.column("annotations"))))
        num_found, num_all = int(found[is_new].sum()), int(is_new.sum())
        self._targets += Counter({"labeled": num_found, "not-in-source": num_all - num_found})


def _label_ids(column: Any, vocabulary: Vocabulary | None) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise ConfigError(f"label: expected names, found {column.type}")
    known = pc.unique(column.combine_chunks()).drop_null().to_pylist()
    names = tuple(sorted(known)) if vocabulary is None else vocabulary.names
    if not names:
        raise ConfigError("label: expected at least one, found none")
    found = pc.index_in(column, pa.array(names, column.type))
    ids: NDArray[np.int32] = found.combine_chunks().fill_null(ABSTAINED).to_numpy(zero_copy_only=False)
    return names, ids.astype(np.int32)


def _scores(column: Any) -> NDArray[np.float32]:
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise ConfigError(f"score: expected numbers, found {column.type}")
    return np.asarray(column.combine_chunks().cast(pa.float32()).fill_null(0).to_numpy(zero_copy_only=False))
