"""The contenders: each reads one shard in its own way and gives what it read, piece by piece.

Nobody decodes a JPEG: its bytes are what a contender has to deliver, beside parsed annotations.
"""

from __future__ import annotations

import importlib
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

_PIECE = 1 << 20
_BATCH = 32
_MEMORY_CAP = 256 << 20


@dataclass(frozen=True)
class Contender:
    """A way to read a shard.

    Attributes
    ----------
    label
        For the tables.
    run
        Called with the shard's path and an empty folder for its files; gives items.
    gives
        What an item is: ``"bytes"``, ``"batch"`` (Arrow), ``"row"`` (a dict), ``"dataset"`` (prepared).
    needs
        Packages from elsewhere; without them the contender is left out.

    """

    label: str
    run: Callable[[Path, Path], Iterator[Any]]
    gives: Literal["bytes", "batch", "row", "dataset"]
    needs: tuple[str, ...] = ()

    def count(self, item: Any) -> int:
        """Give the number of images in an item."""
        if self.gives == "bytes":
            return 0
        return 1 if self.gives == "row" else item.num_rows


def iter_pieces(file: Any) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


# What sets the bound: the bytes alone.


def _read(shard: Path, _: Path) -> Iterator[bytes]:
    with shard.open("rb", buffering=0) as file:
        yield from iter_pieces(file)


def _inflate(module: str, shard: Path, _: Path) -> Iterator[bytes]:
    with importlib.import_module(module).open(shard) as file:
        yield from iter_pieces(file)


# What one writes with the standard library.


def _tarfile_pairs(loads: Callable[[bytes], Any], mode: str, shard: Path) -> Iterator[tuple[str, bytes, Any]]:
    waiting: dict[str, Any] = {}
    with tarfile.open(shard, mode) as tar:
        for member in tar:
            if not member.isfile():
                continue
            stem, _, suffix = member.name.rpartition("/")[2].rpartition(".")
            data = tar.extractfile(member).read()  # type: ignore[union-attr] -- a file
            half = loads(data) if suffix == "json" else data
            if stem not in waiting:
                waiting[stem] = half
            elif suffix == "json":
                yield stem, waiting.pop(stem), half
            else:
                yield stem, half, waiting.pop(stem)


def _tarfile_rows(module: str, shard: Path, _: Path) -> Iterator[dict[str, Any]]:
    loads = importlib.import_module(module).loads
    for _stem, jpeg, document in _tarfile_pairs(loads, "r|", shard):
        yield {"jpg": jpeg, "json": document}


def _tarfile_batches(module: str, shard: Path, _: Path) -> Iterator[Any]:
    import pyarrow as pa

    from sa1b_hf import sa1b_features

    schema = sa1b_features().arrow_schema
    rows: list[dict[str, Any]] = []
    for stem, jpeg, document in _tarfile_pairs(importlib.import_module(module).loads, "r|gz", shard):
        image = {"bytes": jpeg, "path": f"{stem}.jpg"}
        rows.append({"image": image, **document["image"], "shard": shard.stem, "annotations": document["annotations"]})
        if len(rows) == _BATCH:
            yield pa.RecordBatch.from_pylist(rows, schema=schema)
            rows = []
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


# What one writes with `datasets` or webdataset.


def _naive_rows(shard: Path, scratch: Path) -> Iterator[dict[str, Any]]:
    from datasets import Image
    from naive_builder import NaiveSA1B

    builder = NaiveSA1B(data_files={"train": [str(shard)]}, cache_dir=str(scratch))
    yield from builder.as_streaming_dataset(split="train").cast_column("image", Image(decode=False))


def _naive_prepared(shard: Path, scratch: Path) -> Iterator[Any]:
    from naive_builder import NaiveSA1B

    builder = NaiveSA1B(data_files={"train": [str(shard)]}, cache_dir=str(scratch))
    builder.download_and_prepare()
    yield _opened(builder.as_dataset(split="train"))


def _stock_webdataset_rows(shard: Path, scratch: Path, features: Any = None) -> Iterator[dict[str, Any]]:
    from datasets import Image, load_dataset

    dataset = load_dataset(
        "webdataset",
        data_files={"train": str(shard)},
        split="train",
        streaming=True,
        features=features,
        cache_dir=str(scratch),
    )
    yield from dataset.cast_column("jpg", Image(decode=False))


