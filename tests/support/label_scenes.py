"""Small images with rectangles for masks, as rows, tables and what a labeler is given."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
from PIL import Image

from sa1b_hf import rle
from sa1b_hf.features import sa1b_features
from sa1b_hf.labels.base import ImageMasks

HEIGHT, WIDTH = 40, 60


def box_mask(x, y, w, h, size=(HEIGHT, WIDTH)):
    """Run lengths of a filled rectangle."""
    dense = np.zeros(size, bool)
    dense[y : y + h, x : x + w] = True
    return rle.encode(dense)


def blob_masks(seed, count, size=(HEIGHT, WIDTH)):
    """Run lengths of overlapping discs."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    centres = rng.uniform((0, 0, 3), (*size, 14), (count, 3))
    discs = [(rows - y) ** 2 + (columns - x) ** 2 < r * r for y, x, r in centres]
    return rle.encode(np.stack(discs)) if discs else []


def image_masks(masks, image_id=1, first_id=100, image=None):
    """Give an image of some masks, as a labeler gets it."""
    ids = np.arange(first_id, first_id + len(masks))
    boxes = rle.bbox(masks) if masks else np.zeros((0, 4))
    return ImageMasks(image, (HEIGHT, WIDTH), masks, boxes, ids, image_id, f"sa_{image_id}.jpg")


def jpeg(pixels):
    """JPEG of an array, nearly without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=98, subsampling=0)
    return file.getvalue()


def paint(masks, colours):
    """Give an array in which masks have colours, later ones on top, on grey."""
    pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    for mask, colour in zip(masks, colours, strict=True):
        pixels[rle.decode(mask).astype(bool)] = colour
    return pixels


def make_row(image_id, masks, first_id=None, pixels=None):
    """Give a row of the builder's schema."""
    first_id = 100 * image_id if first_id is None else first_id
    annotations = [
        {
            "id": first_id + index,
            "segmentation": mask,
            "bbox": rle.bbox(mask).tolist(),
            "area": int(rle.area(mask)),
            "predicted_iou": 0.9,
            "stability_score": 0.96,
            "point_coords": [[1.0, 1.0]],
            "crop_box": [0.0, 0.0, float(WIDTH), float(HEIGHT)],
        }
        for index, mask in enumerate(masks)
    ]
    picture = jpeg(np.zeros((HEIGHT, WIDTH, 3), np.uint8) if pixels is None else pixels)
    return {
        "image": {"bytes": picture, "path": f"sa_{image_id}.jpg"},
        "image_id": image_id,
        "width": WIDTH,
        "height": HEIGHT,
        "file_name": f"sa_{image_id}.jpg",
        "shard": "sa_000000",
        "annotations": annotations,
    }


def make_table(rows):
    """Rows as an Arrow table of the builder's schema."""
    return pa.Table.from_pylist(rows, schema=pa.schema(sa1b_features().arrow_schema, metadata=None))


def label_column(rows_of_labels, first_ids):
    """Give a column ``labels``: of each row, per mask, label id, score, margin and entropy."""
    kind = pa.struct(
        {
            "annotation_id": pa.int64(),
            "label_ids": pa.list_(pa.int32()),
            "scores": pa.list_(pa.float32()),
            "margin": pa.float32(),
            "entropy": pa.float32(),
        }
    )
    rows = [
        [
            {"annotation_id": first + index, "label_ids": [label], "scores": [score], "margin": margin, "entropy": bits}
            for index, (label, score, margin, bits) in enumerate(labels)
        ]
        for labels, first in zip(rows_of_labels, first_ids, strict=True)
    ]
    return pa.array(rows, pa.list_(kind))
