"""`load_dataset("sa1b.py")`: every source and configuration, streamed and prepared, on the installed `datasets`."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict, IterableDataset, load_dataset

import sa1b_hf
from sa1b_hf.errors import ConfigError, LinkExpiredError, MissingShardsError
from sa1b_hf.features import row_to_document
from sa1b_hf.testing import make_shard

REPOSITORY = Path(__file__).parent.parent
SIGNED = "http://127.0.0.1:9/sa_000000.tar?oh=canary-7f3a&oe=7fffffff"


def _ids(dataset) -> list[int]:
    return [row["image_id"] for row in dataset]


def _raw(dataset):
    """The dataset without decoding pictures."""
    return dataset.cast_column("image", datasets.Image(decode=False))


@pytest.fixture
def folder(shards):
    """The folder with three shards."""
    return str(shards[0].path.parent)


@pytest.fixture
def all_ids(shards):
    """Every image id of the three shards."""
    return sorted(image_id for manifest in shards for image_id in manifest.image_ids)


def test_verbatim_call(tmp_path):
    """The line of the README gives the sample, with a warning, also in an empty folder."""
    code = (
        "import sa1b_hf\n"
        "from datasets import load_dataset\n"
        'ds = load_dataset("sa1b.py", streaming=True)\n'
        'row = next(iter(ds["train"]))\n'
        'print(sorted(row), row["image"].size == (row["width"], row["height"]), row["shard"])\n'
    )
    for place in (tmp_path, REPOSITORY):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=place,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (
            "'annotations', 'file_name', 'height', 'image', 'image_id', 'shard', 'width'] True sa_00000" in done.stdout
        )
        assert "embedded sample" in done.stderr
        assert "data_dir=" in done.stderr


@pytest.mark.parametrize("path", ["sa1b.py", "sa1b", "./sa1b.py"])
def test_names(folder, all_ids, path):
    """All the names load the same rows through the stock function."""
    ds = load_dataset(path, data_dir=folder, streaming=True)
    assert isinstance(ds["train"], IterableDataset)
    assert sorted(_ids(ds["train"])) == all_ids


@pytest.mark.parametrize("path", ["sa1b.py", "./sa1b.py", str(REPOSITORY / "sa1b.py"), Path("sa1b.py")])
def test_own_load_dataset(folder, all_ids, path):
    """`sa1b_hf.load_dataset` takes relative and absolute paths of the script."""
    ds = sa1b_hf.load_dataset(path, data_dir=folder, split="train", streaming=True)
    assert sorted(_ids(ds)) == all_ids


def test_own_load_dataset_hands_others_on(tmp_path):
    """Any other dataset goes to the stock function."""
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    ds = sa1b_hf.load_dataset("json", data_files=str(tmp_path / "a.jsonl"), split="train", streaming=True)
    assert list(ds) == [{"a": 1}]


def test_packaged_builders_still_work(tmp_path):
    """The registration changes nothing for the builders of `datasets`."""
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    ds = load_dataset("json", data_dir=str(tmp_path), split="train", streaming=True)
    assert list(ds) == [{"a": 1}]


def test_rows(shards, folder):
    """Streamed rows hold Meta's values, and the JPEG's bytes."""
    ds = _raw(load_dataset("sa1b.py", data_dir=folder, split="train", streaming=True))
    by_shard = {manifest.shard: manifest for manifest in shards}
    for row in ds:
        manifest = by_shard[row["shard"]]
        assert row_to_document(row) == manifest.document(row["image_id"])
        assert row["image"]["bytes"] == manifest.jpeg(row["image_id"])
        assert row["image"]["path"] == row["file_name"]


def test_prepared_rows_equal_streamed_rows(folder, cache_dir):
    """Both modes give the same rows and features."""
    prepared = load_dataset("sa1b.py", data_dir=folder, cache_dir=cache_dir)
    assert isinstance(prepared, DatasetDict)
    streamed = load_dataset("sa1b.py", data_dir=folder, streaming=True)
    assert prepared["train"].features == streamed["train"].features
    assert list(_raw(prepared["train"])) == list(_raw(streamed["train"]))


def test_data_files(shards, cache_dir):
    """Files by split, by pattern and as a list."""
    paths = [str(manifest.path) for manifest in shards]
    ds = load_dataset("sa1b.py", data_files={"train": paths[:2], "validation": paths[2]}, streaming=True)
    assert sorted(_ids(ds["train"])) == sorted(shards[0].image_ids + shards[1].image_ids)
    assert sorted(_ids(ds["validation"])) == list(shards[2].image_ids)
    pattern = str(shards[0].path.parent / "sa_00000[12].tar")
    ds = load_dataset("sa1b.py", data_files=pattern, split="train", cache_dir=cache_dir)
    assert sorted(_ids(ds)) == sorted(shards[1].image_ids + shards[2].image_ids)


def test_file_urls_and_fsspec(shards):
    """Shards in any fsspec file system are read in place."""
    import fsspec

    memory = fsspec.filesystem("memory")
    for manifest in shards:
        memory.pipe_file(f"/bucket/{manifest.path.name}", manifest.path.read_bytes())
    ds = load_dataset("sa1b.py", data_dir="memory://bucket", split="train", streaming=True)
    assert sorted(_ids(ds)) == sorted(image_id for manifest in shards for image_id in manifest.image_ids)
    ds = load_dataset("sa1b.py", data_files="memory://bucket/sa_000001.tar", split="train", streaming=True)
    assert sorted(_ids(ds)) == list(shards[1].image_ids)


def test_storage_options_reach_the_listing(shards):
    """A file system that needs options gets them when the folder is listed and when shards are read."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class Guarded(MemoryFileSystem):
        protocol = "guarded"
        cachable = False

        def __init__(self, password=None, **options):
            if password != "sesame":
                raise PermissionError("no password")
            super().__init__(**options)

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.removeprefix("guarded://"))

        def unstrip_protocol(self, name):
            return f"guarded://{name.lstrip('/')}"

    fsspec.register_implementation("guarded", Guarded, clobber=True)
    fsspec.filesystem("memory").pipe_file("/vault/sa_000001.tar", shards[1].path.read_bytes())
    options = {"data_dir": "guarded://vault", "split": "train", "streaming": True}
    ds = load_dataset("sa1b.py", storage_options={"guarded": {"password": "sesame"}}, **options)
    assert sorted(_ids(ds)) == list(shards[1].image_ids)
    with pytest.raises(PermissionError):
        load_dataset("sa1b.py", **options)