def _stock_webdataset_with_features(shard: Path, scratch: Path) -> Iterator[dict[str, Any]]:
    """Tell the builder what to expect, so that it looks at no rows to find out."""
    from datasets import Features, Image, Value

    from sa1b_hf import sa1b_features

    ours = sa1b_features()
    image = {name: ours[name] for name in ("image_id", "width", "height", "file_name")}
    document = {"image": image, "annotations": ours["annotations"]}
    keys = {"__key__": Value("string"), "__url__": Value("string")}
    yield from _stock_webdataset_rows(shard, scratch, Features({"jpg": Image(), "json": document, **keys}))


def _webdataset_rows(shard: Path, _: Path) -> Iterator[dict[str, Any]]:
    import webdataset

    for sample in webdataset.WebDataset(str(shard), shardshuffle=False):
        if "json" in sample:
            sample["json"] = json.loads(sample["json"])
        yield sample


# Ours.


def _our_batches(shard: Path, scratch: Path, *, image: bool = True, ram_cap: int | None = None) -> Iterator[Any]:
    from sa1b_hf import ReadOptions, iter_batches
    from sa1b_hf.features import COLUMNS

    columns = COLUMNS if image else tuple(name for name in COLUMNS if name != "image")
    cap = {} if ram_cap is None else {"ram_cap": ram_cap}
    yield from iter_batches(shard, shard.stem, ReadOptions(columns=columns, scratch_dir=str(scratch), **cap))


def _our_stream(shard: Path, scratch: Path) -> Any:
    import sa1b_hf

    return sa1b_hf.load_dataset(data_files=str(shard), split="train", streaming=True, cache_dir=str(scratch))


def _our_rows(shard: Path, scratch: Path) -> Iterator[dict[str, Any]]:
    from datasets import Image

    yield from _our_stream(shard, scratch).cast_column("image", Image(decode=False))


def _our_tables(shard: Path, scratch: Path) -> Iterator[Any]:
    yield from _our_stream(shard, scratch).with_format("arrow").iter(batch_size=_BATCH)


def _our_prepared(shard: Path, scratch: Path) -> Iterator[Any]:
    import sa1b_hf

    yield _opened(sa1b_hf.load_dataset(data_files=str(shard), split="train", cache_dir=str(scratch)))


def _opened(dataset: Any) -> Any:
    """Touch the first row: before that, nobody has seen an example."""
    dataset.with_format("arrow")[0]
    return dataset


CONTENDERS: dict[str, Contender] = {
    "read": Contender("bound: read() of the tar", _read, "bytes"),
    "inflate-zlib": Contender("bound: inflate only, standard library", partial(_inflate, "gzip"), "bytes"),
    "inflate-isal": Contender("bound: inflate only, isal", partial(_inflate, "isal.igzip"), "bytes", ("isal",)),
    "inflate-zlib-ng": Contender(
        "bound: inflate only, zlib-ng", partial(_inflate, "zlib_ng.gzip_ng"), "bytes", ("zlib_ng",)
    ),
    "tarfile-rows": Contender("tarfile + json.loads", partial(_tarfile_rows, "json"), "row"),
    "tarfile-orjson-rows": Contender("tarfile + orjson", partial(_tarfile_rows, "orjson"), "row", ("orjson",)),
    "tarfile-batches": Contender("tarfile + json.loads + pa.array", partial(_tarfile_batches, "json"), "batch"),
    "tarfile-orjson-batches": Contender(
        "tarfile + orjson + pa.array", partial(_tarfile_batches, "orjson"), "batch", ("orjson",)
    ),
    "naive-rows": Contender("iter_archive builder, streamed rows", _naive_rows, "row"),
    "naive-prepared": Contender("iter_archive builder, prepared", _naive_prepared, "dataset"),
    "stock-webdataset": Contender("datasets' webdataset, streamed rows", _stock_webdataset_rows, "row"),
    "stock-webdataset-features": Contender(
        "datasets' webdataset, features given", _stock_webdataset_with_features, "row"
    ),
    "webdataset": Contender("webdataset, bytes + json.loads", _webdataset_rows, "row", ("webdataset",)),
    "our-batches": Contender("sa1b_hf, Arrow batches", _our_batches, "batch"),
    "our-tables": Contender("sa1b_hf, streamed, with_format('arrow')", _our_tables, "batch"),
    "our-rows": Contender("sa1b_hf, streamed rows", _our_rows, "row"),
    "our-prepared": Contender("sa1b_hf, prepared", _our_prepared, "dataset"),
    "our-annotations": Contender(
        "sa1b_hf, annotations only, Arrow batches", partial(_our_batches, image=False), "batch"
    ),
    "our-capped-batches": Contender(
        "sa1b_hf, Arrow batches, ram_cap 256 MiB", partial(_our_batches, ram_cap=_MEMORY_CAP), "batch"
    ),
}
INFLATERS = ("inflate-zlib", "inflate-isal", "inflate-zlib-ng")
