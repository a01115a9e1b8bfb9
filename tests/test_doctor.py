"""`sa1b doctor` and `sa1b env`: each check sees what it is there for, says what to do, and keeps secrets."""

from __future__ import annotations

import configparser
import json
import os
import re
import stat
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.downloading import hurry
from support.misbehaving_server import Answer, MisbehavingServer

from sa1b_hf.cli import main
from sa1b_hf.doctor import CHECKS, Finding, Setup, diagnose, environment, explain_import, installation, machine, storage
from sa1b_hf.download import DownloadOptions, download
from sa1b_hf.errors import ConfigError
from sa1b_hf.testing import make_shard

REPOSITORY = Path(__file__).parent.parent
CANARY = "canary-77d0e"


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    hurry(monkeypatch)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def only(check: str, setup: Setup | None = None) -> list[Finding]:
    """Run one check."""
    return list(CHECKS[check](setup or Setup()))


def the(findings: list[Finding], status: str) -> Finding:
    """Give the one finding of a status, which must advise if something is wrong."""
    (finding,) = [finding for finding in findings if finding.status == status]
    assert finding.message
    assert status == "ok" or finding.advice
    return finding


def test_all_is_well_here():
    """In an installation that passes its tests nothing fails, and every finding bears the name of its check."""
    findings = list(diagnose())
    assert [finding for finding in findings if finding.status == "fail"] == []
    assert {finding.check for finding in findings} <= set(CHECKS)
    assert all(finding.advice for finding in findings if finding.status != "ok")


def test_the_requirements_are_those_of_the_package():
    """The table of needed packages is setup.cfg's."""
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    lines = parser["options"]["install_requires"].split("\n")
    declared = dict(re.split(r"\s*(?=[><=])", line, maxsplit=1) for line in lines if line and not line.startswith("#"))
    assert {name: value.replace(" ", "") for name, value in declared.items()} == installation.NEEDED


def test_checks_that_break_are_findings(monkeypatch):
    """A check that raises is told, without the rest being lost or a URL shown."""
    monkeypatch.setitem(CHECKS, "gzip", lambda setup: 1 / 0)
    monkeypatch.setitem(CHECKS, "hub", lambda setup: (_ for _ in ()).throw(OSError(f"https://h/x?token={CANARY}")))
    findings = list(diagnose())
    broken = {finding.check: finding for finding in findings if "could not be checked" in finding.message}
    assert set(broken) == {"gzip", "hub"}
    assert CANARY not in str(findings)
    assert findings[-1].check == "certificates"


class TestInstallation:
    """Python, packages, extensions."""

    def test_packages(self, monkeypatch):
        """An old package and an absent one are told with the line to type."""
        monkeypatch.setattr(installation, "NEEDED", {"click": ">=99", "no-such-package-": ">=1", "numpy": ">=1"})
        old, absent, rest = only("packages")
        assert (old.status, old.advice) == ("fail", "run  pip install 'click>=99'")
        assert "not installed" in absent.message
        assert rest.message.startswith("numpy")

    def test_python(self, monkeypatch):
        """Too old, too narrow, or good."""
        assert the(only("python"), "ok")
        monkeypatch.setattr(installation.struct, "calcsize", lambda code: 4)
        assert "64-bit" in the(only("python"), "warn").advice
        monkeypatch.setattr(installation.sys, "version_info", (3, 9))
        assert "3.10" in the(only("python"), "fail").advice

    def test_unknown_datasets(self, monkeypatch):
        """A `datasets` that works in another way is a warning with the way around it."""
        monkeypatch.setattr(installation, "register", lambda: False)
        assert "sa1b_hf.load_dataset" in the(only("datasets"), "warn").advice

    @pytest.mark.parametrize("hidden", ["datasets.py", "pycocotools/__init__.py", "torch.py"])
    def test_hidden_packages(self, hidden, tmp_path, monkeypatch):
        """A file of the user with a package's name is found; folders of data and a clone of this package are not."""
        monkeypatch.chdir(REPOSITORY)
        assert only("imports") == []
        monkeypatch.chdir(tmp_path)
        (tmp_path / "datasets").mkdir()
        assert only("imports") == []
        place = tmp_path / hidden
        place.parent.mkdir(exist_ok=True)
        place.touch()
        assert str(place) in the(only("imports"), "warn").message

    def test_extensions(self, monkeypatch):
        """Without compiled code the check says what is slower and which compiler is needed."""
        monkeypatch.setitem(sys.modules, "sa1b_hf._rle", None)
        finding = the(only("extensions"), "warn")
        assert "_rle for masks" in finding.message
        assert "compiler" in finding.advice

    def test_inflate(self, monkeypatch):
        """The slower fallbacks are told."""
        monkeypatch.setitem(sys.modules, "zlib_ng", None)
        monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
        assert the(only("gzip"), "warn").advice == "run  pip install zlib-ng"

    def test_pycocotools(self, monkeypatch):
        """If it cannot be imported, the reason is explained."""
        assert the(only("pycocotools"), "ok")
        monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
        assert the(only("pycocotools"), "warn").advice

    @pytest.mark.parametrize(
        ("error", "advice"),
        [
            ("No module named 'pycocotools'", "not installed"),
            ("No module named 'pycocotools._mask'", "hides the package"),
            ("cannot import name '_mask' from 'pycocotools' (/x/pycocotools/__init__.py)", "hides the package"),
            (
                "numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header",
                "another NumPy",
            ),
            ("DLL load failed while importing _mask: The specified module could not be found.", "vc_redist"),
            ("dlopen(_mask.so, 0x0002): tried: (mach-o file, but is an incompatible architecture)", "arm64 Python"),
            ("error: Microsoft Visual C++ 14.0 or greater is required.", "ready-made build"),
            ("error: command 'gcc' failed: No such file or directory", "ready-made build"),
            ("pycocotools/_mask.c:6:10: fatal error: Python.h: No such file or directory", "ready-made build"),
            ("something else", "pip install"),
        ],
    )
    def test_what_errors_mean(self, error, advice):
        """The messages that pip, Python and the systems give are told apart."""
        assert advice in explain_import(ImportError(error))