def test_environment_variable(folder, all_ids, monkeypatch, shards):
    """Without options the environment says where shards are: a folder, a pattern, or files."""
    monkeypatch.setenv("SA1B_HF_SHARDS", folder)
    assert sorted(_ids(load_dataset("sa1b.py", split="train", streaming=True))) == all_ids
    monkeypatch.setenv("SA1B_HF_SHARDS", os.pathsep.join(str(manifest.path) for manifest in shards[:2]))
    assert sorted(_ids(load_dataset("sa1b.py", split="train", streaming=True))) == all_ids[:41]
    monkeypatch.setenv("SA1B_HF_SHARDS", f"{folder}/*2.tar")
    assert sorted(_ids(load_dataset("sa1b.py", split="train", streaming=True))) == list(shards[2].image_ids)


def test_subsets(shards, folder, tmp_path):
    """The named subsets are strict: they list what is missing, unless told not to."""
    with pytest.raises(MissingShardsError, match=r"7 of 10 .*sa_000003\.tar, .*sa_000009\.tar"):
        load_dataset("sa1b.py", "1pct", data_dir=folder, streaming=True)
    ds = load_dataset("sa1b.py", "1pct", data_dir=folder, allow_missing=True, streaming=True)
    assert len(_ids(ds["train"])) == 63
    with pytest.raises(MissingShardsError, match="no source is given"):
        load_dataset("sa1b.py", "full", streaming=True)
    for number in range(11):
        make_shard(tmp_path / f"sa_{number:06d}.tar", first_id=1 + 10 * number, num_images=2)
    ds = load_dataset("sa1b.py", "1pct", data_dir=str(tmp_path), streaming=True)
    assert len(_ids(ds["train"])) == 20
    ds = load_dataset("sa1b.py", data_dir=str(tmp_path), streaming=True)
    assert len(_ids(ds["train"])) == 22


