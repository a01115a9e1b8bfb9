"""Whether a contender delivers what is in the shard: the speed of wrong results is of no interest."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from readers import CONTENDERS, Contender

_NUM_COMPARED = 5


def make_reference(shard: Path, images: int) -> dict[str, Any]:
    """Read with the standard library: every id, and about five images whole."""
    step = max(1, images // _NUM_COMPARED)
    ids: list[int] = []
    annotations: dict[int, Any] = {}
    digests: dict[int, str] = {}
    with tarfile.open(shard, "r|*") as tar:
        for member in tar:
            stem, _, suffix = member.name.rpartition("/")[2].rpartition(".")
            if not member.isfile():
                continue
            image_id = int(stem.removeprefix("sa_"))
            if suffix == "jpg":
                ids.append(image_id)
            if image_id % step == 0:
                data = tar.extractfile(member).read()  # type: ignore[union-attr] -- a file
                if suffix == "jpg":
                    digests[image_id] = _digest(data)
                else:
                    annotations[image_id] = json.loads(data)["annotations"]
    return {"ids": sorted(ids), "annotations": annotations, "digests": digests}


def check(key: str, shard: Path, scratch: Path, reference: dict[str, Any]) -> None:
    """Read the shard with a contender.

    Raises
    ------
    ValueError
        What it delivers differs from the reference.

    """
    contender = CONTENDERS[key]
    if contender.gives == "bytes":
        return
    ids: list[int] = []
    compared = 0
    for item in contender.run(shard, scratch):
        for image_id, row in _iter_rows(contender, item, set(reference["annotations"])):
            ids.append(image_id)
            if row is not None:
                compared += 1
                _compare(key, image_id, row, reference)
    if sorted(ids) != reference["ids"]:
        raise ValueError(f"{key}: expected the {len(reference['ids'])} images of the shard, found {len(ids)} others")
    if compared != len(reference["annotations"]):
        raise ValueError(f"{key}: expected {len(reference['annotations'])} images to compare, found {compared}")


def _compare(key: str, image_id: int, row: dict[str, Any], reference: dict[str, Any]) -> None:
    annotations = row["json"]["annotations"] if "json" in row else row["annotations"]
    if annotations != reference["annotations"][image_id]:
        raise ValueError(f"{key}: the annotations of image {image_id} differ")
    jpeg = row.get("image", row.get("jpg"))
    jpeg = jpeg["bytes"] if isinstance(jpeg, dict) else jpeg
    if jpeg is not None and _digest(jpeg) != reference["digests"][image_id]:
        raise ValueError(f"{key}: the JPEG of image {image_id} differs")


def _iter_rows(contender: Contender, item: Any, wanted: set[int]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Give each image's id, and its row if it is wanted."""
    if contender.gives == "row":
        image_id = item["json"]["image"]["image_id"] if "json" in item else item["image_id"]
        yield image_id, item if image_id in wanted else None
        return
    batches = [item] if contender.gives == "batch" else item.with_format("arrow").iter(batch_size=32)
    for batch in batches:
        for at, image_id in enumerate(batch.column("image_id").to_pylist()):
            yield image_id, batch.slice(at, 1).to_pylist()[0] if image_id in wanted else None


def load_reference(path: Path) -> dict[str, Any]:
    """Read what `make_reference` gave back from JSON, whose keys are strings."""
    reference = json.loads(path.read_text())
    return {
        name: {int(key): value for key, value in part.items()} if isinstance(part, dict) else part
        for name, part in reference.items()
    }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