class TestStorage:
    """Disk, links, shards."""

    def test_disk(self, tmp_path, monkeypatch):
        """What is missing is compared with what is free, in a folder that need not exist yet."""
        setup = Setup(folder=tmp_path / "not" / "yet", shards="0-1")
        monkeypatch.setattr(storage.shutil, "disk_usage", lambda place: Usage(int(30e9)))
        assert "22.5 GB still" in the(only("disk", setup), "ok").message
        monkeypatch.setattr(storage.shutil, "disk_usage", lambda place: Usage(int(20e9)))
        assert "--then" in the(only("disk", setup), "fail").advice
        assert only("disk") == []

    def test_cache(self, monkeypatch):
        """A cache without room for a prepared shard is a warning, one that is read-only a failure."""
        monkeypatch.setattr(storage.shutil, "disk_usage", lambda place: Usage(int(5e9)))
        assert "streaming=True" in the(only("cache"), "warn").advice
        monkeypatch.setattr(storage.os, "access", lambda place, mode: False)
        assert "HF_HOME" in the(only("cache"), "fail").advice

    @pytest.mark.parametrize(
        ("hours", "shards", "status", "message"),
        [
            (24 * 20, "0", "ok", "1 links, good until"),
            (24, "0", "warn", "1 links, good until"),
            (-1, "0", "fail", "1 of 1 links have expired"),
            (24 * 20, "0-3", "fail", "no link for sa_000001, sa_000002, sa_000003"),
            (None, "0", "fail", "expected a links file"),
        ],
    )
    def test_links(self, hours, shards, status, message, tmp_path):
        """Missing and expired links are told, and those that soon will be; never a signature."""
        links = tmp_path / "links.txt"
        if hours is not None:
            expiry = datetime.now(timezone.utc) + timedelta(hours=hours)
            links.write_text(f"sa_000000.tar\thttps://h/sa_000000.tar?oh={CANARY}&oe={int(expiry.timestamp()):x}\n")
        findings = only("links", Setup(links=links, shards=shards))
        assert message in the(findings, status).message
        assert CANARY not in str(findings)

    @pytest.mark.parametrize(("answer", "status"), [(Answer(), "ok"), (Answer(status=403), "fail")])
    def test_links_online(self, answer, status, tmp_path):
        """With --online the server is asked for one byte of the first shard."""
        with MisbehavingServer() as server:
            links = tmp_path / "links.txt"
            links.write_text(
                f"sa_000000.tar\t{server.add('/x.tar', bytes(100), then=answer)}?oh={CANARY}&oe=7fffffff\n"
            )
            findings = only("links", Setup(links=links, online=True))
            assert len(server.requests) == 1
            assert only("links", Setup(links=links))
            assert len(server.requests) == 1
        assert findings[-1].status == status
        assert CANARY not in str(findings)

    def test_shards(self, tmp_path):
        """Whole, missing, unfinished, unchecked and damaged shards are told apart."""
        mirror, folder = tmp_path / "mirror", tmp_path / "shards"
        mirror.mkdir()
        for number in range(3):
            make_shard(mirror / f"sa_{number:06d}.tar", num_images=2)
        list(download(folder, source=mirror, shards="0-2", options=DownloadOptions(checksums=None, progress=False)))
        setup = Setup(folder=folder, shards="0-4", checksums=None)
        (folder / ".sa1b" / "sa_000003.part").touch()
        with (folder / "sa_000001.tar").open("ab") as file:
            file.write(b"\0")
        findings = {finding.message.partition(":")[0]: finding for finding in only("shards", setup)}
        assert findings["whole"].message == "whole: sa_000000, sa_000002"
        assert (findings["missing"].message, findings["missing"].status) == ("missing: sa_000004", "warn")
        assert findings["unfinished"].message == "unfinished: sa_000003"
        assert findings["sa_000001"].status == "fail"
        other = tmp_path / "other"
        other.mkdir()
        (other / "sa_000000.tar").write_bytes(b"torn")
        by_length = only("shards", Setup(folder=other, shards="0"))
        assert re.search(r"expected 11,222,978,468 bytes, found 4", the(by_length, "fail").message)
        unchecked = only("shards", Setup(folder=other, checksums=None))
        assert "never checked: sa_000000" in the(unchecked, "warn").message

    def test_verify(self, tmp_path):
        """With --verify the content counts."""
        for number, faults in enumerate(([], ["missing_end"])):
            make_shard(tmp_path / f"sa_{number:06d}.tar", num_images=2, faults=faults)
        findings = only("shards", Setup(folder=tmp_path, checksums=None, verify=True))
        assert the(findings, "ok").message == "whole: sa_000000"
        assert "sa_000001" in the(findings, "fail").message

    def test_no_shards(self, tmp_path):
        """A folder without any is a warning."""
        assert "has no files" in the(only("shards", Setup(folder=tmp_path)), "warn").message
        assert "has no files" in the(only("shards", Setup(folder=tmp_path / "absent")), "warn").message


