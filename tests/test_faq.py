"""Each trouble of the FAQ has a check of `sa1b doctor`, a clear error, or an answer whose parts are there."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.downloading import NAME, PATH, fetch, hurry, shard_bytes
from support.misbehaving_server import Answer, MisbehavingServer

import sa1b_hf
from sa1b_hf import DecodeMasks, _disk, load_dataset, metrics, rle
from sa1b_hf.doctor import CHECKS, Setup, explain_import, machine, storage
from sa1b_hf.errors import ConfigError, RLEError, SourceError
from sa1b_hf.testing import make_shard
from sa1b_hf.verify import verify_shard

PAGE = Path(__file__).parent.parent / "docs" / "faq.md"
SECTIONS = dict(re.findall(r"^### (.+)\n((?:(?!^##).*\n?)*)", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
MASK = {"size": [4, 6], "counts": [4, 8, 12]}


@pytest.fixture
def case(tmp_path, monkeypatch):
    """What the troubles need to come about."""
    hurry(monkeypatch)
    return SimpleNamespace(folder=tmp_path, patch=monkeypatch)


def advice(check: str, case, setup: Setup | None = None) -> str:
    """Give what the doctor advises about the trouble that was arranged."""
    found = [finding for finding in CHECKS[check](setup or Setup()) if finding.status != "ok"]
    assert found, f"{check} sees nothing"
    return " ".join(finding.advice for finding in found)


def failure(case, answer: Answer, **options) -> SourceError:
    """Give the error of a download from a server that answers so."""
    body = shard_bytes(case.folder)
    with MisbehavingServer() as server:
        url = server.add(PATH, body, then=answer)
        with pytest.raises(SourceError) as caught:
            fetch(case.folder / "out", url, **{"retries": 1, "timeout": 0.2, **options})
    return caught.value


def times_out(case) -> None:
    error = failure(case, Answer(cut_after=0, cut_how="stall"))
    assert error.reason == "timeout"
    assert "retries" in str(error)


def is_refused(case) -> None:
    links = case.folder / "links.txt"
    links.write_text("sa_000000.tar\thttps://h/sa_000000.tar?oe=60000000\n")
    assert "fresh links file" in advice("links", case, Setup(links=links))
    assert failure(case, Answer(status=403)).reason == "http-403"


def fills_the_disk(case) -> None:
    case.patch.setattr(storage.shutil, "disk_usage", lambda place: SimpleNamespace(free=10**9))
    assert "--then" in advice("disk", case, Setup(folder=case.folder, subset="1pct"))
    with pytest.raises(SourceError, match="free some space") as caught:
        _disk.check_space(case.folder, 10**12)
    assert caught.value.reason == "disk-full"


def is_corrupted(case) -> None:
    shard = make_shard(case.folder / f"{NAME}.tar", num_images=10, faults=["gzip_bad_crc"])
    assert not verify_shard(shard.path, checksums=None, salvage=True).is_ok
    assert "sa1b verify" in advice("shards", case, Setup(folder=case.folder, shards="0"))


def needs_no_extracting(case) -> None:
    make_shard(case.folder / f"{NAME}.tar", num_images=2)
    assert len(list(load_dataset(data_dir=str(case.folder), split="train", streaming=True))) == 2
    assert [path.name for path in case.folder.iterdir()] == [f"{NAME}.tar"]


def hides_a_package(case) -> None:
    case.patch.chdir(case.folder)
    (case.folder / "pycocotools").mkdir()
    (case.folder / "pycocotools" / "__init__.py").touch()
    assert "rename it" in advice("imports", case)


def has_no_compiler(case) -> None:
    case.patch.setitem(sys.modules, "sa1b_hf._rle", None)
    assert "compiler" in advice("extensions", case)
    assert "ready-made" in explain_import("error: command 'gcc' failed")


def is_invalid(case) -> None:
    with pytest.raises(RLEError, match="expected runs that sum to") as caught:
        rle.decode({"size": [4, 6], "counts": [4, 8]})
    assert caught.value.reason == "too_short"


def has_the_wrong_buffer(case) -> None:
    with pytest.raises(ConfigError, match=r"out: expected a writable C-contiguous array"):
        rle.decode([MASK], out=np.zeros((1, 6, 4), np.uint8))


def needs_memory(case) -> None:
    case.patch.setattr(machine, "available_memory", lambda: 1 << 28)
    assert "max_masks" in advice("memory", case)
    with pytest.raises(ConfigError, match="decode fewer masks at a time"):
        rle.decode([{"size": [13_000, 13_000], "counts": [169_000_000]}] * 1000)


def needs_the_gpus_memory(case) -> None:
    case.patch.setattr(machine, "find_spec", lambda name: object())
    case.patch.setattr(machine, "_torch_cuda", lambda: "12.4")
    case.patch.setattr(machine, "_cards", lambda: [("a GPU", 8192, 512)])
    assert "max_masks" in advice("gpu", case)


def names_what_exists(*names: str) -> Callable[[object], None]:
    """Each of these is in the answer, and in the package."""

    def check(_case) -> None:
        for name in names:
            home, _, attribute = name.rpartition(".")
            owner = {"DecodeMasks": DecodeMasks, "metrics": metrics, "": sa1b_hf}[home]
            assert hasattr(owner, attribute) or attribute in getattr(owner, "__dataclass_fields__", {}), name

    check.words = tuple(name.rpartition(".")[2] for name in names)
    return check


def options_exist(*options: str) -> Callable[[object], None]:
    """Each of these options of the builder is in the answer, and is one."""

    def check(_case) -> None:
        assert set(options) <= set(sa1b_hf.SA1BConfig.__dataclass_fields__)

    check.words = options
    return check


def says(*words: str) -> Callable[[object], None]:
    """Nothing but the answer's text can help here."""

    def check(_case) -> None:
        pass

    check.words = words
    return check