def test_shards_option(shards, folder):
    """Shards are chosen by number; a number that is not there, or not in the subset, is an error."""
    ds = load_dataset("sa1b.py", data_dir=folder, shards="0,2", split="train", streaming=True)
    assert {row["shard"] for row in ds} == {"sa_000000", "sa_000002"}
    with pytest.raises(MissingShardsError, match="sa_000007"):
        load_dataset("sa1b.py", data_dir=folder, shards="0,7", streaming=True)
    with pytest.raises(ConfigError, match="1pct"):
        load_dataset("sa1b.py", "1pct", data_dir=folder, shards="20", streaming=True)


def test_links(shards, tmp_path, monkeypatch, caplog):
    """Shards stream from a links file over HTTP; the signature shows up nowhere, and workers can be started."""
    from support.misbehaving_server import MisbehavingServer

    with MisbehavingServer() as server:
        lines = ["file_name\tcdn_link"]
        for manifest in shards:
            url = server.add(f"/{manifest.path.name}", manifest.path)
            lines.append(f"{manifest.path.name}\t{url}?oh=canary-7f3a&oe=7fffffff")
        links = tmp_path / "segment_anything_links.txt"
        links.write_text("\n".join(lines))
        with caplog.at_level(logging.DEBUG):
            ds = load_dataset("sa1b.py", links=str(links), split="train", streaming=True)
            rows = list(_raw(ds))
            pickled = pickle.dumps(ds)
        assert len(rows) == 63
        assert len(list(pickle.loads(pickled))) == 63
    assert b"canary" not in pickled
    assert "canary" not in caplog.text
    assert "canary" not in repr(rows)
    assert "canary" not in repr(vars(ds))


def test_expired_links_are_told_before_a_byte_is_sent(tmp_path):
    """The time in a link is read: an expired one is an error with the way out, and no server is asked."""
    links = tmp_path / "links.txt"
    links.write_text(
        "".join(f"sa_00000{n}.tar\thttp://127.0.0.1:9/sa_00000{n}.tar?oh=canary&oe=60000000\n" for n in range(2))
    )
    with pytest.raises(LinkExpiredError, match="2 of 2 links have expired") as caught:
        load_dataset("sa1b.py", links=str(links), split="train", streaming=True)
    assert "canary" not in str(caught.value)


def test_signed_urls_belong_into_a_links_file():
    """A signed URL among data_files would end up in caches: it is refused, without showing it."""
    with pytest.raises(ConfigError, match="links=") as caught:
        load_dataset("sa1b.py", data_files=SIGNED, streaming=True)
    assert "canary" not in str(caught.value)


def test_http_with_cuts(shards):
    """A server that drops connections at random costs nothing: the rows equal the file's."""
    from support.misbehaving_server import MisbehavingServer, random_cuts

    with MisbehavingServer() as server:
        manifest = shards[0]
        url = server.add(f"/{manifest.path.name}", manifest.path, script=random_cuts(15, 20_000, seed=1))
        ds = load_dataset("sa1b.py", data_files=url, split="train", streaming=True)
        rows = list(_raw(ds))
    assert {row["image_id"]: row["image"]["bytes"] for row in rows} == {
        image_id: manifest.jpeg(image_id) for image_id in manifest.image_ids
    }


def test_columns_and_image(folder):
    """Columns can be left out; without the image only annotations are read."""
    ds = load_dataset("sa1b.py", data_dir=folder, image=False, split="train", streaming=True)
    assert list(next(iter(ds))) == ["image_id", "width", "height", "file_name", "shard", "annotations"]
    ds = load_dataset("sa1b.py", data_dir=folder, columns=["image_id", "annotations"], split="train", streaming=True)
    assert list(ds.features) == ["image_id", "annotations"]
    assert list(next(iter(ds))) == ["image_id", "annotations"]