class Usage:
    """What `shutil.disk_usage` gives."""

    def __init__(self, free: int) -> None:
        self.free = free


class TestMachine:
    """Memory, GPU, Hub, certificates."""

    def test_memory(self, monkeypatch):
        """Batches that wait are counted, in memory and in what workers share."""
        setup = Setup(size=1000, max_masks=97, batch_size=10, workers=2)
        assert machine.batch_bytes(setup) == 1_000_000_000
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: Usage(6_000_000_000))
        monkeypatch.setattr(machine, "_SHARED", Path(__file__).parent)
        monkeypatch.setattr(machine, "available_memory", lambda: 10_000_000_000)
        assert "954 MiB each, 5 of them" in the(only("memory", setup), "ok").message
        monkeypatch.setattr(machine, "available_memory", lambda: 5_000_000_000)
        assert "max_masks" in the(only("memory", setup), "warn").advice
        monkeypatch.setattr(machine, "available_memory", lambda: None)
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: Usage(64 << 20))
        assert "--shm-size" in the(only("memory", setup), "warn").advice
        alone = only("memory", Setup(workers=0))
        assert [finding.status for finding in alone] == ["ok"]

    def test_available_memory(self):
        """This machine has some."""
        assert 1 << 24 < (machine.available_memory() or 0) < 1 << 50

    def test_torch_is_not_imported(self):
        """The check of the GPU takes no seconds."""
        code = (
            "import sys; from sa1b_hf.doctor import CHECKS, Setup; list(CHECKS['gpu'](Setup()));"
            "assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)

    @pytest.mark.parametrize(
        ("cuda", "cards", "status", "words"),
        [
            ("12.4", "NVIDIA X, 81559, 80000", "ok", "80,000 of 81,559 MiB free"),
            ("12.4", "NVIDIA X, 81559, 100", "warn", "float32"),
            ("None", "NVIDIA X, 81559, 80000", "warn", "without CUDA"),
            ("12.4", "", "warn", "no GPU"),
            ("None", "", "ok", "none"),
        ],
    )
    @pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
    def test_gpu(self, cuda, cards, status, words, tmp_path, monkeypatch):
        """Torch's build and what nvidia-smi lists are compared."""
        library = tmp_path / "torch"
        library.mkdir()
        (library / "__init__.py").touch()
        value = "None" if cuda == "None" else repr(cuda)
        (library / "version.py").write_text(f"__version__ = '2'\ncuda: Optional[str] = {value}\nhip = None\n")
        monkeypatch.setattr(machine, "find_spec", lambda name: Spec(str(library / "__init__.py")))
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho '{cards}'\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(machine.shutil, "which", lambda name: str(program))
        assert words in the(only("gpu"), status).message
        program.write_text("#!/bin/sh\nexit 9\n")
        assert len(only("gpu")) == 1

    def test_no_torch(self, monkeypatch):
        """Without torch there is nothing to check."""
        monkeypatch.setattr(machine, "find_spec", lambda name: None)
        assert "not installed" in the(only("gpu"), "ok").message

    def test_hub(self, monkeypatch):
        """Only whether there is a token is looked at, unless the Hub is to be asked."""
        import huggingface_hub

        monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
        assert "not logged in" in the(only("hub"), "ok").message
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: CANARY)
        finding = the(only("hub"), "ok")
        assert "a token is set" in finding.message
        monkeypatch.setattr(huggingface_hub.HfApi, "whoami", lambda self: {"name": "somebody"})
        assert "somebody" in the(only("hub", Setup(online=True)), "ok").message
        for error, status in ((HubError(401), "fail"), (OSError(CANARY), "warn")):
            monkeypatch.setattr(huggingface_hub.HfApi, "whoami", raising(error))
            found = the(only("hub", Setup(online=True)), status)
            assert CANARY not in str(found)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        assert the(only("hub"), "warn")

    def test_certificates(self, tmp_path, monkeypatch):
        """A variable that names no certificates is a failure."""
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
        assert "REQUESTS_CA_BUNDLE" in the(only("certificates"), "fail").message


