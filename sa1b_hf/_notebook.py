"""A picture for notebooks whose masks tell about themselves when pointed at."""

from __future__ import annotations

import html
import json
import uuid
from functools import lru_cache
from importlib.resources import files
from string import Template

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._id_map import data_uri, encode_id_map, encode_picture

__all__ = ["MaskWidget"]


class MaskWidget:
    """An image with masks, for the last line of a notebook's cell; see `sa1b_hf.viz.show`.

    Attributes
    ----------
    picture
        The image with its masks, as it is shown where no script runs.
    ids
        uint, shape (h, w): which mask is seen where, 0 for none, i + 1 for mask i.
    texts
        What is said about each mask.

    """

    def __init__(self, picture: Image.Image, ids: NDArray[np.unsignedinteger], texts: list[str], title: str) -> None:
        self.picture = picture
        self.ids = ids
        self.texts = texts
        self._title = title

    def _repr_html_(self) -> str:
        """Give HTML that needs nothing from anywhere: two pictures in data URIs, and a script of a few lines."""
        return _template().substitute(
            id=f"sa1b-{uuid.uuid4().hex}",
            picture=data_uri(encode_picture(self.picture, quality=82), "jpeg"),
            ids=data_uri(encode_id_map(self.ids), "png"),
            # a closing tag within a text must not end the script
            facts=json.dumps(self.texts).replace("<", "\\u003c"),
            alt=html.escape(f"{self._title} with {len(self.texts)} masks", quote=True),
            width=self.picture.width,
            height=self.picture.height,
        )

    def __repr__(self) -> str:
        return f"MaskWidget({self._title}, {len(self.texts)} masks)"


@lru_cache(maxsize=1)
def _template() -> Template:
    return Template(files("sa1b_hf").joinpath("data/widget.html").read_text(encoding="utf-8"))
