"""What the page asks for → bytes; no sockets here."""

from __future__ import annotations

import json
import math
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from sa1b_hf._mask_columns import read_mask_columns
from sa1b_hf._palette import palette
from sa1b_hf.errors import ConfigError, SA1BError
from sa1b_hf.places import Place, iter_tables, read_label_names
from sa1b_hf.reports import PassReport

from ._cache import ByteCache
from ._pictures import image_bytes, make_id_map, make_thumbnail
from ._selection import MaskSelection, code_lines
from ._store import RowStore, RowSummary

__all__ = ["Answer", "Viewer"]

_PAGE: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/filters.js": ("filters.js", "text/javascript; charset=utf-8"),
    "/image.js": ("image.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
}
_MAX_ROWS: Final = 200
_CACHED: Final = 48 << 20
_AT_ONCE: Final = 2  # pictures drawn at a time, each of which needs some 30 MB


@dataclass(frozen=True, slots=True)
class Answer:
    """Body, its type, and how it went."""

    body: bytes
    kind: str = "application/json"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


class Viewer:
    """The rows of a place, and everything that the page asks about them.

    Parameters
    ----------
    place
        From `sa1b_hf.places.find_place`.
    limit
        Most rows to show.
    label_names
        Names of label ids; by default those that a converted directory has in its metadata.

    """

    def __init__(self, place: Place, *, limit: int = 2000, label_names: Sequence[str] | None = None) -> None:
        self.place = place
        self.report = PassReport()
        self.store = RowStore(iter_tables(place, report=self.report), limit=limit)
        self.label_names = tuple(read_label_names(place) if label_names is None else label_names)
        self._session = secrets.token_hex(4)
        self._pictures: ByteCache[bytes] = ByteCache(_CACHED, len)
        self._drawing = threading.BoundedSemaphore(_AT_ONCE)
        self._routes: list[tuple[re.Pattern[str], Callable[..., Answer]]] = [
            (re.compile(r"/api/place"), self._describe),
            (re.compile(r"/api/rows"), self._list_rows),
            (re.compile(r"/api/row/(\d{1,9})"), self._describe_row),
            (re.compile(r"/api/find/(\d{1,18})"), self._find),
            (re.compile(r"/api/code"), self._code),
            (re.compile(r"/api/export"), self._export),
            (re.compile(r"/thumbnail/(\d{1,9})\.jpg"), self._thumbnail),
            (re.compile(r"/image/(\d{1,9})\.jpg"), self._image),
            (re.compile(r"/ids/(\d{1,9})\.png"), self._ids),
        ]

    def answer(self, target: str) -> Answer:
        """Answer a request.

        Parameters
        ----------
        target
            Path and query.

        Returns
        -------
        Answer
            Also for what cannot be answered: 400 for a query that makes no sense, 404 for what is not there, 422 for a
            row that cannot be drawn.

        """
        parts = urlsplit(target)
        if parts.path in _PAGE:
            name, kind = _PAGE[parts.path]
            return Answer(_page_file(name), kind)
        for pattern, method in self._routes:
            if match := pattern.fullmatch(parts.path):
                return self._call(method, [int(word) for word in match.groups()], parse_qs(parts.query))
        return _error(HTTPStatus.NOT_FOUND, f"there is nothing at {parts.path[:80]}")

    def close(self) -> None:
        """Let go of what is read."""
        self.store.close()

    def _call(self, method: Callable[..., Answer], numbers: list[int], query: Mapping[str, Sequence[str]]) -> Answer:
        try:
            return method(*numbers, query)
        except IndexError as error:
            return _error(HTTPStatus.NOT_FOUND, str(error))
        except ConfigError as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error))
        except (SA1BError, OSError) as error:
            return _error(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    def _describe(self, _query: Any) -> Answer:
        return _json(
            {
                "name": self.place.name,
                "kind": self.place.kind,
                "label_names": self.label_names,
                "session": self._session,
                "palette": palette().tolist(),
            }
        )

    def _list_rows(self, query: Mapping[str, Sequence[str]]) -> Answer:
        start, count = _number(query, "start", 0), min(_number(query, "count", 60), _MAX_ROWS)
        self.store.ensure(start + count)
        rows = self.store.summaries()[start : start + count]
        return _json(
            {
                "rows": [_summary(start + offset, row) for offset, row in enumerate(rows)],
                "known": len(self.store),
                "complete": self.store.is_complete,
                "problem": self._problem(),
            }
        )

    def _problem(self) -> str | None:
        """Say what of the place is not shown, and why."""
        skipped = self.store.num_skipped + self.report.skipped.total()
        words = [self.store.problem] if self.store.problem else []
        words += [f"{skipped:,} images cannot be read"] if skipped else []
        words += [f"{shard.shard} is broken: {shard.message}" for shard in self.report.broken]
        return "; ".join(words) or None

    def _describe_row(self, number: int, _query: Any) -> Answer:
        columns = read_mask_columns(self._row(number))
        points = [[point for point in one if not math.isnan(point[0] + point[1])] for one in columns.points_xy.tolist()]
        return _json({"boxes_xywh": columns.boxes_xywh.tolist(), "points_xy": points})

    def _find(self, image_id: int, _query: Any) -> Answer:
        number = self.store.find(image_id)
        if number is None:
            raise IndexError(f"image {image_id} is not among the {len(self.store):,} images that were read")
        return _json({"index": number})

    def _code(self, query: Mapping[str, Sequence[str]]) -> Answer:
        has_labels = any(row.has_labels for row in self.store.summaries()[:1])
        code = code_lines(self.place, MaskSelection.parse(query), has_labels=has_labels)
        return Answer(code.encode(), "text/plain; charset=utf-8")

    def _export(self, query: Mapping[str, Sequence[str]]) -> Answer:
        """Give the ids of all images known so far that have a wanted mask: as `ids=` of `load_dataset` reads them."""
        selection = MaskSelection.parse(query)
        found = [(row, selection.matches(row)) for row in self.store.summaries()]
        kept = [(row, wanted) for row, wanted in found if wanted.any() or not selection.options()]
        if query.get("format", [""])[-1] == "json":
            images = [{"image_id": row.image_id, "annotation_ids": row.ids[wanted].tolist()} for row, wanted in kept]
            body, name, kind = json.dumps(images).encode(), "selection.json", "application/json"
        else:
            body = "".join(f"{row.image_id}\n" for row, _ in kept).encode()
            name, kind = "selection.txt", "text/plain; charset=utf-8"
        return Answer(body, kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    def _thumbnail(self, number: int, query: Mapping[str, Sequence[str]]) -> Answer:
        masks, selection = query.get("masks", ["1"])[-1] != "0", MaskSelection.parse(query)
        key = ("thumbnail", number, masks, selection if masks else None)
        return self._draw(key, "image/jpeg", number, selection, lambda *a: make_thumbnail(*a, masks=masks))

    def _ids(self, number: int, query: Mapping[str, Sequence[str]]) -> Answer:
        selection = MaskSelection.parse(query)
        return self._draw(("ids", number, selection), "image/png", number, selection, make_id_map)

    def _image(self, number: int, _query: Any) -> Answer:
        return Answer(image_bytes(self._row(number)), "image/jpeg", headers=_KEEP)

    def _draw(
        self, key: tuple[Any, ...], kind: str, number: int, selection: MaskSelection, make: Callable[..., bytes]
    ) -> Answer:
        row, wanted = self._row(number), selection.matches(self.store.summary(number))

        def make_one() -> bytes:
            with self._drawing:
                return make(row, wanted)

        return Answer(self._pictures.get(key, make_one), kind, headers=_KEEP)

    def _row(self, number: int) -> dict[str, Any]:
        self.store.ensure(number + 1)
        if number >= len(self.store):
            raise IndexError(f"expected a row of 0 to {len(self.store) - 1}, found {number}")
        return self.store.row(number)


# addresses of pictures hold the session: what a browser keeps never meets another viewer's rows
_KEEP: Final = {"Cache-Control": "private, max-age=3600"}


@lru_cache
def _page_file(name: str) -> bytes:
    return files("sa1b_hf.viewer").joinpath(f"page/{name}").read_bytes()


def _summary(number: int, row: RowSummary) -> dict[str, Any]:
    masks = {
        "ids": row.ids.tolist(),
        "area": row.areas.tolist(),
        "predicted_iou": _finite(row.predicted_iou.tolist()),
        "stability_score": _finite(row.stability_score.tolist()),
    }
    if row.has_labels:
        masks |= {"label": row.label_ids.tolist(), "label_score": _finite(row.label_scores.tolist())}
    names = ("image_id", "file_name", "shard", "width", "height")
    return {"index": number, **{name: getattr(row, name) for name in names}, "masks": masks}


def _finite(values: list[float]) -> list[float | None]:
    # JSON has no NaN
    return [value if math.isfinite(value) else None for value in values]


def _number(query: Mapping[str, Sequence[str]], name: str, default: int) -> int:
    value = query.get(name, [str(default)])[-1]
    if not re.fullmatch(r"\d{1,9}", value):
        raise ConfigError(f"{name}: expected a number, found {value!r:.80}")
    return int(value)


def _json(content: Any) -> Answer:
    return Answer(json.dumps(content).encode())


def _error(status: HTTPStatus, message: str) -> Answer:
    return Answer(json.dumps({"error": message}).encode(), status=status)