class Spec:
    """As much of a module's spec as is looked at."""

    def __init__(self, origin: str) -> None:
        self.origin = origin


class HubError(Exception):
    """As `huggingface_hub` raises."""

    def __init__(self, status: int) -> None:
        super().__init__(CANARY)
        self.response = type("Response", (), {"status_code": status})


def raising(error: Exception):
    def function(*args: object):
        raise error

    return function


def test_the_command(tmp_path):
    """Findings as lines and as JSON; the status tells whether something failed."""
    (tmp_path / "sa_000000.tar").write_bytes(b"torn")  # a shard whose length is in the catalogue
    result = run("doctor", tmp_path, "--shards", "0", "--max-masks", "0", "--workers", "0")
    assert result.exit_code == 1
    assert re.search(r"^FAIL  shards +sa_000000: expected .*\n +run  sa1b verify", result.stdout, flags=re.MULTILINE)
    result = run("doctor", "--workers", "0", "--format", "json")
    assert result.exit_code == 0
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"check", "status", "message", "advice"} == set(findings[0])
    assert run("doctor", "-q").output == ""
    assert run("doctor", "--shards", "9-1").exit_code == 2


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"max_masks": 0}, {"batch_size": 0}, {"workers": -1}, {"subset": "2pct"}]
)
def test_setups_that_make_no_sense(options):
    """Options are checked when they are made."""
    with pytest.raises(ConfigError, match="expected"):
        Setup(**options)


def test_env_keeps_secrets(tmp_path, monkeypatch):
    """Versions and paths are there; tokens, passwords and signatures are not, in any variable."""
    secrets = {
        "HF_TOKEN": CANARY,
        "HUGGINGFACE_API_KEY": CANARY,
        "HF_ENDPOINT": f"https://user:{CANARY}@hub.example.org/?sig={CANARY}",
        "https_proxy": f"http://user:{CANARY}@proxy.example.org:3128",
        "HTTP_PROXY": f"user:{CANARY}@proxy.example.org:3128",
        "SA1B_HF_SHARDS": f"https://mirror.example.org/{{file}}?oh={CANARY}",
        "AWS_SECRET_ACCESS_KEY": CANARY,
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for style in ("human", "json"):
        result = run("env", "--format", style)
        assert result.exit_code == 0
        assert CANARY not in result.output
        assert "proxy.example.org" in result.stdout
        assert "hub.example.org" in result.stdout
        assert str(tmp_path) in result.stdout
    found = environment()
    assert found["HF_TOKEN"] == "(set)"
    assert "AWS_SECRET_ACCESS_KEY" not in found
    assert {"sa1b_hf", "Python", "datasets", "pycocotools", "extensions"} <= set(found)
    assert run("env", "-q").output == ""
