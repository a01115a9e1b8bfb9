"""What tests of pushes look at: whether a repository's card is true, and where pixels went."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping

import pyarrow.parquet as pq
import yaml

from .stand_in_hub import StandInHub


def card_data(files: Mapping[str, bytes]) -> dict:
    """Metadata of a card."""
    return yaml.safe_load(files["README.md"].decode().split("---\n")[1])


def is_true(files: Mapping[str, bytes]) -> bool:
    """Tell whether there is no card, or all rows that it promises are where it points to, and no others."""
    if "README.md" not in files:
        return True
    data = card_data(files)
    promised = {split["name"]: split["num_examples"] for split in data["dataset_info"]["splits"]}
    found = dict.fromkeys(promised, 0)
    for place in data["configs"][0]["data_files"]:
        pattern = re.compile(re.escape(place["path"]).replace(r"\*", "[^/]*"))
        for path, content in files.items():
            if pattern.fullmatch(path):
                found[place["split"]] += pq.read_metadata(io.BytesIO(content)).num_rows
    pictures = re.findall(r"\]\((figures/[^)]+)\)", files["README.md"].decode())
    return found == promised and all(picture in files for picture in pictures)


def received_any_of(hub: StandInHub, images: Iterable[bytes]) -> bool:
    """Tell whether any of some images was sent, as it is or as text."""
    bodies = b"\0".join(request.body for request in hub.requests)
    return any(image in bodies or base64.b64encode(image)[4:-4] in bodies for image in images)
