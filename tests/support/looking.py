"""Rows to look at: small ones with known masks, and a folder of Parquet with labels as a conversion leaves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pycocotools import mask as coco

from sa1b_hf.features import sa1b_features
from sa1b_hf.reader import iter_batches
from sa1b_hf.testing import make_shard

LABEL_NAMES = ("thing", "stuff", "sky")
LABEL_TYPE = pa.list_(
    pa.struct(
        [
            ("annotation_id", pa.int64()),
            ("label_ids", pa.list_(pa.int32())),
            ("scores", pa.list_(pa.float32())),
            ("margin", pa.float32()),
            ("entropy", pa.float32()),
        ]
    )
)


def annotation(mask: np.ndarray, number: int, **fields: Any) -> dict[str, Any]:
    """An annotation in Meta's keys of a mask of 0 and 1."""
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    x, y, w, h = coco.toBbox(encoded).tolist()
    return {
        "id": 1000 + number,
        "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode()},
        "bbox": [x, y, w - 1, h - 1],
        "area": int(mask.sum()),
        "predicted_iou": 0.9 + number / 1000,
        "stability_score": 0.99 - number / 1000,
        "point_coords": [[x + 0.5, y + 0.5]],
        "crop_box": [0.0, 0.0, float(mask.shape[1]), float(mask.shape[0])],
        **fields,
    }


def row_of(masks: list[np.ndarray], *, image_id: int = 7, seed: int = 0) -> dict[str, Any]:
    """A row with a dark, noisy image and these masks."""
    height, width = masks[0].shape
    pixels = np.random.default_rng(seed).integers(0, 40, (height, width, 3), np.uint8)
    return {
        "image": Image.fromarray(pixels),
        "image_id": image_id,
        "width": width,
        "height": height,
        "file_name": f"sa_{image_id}.jpg",
        "shard": "sa_000000",
        "annotations": [annotation(mask, number) for number, mask in enumerate(masks)],
    }


def labels_for(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Labels in turn: 0, 1, 2, abstained."""
    found = []
    for number, one in enumerate(annotations):
        label = number % 4 if number % 4 < 3 else -1
        ids, scores = ([label, 0], [0.75, 0.2]) if label >= 0 else ([-1], [0.0])
        found.append({"annotation_id": one["id"], "label_ids": ids, "scores": scores, "margin": 0.5, "entropy": 0.1})
    return found


def make_converted(folder: Path, num_images: int = 6) -> Path:
    """A converted directory with labels, as `sa1b convert` lays it out."""
    shard = make_shard(folder / "sa_000000.tar", num_images=num_images, order="sorted")
    table = pa.Table.from_batches(list(iter_batches(shard.path, "sa_000000")))
    labels = [labels_for(row) for row in table["annotations"].to_pylist()]
    table = table.append_column("labels", pa.array(labels, LABEL_TYPE))
    features = sa1b_features()
    metadata = {
        **(features.arrow_schema.metadata or {}),
        b"sa1b_hf": json.dumps({"version": 1, "transforms": [{"kind": "labels", "names": LABEL_NAMES}]}).encode(),
    }
    info = json.loads(metadata[b"huggingface"])
    int32, float32 = ({"dtype": kind, "_type": "Value"} for kind in ("int32", "float32"))
    label = {"annotation_id": {"dtype": "int64", "_type": "Value"}, "margin": float32, "entropy": float32}
    info["info"]["features"]["labels"] = [{**label, "label_ids": [int32], "scores": [float32]}]
    metadata[b"huggingface"] = json.dumps(info).encode()
    out = folder / "converted"
    (out / "data" / "train").mkdir(parents=True)
    (out / "manifests").mkdir()
    (out / "manifests" / "sa_000000.json").write_text('{"version": 1}')
    half = table.num_rows // 2
    for part, rows in enumerate([table.slice(0, half), table.slice(half)]):
        pq.write_table(rows.replace_schema_metadata(metadata), out / "data" / "train" / f"sa_000000-{part:05d}.parquet")
    return out