def test_filters(folder, all_ids, tmp_path):
    """Filters are options; the same fraction gives the same images, whatever else."""
    options = {"data_dir": folder, "split": "train", "streaming": True}
    some = _ids(load_dataset("sa1b.py", sample_fraction=0.3, **options))
    assert some == _ids(load_dataset("sa1b.py", sample_fraction=0.3, **options))
    assert 5 < len(some) < 40
    assert set(some) < set(_ids(load_dataset("sa1b.py", sample_fraction=0.6, **options)))
    assert set(some) != set(_ids(load_dataset("sa1b.py", sample_fraction=0.3, seed=1, **options)))
    (tmp_path / "ids.txt").write_text(f"sa_{all_ids[3]}.jpg\n{all_ids[50]}\n")
    assert set(_ids(load_dataset("sa1b.py", ids=str(tmp_path / "ids.txt"), **options))) == {all_ids[3], all_ids[50]}
    ds = load_dataset("sa1b.py", min_area=0.05, max_masks=1, select="area", drop_empty=True, **options)
    for row in ds:
        assert len(row["annotations"]) == 1
        assert row["annotations"][0]["area"] >= 0.05 * row["width"] * row["height"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_area": -1}, "min_area"),
        ({"select": "best"}, "select"),
        ({"columns": ["masks"]}, "masks"),
        ({"on_error": "ignore"}, "on_error"),
        ({"engine": "lzma"}, "engine"),
        ({"shards": "5-x"}, "shards"),
        ({"sample_fraction": 2.0}, "sample_fraction"),
    ],
)
def test_wrong_options(folder, options, message):
    """An option that makes no sense is refused when the dataset is made, not at the first example."""
    with pytest.raises(ConfigError, match=message):
        load_dataset("sa1b.py", data_dir=folder, streaming=True, **options)


def test_missing_folder_and_empty_folder(tmp_path):
    """A folder without shards is an error that says what to do."""
    with pytest.raises(MissingShardsError, match="links="):
        load_dataset("sa1b.py", data_dir=str(tmp_path), streaming=True)
    with pytest.raises(MissingShardsError, match="found none at"):
        load_dataset("sa1b.py", data_dir=str(tmp_path / "nowhere"), streaming=True)


def test_num_proc_cache_and_small_files(folder, all_ids, cache_dir):
    """Processes share the work, the cache is used again, and the order of rows does not depend on them."""
    one = load_dataset("sa1b.py", data_dir=folder, split="train", cache_dir=cache_dir)
    three = load_dataset("sa1b.py", data_dir=folder, split="train", cache_dir=cache_dir + "3", num_proc=3)
    assert one["image_id"][:] == three["image_id"][:]
    assert sorted(one["image_id"]) == all_ids
    before = {file["filename"]: Path(file["filename"]).stat().st_mtime_ns for file in one.cache_files}
    again = load_dataset("sa1b.py", data_dir=folder, split="train", cache_dir=cache_dir, ram_cap=1 << 20)
    assert {file["filename"]: Path(file["filename"]).stat().st_mtime_ns for file in again.cache_files} == before


def test_cache_follows_options_and_files(shards, tmp_path, cache_dir):
    """Other options, or another file under the same name, never give old rows."""
    make_shard(tmp_path / "sa_000000.tar", num_images=4)
    options = {"data_dir": str(tmp_path), "split": "train", "cache_dir": cache_dir}
    assert len(load_dataset("sa1b.py", **options)) == 4
    assert len(load_dataset("sa1b.py", ids=[1, 2], **options)) == 2
    make_shard(tmp_path / "sa_000000.tar", num_images=6)
    assert len(load_dataset("sa1b.py", **options)) == 6


def test_max_shard_size(folder, tmp_path, all_ids):
    """Prepared files can be kept small."""
    builder = datasets.load_dataset_builder("sa1b.py", data_dir=folder, cache_dir=str(tmp_path))
    builder.download_and_prepare(str(tmp_path / "out"), max_shard_size="100KB", file_format="parquet")
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert len(files) > 2
    assert sorted(Dataset.from_parquet([str(file) for file in files])["image_id"]) == all_ids


def test_report_of_streaming(folder, tmp_path):
    """The report adds up what passes delivered and skipped, also through map and filter."""
    bad = make_shard(
        tmp_path / "sa_000009.tar", num_images=30, first_id=90_000, faults=["torn_jpg", "orphan_json", "missing_end"]
    )
    files = [*Path(folder).glob("*.tar"), bad.path]
    ds = load_dataset("sa1b.py", data_files=[str(f) for f in files], on_error="warn", split="train", streaming=True)
    derived = ds.map(lambda row: {"n": len(row["annotations"])}).filter(lambda row: row["n"] > 0)
    count = sum(1 for _ in derived)
    report = sa1b_hf.report(derived)
    assert count == report.delivered == 63 + len(bad.good_ids)
    assert report.seen == report.delivered + report.skipped.total()
    assert report.skipped == {"jpeg-truncated": 1, "incomplete": 1}
    assert [shard.shard for shard in report.broken] == ["sa_000009"]
    assert report.passes == report.completed == 4


