"""Images of flat colours in known shapes, as rows and as a shard: what a labeler should say about them is known."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
from PIL import Image

from sa1b_hf import rle

SIZE = (96, 144)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
NAMES = tuple(COLOURS)


def shapes(rng):
    """A rectangle, a disc, an L and a bar, each in a quarter of the image; bool, shape (4, h, w)."""
    height, width = SIZE
    y, x = np.mgrid[:height, :width]
    dy, dx = rng.integers(0, 8, 2)
    top, left, right = y - dy, x - dx, x - dx - 72
    low = y - dy - 48
    rectangle = (top >= 4) & (top < 36) & (left >= 4) & (left < 60)
    disc = (top - 20) ** 2 + (right - 30) ** 2 < 17**2
    ell = ((low >= 0) & (low < 38) & (left >= 4) & (left < 22)) | ((low >= 20) & (low < 38) & (left >= 4) & (left < 56))
    bar = (low >= 8) & (low < 24) & (right >= 0) & (right < 62)
    return np.stack([rectangle, disc, ell, bar])


def picture(image_id):
    """The pixels of an image, its masks, and the colour of each, by its place among `NAMES`."""
    rng = np.random.default_rng(image_id)
    planes, colours = shapes(rng), rng.permutation(len(NAMES))
    pixels = np.full((*SIZE, 3), 128, np.uint8)
    for plane, colour in zip(planes, colours, strict=True):
        pixels[plane] = COLOURS[NAMES[colour]]
    return pixels, planes, colours


def document(image_id):
    """Meta's document of an image; an image with an id of a multiple of five has no masks."""
    _, planes, _ = picture(image_id)
    annotations = []
    for index, mask in enumerate(rle.encode(planes) if image_id % 5 else []):
        x, y, w, h = (float(one) for one in rle.bbox(mask))
        annotations.append(
            {
                "id": image_id * 10 + index,
                "segmentation": {"size": list(SIZE), "counts": mask["counts"]},
                "bbox": [x, y, w - 1, h - 1],
                "area": int(rle.area(mask)),
                "predicted_iou": 0.95,
                "stability_score": 0.97,
                "point_coords": [[x, y]],
                "crop_box": [0.0, 0.0, float(SIZE[1]), float(SIZE[0])],
            }
        )
    image = {"image_id": image_id, "width": SIZE[1], "height": SIZE[0], "file_name": f"sa_{image_id}.jpg"}
    return {"image": image, "annotations": annotations}


def expected(image_id):
    """The colour of each annotation of an image, by its id."""
    if image_id % 5 == 0:
        return {}
    return {image_id * 10 + index: int(colour) for index, colour in enumerate(picture(image_id)[2])}


def jpeg(image_id):
    buffer = io.BytesIO()
    Image.fromarray(picture(image_id)[0]).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def write_shard(path, image_ids):
    """Write a plain tar."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for image_id in image_ids:
            files = {"jpg": jpeg(image_id), "json": json.dumps(document(image_id)).encode()}
            for suffix, data in files.items():
                member = tarfile.TarInfo(f"sa_{image_id}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path
