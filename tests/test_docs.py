"""Documentation is true: every Python block of it runs, every command of it exists."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from sa1b_hf.sa1b import SA1BConfig
from sa1b_hf.testing import FAULTS, make_shard

REPOSITORY = Path(__file__).parent.parent
PAGES = sorted([REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")])


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def reader_of_the_docs(tmp_path, monkeypatch, hub):
    """A folder with what the documentation talks about: ten shards, a links file that leads to a server, and a Hub."""
    from support.misbehaving_server import MisbehavingServer

    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    with MisbehavingServer() as server:
        links = ["file_name\tcdn_link"]
        for number in range(10):
            name = f"sa_{number:06d}.tar"
            make_shard(tmp_path / "shards" / name, first_id=1 + 100 * number, num_images=3)
            links.append(f"{name}\t{server.add('/' + name, tmp_path / 'shards' / name)}?oh=secret&oe=7fffffff")
        (tmp_path / "segment_anything_links.txt").write_text("\n".join(links))
        yield tmp_path


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's own HTTP client
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, reader_of_the_docs):
    """The blocks of a page run one after the other, as a reader would type them."""
    blocks = _blocks(page, "python")
    assert blocks or page.name != "README.md"
    namespace: dict = {}
    for number, block in enumerate(blocks):
        if "torch" in block and find_spec("torch") is None:
            continue  # an extra; continuous integration has it
        exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_blocks_name_what_exists(page):
    """Each `make` target that a page names is one of the Makefile."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    used = set(re.findall(r"\bmake ([a-z0-9-]+)", "\n".join(_blocks(page, "sh"))))
    assert used <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_docs_are_understood(page):
    """Each `sa1b` line of a page names a command and options that the command line has."""
    from click.testing import CliRunner

    from sa1b_hf.cli import main

    for line in "\n".join(_blocks(page, "sh")).splitlines():
        if line.startswith("sa1b "):
            command, *arguments = line.partition("#")[0].split()[1:]
            text = CliRunner().invoke(main, [command, "--help"]).output
            assert "Usage:" in text
            assert [word for word in arguments if word.startswith("--") and word not in text] == []


def test_every_option_is_in_the_readme():
    """The table of options names each option of the builder."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    own = set(SA1BConfig.__dataclass_fields__) - {"name", "version", "data_dir", "data_files", "description"}
    minor = {"engine", "batch_rows", "source_options"}  # for benchmarks, and the last one internal
    assert {option for option in own - minor if f"`{option}" not in text and f"{option}=" not in text} == set()


def test_number_of_faults():
    """The README's number of kinds of damage is not too high."""
    claimed = int(re.search(r"any of (\d+) kinds", (REPOSITORY / "README.md").read_text(encoding="utf-8"))[1])
    assert len(FAULTS) >= claimed


def test_changelog_has_the_version():
    """The version in the package has a section in the changelog."""
    from sa1b_hf import __version__

    assert f"## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_reason_is_documented():
    """The page of reasons has each reason that an injectable fault can give."""
    page = (REPOSITORY / "docs" / "reasons.md").read_text(encoding="utf-8")
    reasons = {reason for fault in FAULTS.values() for reason in fault.reasons}
    assert {reason for reason in reasons if f"`{reason}`" not in page} == set()