def test_report_of_prepared(folder, tmp_path, cache_dir):
    """The report of a preparation covers all its processes and stays with the cache."""
    bad = make_shard(tmp_path / "sa_000009.tar", num_images=30, first_id=90_000, faults=["torn_jpg"])
    files = [*(str(path) for path in Path(folder).glob("*.tar")), str(bad.path)]
    options = {"data_files": files, "on_error": "warn", "cache_dir": cache_dir}
    for ds in (load_dataset("sa1b.py", num_proc=2, **options), load_dataset("sa1b.py", split="train", **options)):
        report = sa1b_hf.report(ds)
        assert report.delivered == 63 + 29
        assert report.skipped == {"jpeg-truncated": 1}
        assert report.passes == 4


def test_report_in_a_folder(folder, tmp_path):
    """With report_dir= the parts are files that anyone can add up."""
    ds = load_dataset("sa1b.py", data_dir=folder, report_dir=str(tmp_path / "r"), split="train", streaming=True)
    assert len(_ids(ds)) == 63
    report = sa1b_hf.read_reports([tmp_path / "r"])
    assert (report.delivered, report.passes, report.is_clean) == (63, 3, True)
    assert json.loads(json.dumps(report.to_dict()))["delivered"] == 63


def test_report_of_a_stranger():
    """A dataset of another origin has no report, and the error says where to look."""
    with pytest.raises(ConfigError, match="report_dir="):
        sa1b_hf.report(Dataset.from_dict({"a": [1]}))


def test_faults_stop_a_preparation(tmp_path, cache_dir):
    """Without tolerance a broken shard is no success: nothing is left that looks like a prepared dataset."""
    make_shard(tmp_path / "sa_000000.tar", num_images=20, faults=["truncated_jpg"])
    with pytest.raises(Exception, match="generating the dataset") as caught:
        load_dataset("sa1b.py", data_dir=str(tmp_path), cache_dir=cache_dir)
    assert "is cut off" in str(caught.value.__cause__)
    with pytest.raises(Exception, match="generating the dataset"):
        load_dataset("sa1b.py", data_dir=str(tmp_path), cache_dir=cache_dir)


def test_info(folder):
    """The dataset says what it is, its licence and how to cite it."""
    info = load_dataset("sa1b.py", data_dir=folder, split="train", streaming=True).info
    assert "Research License" in info.license
    assert "Kirillov" in info.citation
    assert info.version == "1.0.0"


def test_summary_is_always_shown(folder, tmp_path):
    """After each shard one line says what was delivered and skipped, without any logging set up."""
    bad = make_shard(tmp_path / "sa_000009.tar", num_images=10, first_id=90_000, faults=["torn_jpg"])
    code = (
        "import sys, sa1b_hf\n"
        "for path in sys.argv[1:]:\n"
        "    list(sa1b_hf.load_dataset(data_files=path, split='train', streaming=True, image=True, on_error='warn'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"{folder}/sa_000000.tar", str(bad.path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=120,
        check=True,
    )
    assert "sa_000000: 20 images delivered of 20 seen" in done.stderr
    assert "sa_000009: 9 images delivered of 10 seen, 1 skipped (jpeg-truncated 1)" in done.stderr


_PREPARE = """
import sys, sa1b_hf
ds = sa1b_hf.load_dataset(data_dir=sys.argv[1], cache_dir=sys.argv[2], split="train")
print(len(ds))
"""


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2])
def test_killed_preparation_starts_again(folder, tmp_path, delay):
    """After SIGKILL a rerun gives files that are byte-identical to those of an undisturbed run."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    arguments = [sys.executable, "-c", _PREPARE, folder]
    victim = subprocess.Popen([*arguments, str(tmp_path / "a")], env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "a").glob("**/*.arrow")) and victim.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay)
    victim.kill()
    victim.wait()
    for cache in ("a", "b"):
        subprocess.run([*arguments, str(tmp_path / cache)], env=env, timeout=120, check=True, stderr=subprocess.DEVNULL)
    files = [sorted((tmp_path / cache).glob("sa1b/**/*.arrow")) for cache in ("a", "b")]
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert not list((tmp_path / "a").glob("**/*.incomplete/*.arrow"))
