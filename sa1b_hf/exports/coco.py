"""COCO JSON, written as a stream: one file a shard, and any number of these as one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sa1b_hf._disk import disk_problem, publish
from sa1b_hf._documents import iter_image_files
from sa1b_hf._parts import DraftFolder, Drafts, RowRange
from sa1b_hf.errors import ConfigError, SA1BError

from .categories import Categories

__all__ = ["CocoParts", "merge_coco"]

_ANNOTATIONS: Final = '"annotations": ['
_IMAGES: Final = '"images": ['
_END: Final = "]"
_KEPT: Final = ("predicted_iou", "stability_score", "point_coords", "crop_box")


class CocoParts:
    """Writes ``annotations/<shard>.json``, and the JPEGs, if rows have them, to ``images/<shard>/``.

    Parameters
    ----------
    drafts
        Where to.
    shard
        Name.
    provenance
        See `Categories`.

    Notes
    -----
    ``bbox`` is in the COCO convention, pixels counted, one more each way than SA-1B's. ``segmentation`` is compressed
    run-length text, as pycocotools takes it, ``iscrowd`` 0, ``category_id`` 1 for "object" or 2 and up for labels.
    SA-1B's further keys are kept. An annotation is a line, an image too, and annotations come first: that is what a
    stream can write, and `merge_coco` can read.

    """

    def __init__(self, drafts: Drafts, shard: str, provenance: Mapping[str, Any]) -> None:
        self._shard = shard
        self._drafts = drafts
        self._categories = Categories(provenance)
        self._images: DraftFolder | None = None
        self._entries: list[str] = []
        self._rows = RowRange()
        self._file = drafts.file(f"annotations/{shard}.json")
        self._file.write(_head(shard, self._categories.names).encode())
        self._annotations = _Lines()

    def write(self, group: pa.Table) -> None:
        """Append images."""
        for image in iter_image_files(group, documents=False):
            row, name = image.row, f"{image.name}.jpg"
            if image.jpeg is not None:
                if self._images is None:
                    self._images = self._drafts.folder(f"images/{self._shard}")
                self._images.write(name, image.jpeg)
                name = f"{self._shard}/{name}"
            entry = {"id": row["image_id"], "width": row["width"], "height": row["height"], "file_name": name}
            self._entries.append(json.dumps(entry))
            for line in self._annotation_lines(row):
                self._file.write(self._annotations.join(line))
        self._rows = self._rows.add(group["image_id"])

    def _annotation_lines(self, row: Mapping[str, Any]) -> Iterator[str]:
        for category, one in zip(self._categories.of_row(row), row["annotations"], strict=True):
            coco = {
                "id": one["id"],
                "image_id": row["image_id"],
                "category_id": category + 1,
                "iscrowd": 0,
                "area": one["area"],
                "bbox": _coco_box(one),
                "segmentation": one["segmentation"],
            }
            yield json.dumps(coco | {key: one[key] for key in _KEPT})

    def finish(self) -> None:
        """Write the images, which were few enough to remember, and complete the file."""
        images = _Lines()
        self._file.write(f"\n{_END},\n{_IMAGES}".encode())
        for entry in self._entries:
            self._file.write(images.join(entry))
        self._file.write(f"\n{_END}}}\n".encode())
        self._file.finish(self._rows)
        if self._images is not None:
            self._images.finish(self._rows)


class _Lines:
    """Items of a JSON list, each on its line."""

    _separator = "\n"

    def join(self, line: str) -> bytes:
        text, self._separator = f"{self._separator}{line}", ",\n"
        return text.encode()


def _coco_box(annotation: Mapping[str, Any]) -> list[float]:
    x, y, width, height = annotation["bbox"]
    return [x, y, width + 1, height + 1] if annotation["area"] else [x, y, 0.0, 0.0]


def _head(description: str, names: list[str]) -> str:
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    info = {"description": f"SA-1B, {description}"}
    return f'{{"info": {json.dumps(info)},\n"licenses": [],\n"categories": {json.dumps(categories)},\n{_ANNOTATIONS}'


def merge_coco(files: Iterable[str | os.PathLike[str]], path: str | os.PathLike[str]) -> None:
    """Join files that a conversion to COCO wrote, line by line, in little memory.

    Parameters
    ----------
    files
        ``annotations/<shard>.json`` of one conversion, whose categories are the same.
    path
        The file to write; it appears when it is complete.

    Raises
    ------
    ConfigError
        A file was not written by `sa1b_hf`, or has other categories than the first one.
    SourceError
        It cannot be written.

    Notes
    -----
    Ids of images and annotations are SA-1B's own, which are unique over all shards.

    """
    paths = [Path(file) for file in files]
    heads = {_read_categories(one) for one in paths}
    if len(heads) != 1:
        raise ConfigError(f"files: expected one list of categories in all of them, found {len(heads)}")
    names = [category["name"] for category in json.loads(heads.pop())]
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(_head(f"{len(paths)} shards", names))
            _copy_section(paths, _ANNOTATIONS, file)
            file.write(f"\n{_END},\n{_IMAGES}")
            _copy_section(paths, _IMAGES, file)
            file.write(f"\n{_END}}}\n")
            file.flush()
            os.fsync(file.fileno())
        publish(draft, target)
    except OSError as error:
        if isinstance(error, SA1BError):
            raise
        raise disk_problem(error, target) from None
    finally:
        draft.unlink(missing_ok=True)


def _read_categories(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith('"categories": '):
                return line.removeprefix('"categories": ').rstrip(",\n")
            if line.startswith(_ANNOTATIONS):
                break
    raise ConfigError(f"{path}: expected a file that a conversion to COCO wrote, found another one")


def _copy_section(paths: Iterable[Path], begin: str, target: Any) -> None:
    lines = _Lines()
    for path in paths:
        with path.open(encoding="utf-8") as file:
            inside = False
            for line in file:
                if inside and line.startswith(_END):
                    break
                if inside:
                    target.write(lines.join(line.rstrip(",\n")).decode())
                inside = inside or line.startswith(begin)