def explains(error: str, meaning: str) -> Callable[[object], None]:
    """The doctor knows the message."""

    def check(_case) -> None:
        assert meaning in explain_import(error)

    check.words = (meaning,)
    return check


ANSWERS = {
    "The download times out or breaks off": times_out,
    "The download is slow": says("--connections", "--at-once", "--subset"),
    "The server answers 403": is_refused,
    "The disk is full": fills_the_disk,
    "The archive is corrupted": is_corrupted,
    "Extracting takes forever, or there is no space to extract": needs_no_extracting,
    "pycocotools on Windows": explains("DLL load failed while importing _mask", "vc_redist"),
    "pycocotools on a Mac with Apple silicon": explains("incompatible architecture (have 'x86_64')", "arm64"),
    "There is no compiler": has_no_compiler,
    "Importing the wrong thing": hides_a_package,
    "A mask is invalid": is_invalid,
    "The buffer has the wrong size": has_the_wrong_buffer,
    "Decoding masks is slow": names_what_exists("DecodeMasks.size", "DecodeMasks.max_masks"),
    "Out of memory when loading": needs_memory,
    "CUDA out of memory": needs_the_gpus_memory,
    "Memory grows while iterating": options_exist("image", "ram_cap"),
    "There are no labels": names_what_exists("metrics.match_masks"),
    "Is it semantic or instance segmentation": names_what_exists("DecodeMasks.layout"),
    "Which quality filters help": options_exist("min_predicted_iou", "min_area", "max_masks"),
    "Which subset to take": options_exist("sample_fraction", "shards"),
    "Which domains are covered": options_exist("ids"),
    "Training is slow": names_what_exists("DecodeMasks.attach"),
    "It does not converge": says("normalised", "XYXY", "draw masks"),
    "The metrics are poor": names_what_exists("metrics.recall"),
}


def test_every_trouble_has_an_answer():
    """The page's headings are those of the table, and each has a text."""
    assert list(SECTIONS) == list(ANSWERS)
    assert all(len(text.split()) > 20 for text in SECTIONS.values())


@pytest.mark.parametrize("heading", ANSWERS)
def test_the_answer_holds(heading, case):
    """The trouble is brought about, and the check or the error says what the page promises."""
    check = ANSWERS[heading]
    missing = [word for word in getattr(check, "words", ()) if word not in SECTIONS[heading]]
    assert missing == []
    check(case)
