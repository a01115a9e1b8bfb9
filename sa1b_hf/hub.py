"""Subsets to the Hub and back: pushes that are private, go on where they ended, and never show a card that is not true.

Files are put into a folder of the repository that is named after their content. A push adds to it in commits of a
limited size; the last commit brings the card that points to it, and removes the folder of an earlier push. Until then
the repository is what it was.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from datasets.utils import are_progress_bars_disabled, tqdm
from huggingface_hub import HfApi

from ._card_figures import draw_figures
from ._card_statistics import FIGURES, Statistics
from ._disk import make_folder
from ._hub_parts import PART_BYTES, DataPart
from ._hub_repository import HubRepository, LocalFile
from ._hub_sources import PushSource, open_source
from ._hub_trouble import masked_logs, same_bars
from ._rehydrate import rehydrate
from .card import FIGURE_FOLDER, LICENSE_NOTICE, MARK, CardFacts, build_card
from .errors import ConfigError

__all__ = ["PushResult", "push", "rehydrate"]

_log = logging.getLogger("sa1b_hf")

_CARD: Final = "README.md"
_ATTRIBUTES: Final = ".gitattributes"
_LARGE: Final = "*.parquet filter=lfs diff=lfs merge=lfs -text\n"
_PROVENANCE: Final = frozenset({"filters", "report", "transforms"})
_COMMIT_FILES: Final = 50
_COMMIT_BYTES: Final = 5 << 30
# Only what a push of this package put there is ever removed.
_FIGURES: Final = "|".join(figure.name for figure in FIGURES)
_OWN: Final = re.compile(rf"data/[0-9a-f]{{12}}/\w+/[^/]+\.parquet|{FIGURE_FOLDER}/(?:{_FIGURES})\.png")
_REPO_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class PushResult:
    """What a push did, or with ``dry_run`` would do.

    Attributes
    ----------
    repo_id
        ``"user/name"``.
    is_private
        Whether only its owner can read the repository.
    rows
        By split.
    num_files, num_bytes
        All Parquet files.
    uploaded, uploaded_bytes
        Files of them that were not there before.
    removed
        Files of earlier pushes that were removed.
    dropped_columns
        Columns that stayed here, since they hold or could hold pixels.
    has_images
        Whether pixels were pushed.
    is_dry_run
        Whether nothing was sent.

    """

    repo_id: str
    is_private: bool
    rows: Mapping[str, int]
    num_files: int
    num_bytes: int
    uploaded: int
    uploaded_bytes: int
    removed: int
    dropped_columns: tuple[str, ...] = ()
    has_images: bool = False
    is_dry_run: bool = False

    def __str__(self) -> str:
        rows = ", ".join(f"{split} {count:,}" for split, count in self.rows.items())
        verb = "would be uploaded" if self.is_dry_run else "uploaded"
        readers = "private" if self.is_private else "PUBLIC"
        parts = [
            f"{self.repo_id}: {readers}, {'with' if self.has_images else 'without'} images, rows: {rows}",
            f"{self.uploaded:,} of {self.num_files:,} files {verb} ({self.uploaded_bytes / 1e6:,.1f} MB)",
        ]
        if self.removed:
            parts.append(f"{self.removed:,} old files {'would be ' if self.is_dry_run else ''}removed")
        if self.dropped_columns:
            parts.append(f"columns that stayed here: {', '.join(self.dropped_columns)}")
        return "; ".join(parts)


def push(
    source: Any,
    repo_id: str,
    *,
    include_images: bool = False,
    public: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
    provenance: Mapping[str, Any] | None = None,
    allow_reencoded: bool = False,
    replace_card: bool = False,
    part_bytes: int = PART_BYTES,
    work_dir: str | Path | None = None,
    endpoint: str | None = None,
    dry_run: bool = False,
) -> PushResult:
    """Push a subset to a dataset repository: annotations only and private, unless told otherwise.

    Interrupted, the same call goes on: files are written the same again, those that are there are not sent again.

    Parameters
    ----------
    source
        A folder that `sa1b_hf.convert.convert` wrote, a `Dataset`, an `IterableDataset`, or a dictionary of these by
        split.
    repo_id
        ``"user/name"``; made if it is not there.
    include_images
        Push pixels too. Without it, every column is left out that holds or could hold pixels: images, bytes, arrays,
        lists of uint8. Where they are, the result tells.
    public
        Push although everybody can read it. A new repository is made public then; one that is there stays as it is.
    revision
        Branch; made if it is not there.
    token
        As `huggingface_hub` takes it; by default that of ``hf auth login`` or ``HF_TOKEN``.
    provenance
        For the card: ``filters`` and ``transforms`` beside those that are known, and ``report``, see
        `sa1b_hf.card.CardFacts`.
    allow_reencoded
        Accept images of a stream that were decoded and encoded anew on their way.
    replace_card
        Replace a card that no push wrote.
    part_bytes
        About how long a Parquet file gets; those of a folder stay as they are.
    work_dir
        Folder for the Parquet files of a dataset until they are sent; the system's temporary one by default.
    endpoint
        Of another Hub.
    dry_run
        Write the files and compare them with the repository, and send nothing.

    Returns
    -------
    PushResult

    Raises
    ------
    ConfigError
        The repository is public and `public` is not given; its card is somebody's own; the source cannot be pushed.
    SourceError
        The Hub refuses, or cannot be reached for long; the disk is full.

    Notes
    -----
    The licence of SA-1B does not allow to pass on its images, as far as is known: `include_images` together with
    `public` is for those who know better, and warns.

    """
    api = HfApi(endpoint=endpoint, token=token)
    del token  # so that no traceback with variables shows it
    if not _REPO_ID.fullmatch(repo_id):
        raise ConfigError(f"repo_id: expected 'user/name', found {repo_id!r}")
    if unknown := sorted(set(provenance or {}) - _PROVENANCE):
        raise ConfigError(f"provenance: expected keys of {sorted(_PROVENANCE)}, found also {unknown}")
    rows = open_source(source, include_images=include_images, allow_reencoded=allow_reencoded, part_bytes=part_bytes)
    if include_images and public:
        _log.warning("%s: images are about to be public. %s", repo_id, LICENSE_NOTICE)
    repository = HubRepository(api, repo_id, revision=revision, public=public)
    if work_dir is not None:
        make_folder(Path(work_dir))
    with masked_logs(), same_bars(), tempfile.TemporaryDirectory(prefix="sa1b_hf-push-", dir=work_dir) as folder:
        _check_card(repository, replace_card=replace_card)
        plan = _stage(rows, Path(folder), repo_id, include_images, provenance or {})
        return _preview(plan, repository) if dry_run else _send(plan, repository)


@dataclass(frozen=True)
class _Plan:
    """What the repository is to hold in the end."""

    repo_id: str
    files: Sequence[LocalFile]
    texts: Sequence[LocalFile] = field(repr=False)
    statistics: Statistics = field(repr=False)
    dropped: tuple[str, ...]
    has_images: bool

    def stale(self, there: Mapping[str, Any]) -> list[str]:
        """List what earlier pushes left."""
        wanted = {file.path for file in (*self.files, *self.texts)}
        return sorted(path for path in there if _OWN.fullmatch(path) and path not in wanted)

    def result(
        self, repository: HubRepository, uploaded: Sequence[LocalFile], removed: int, *, is_dry_run: bool
    ) -> PushResult:
        """Sum up."""
        data = {file.path for file in self.files}
        sent = [file for file in uploaded if file.path in data]
        return PushResult(
            self.repo_id,
            is_private=repository.is_private,
            rows=dict(self.statistics.rows),
            num_files=len(self.files),
            num_bytes=sum(file.size for file in self.files),
            uploaded=len(sent),
            uploaded_bytes=sum(file.size for file in sent),
            removed=removed,
            dropped_columns=self.dropped,
            has_images=self.has_images,
            is_dry_run=is_dry_run,
        )


def _check_card(repository: HubRepository, *, replace_card: bool) -> None:
    """Make sure, before anything is written, that those who can read the repository may, and that its card is ours."""
    head = repository.head()
    if head is None or replace_card or _CARD not in repository.files(head):
        return
    if MARK not in repository.read(_CARD, head).decode("utf-8", "replace"):
        raise ConfigError(
            f"{_CARD}: expected none, or one of an earlier push, found somebody's own; push to another repository, "
            "or replace the card with replace_card=True (--replace-card)"
        )


def _stage(rows: PushSource, folder: Path, repo_id: str, include_images: bool, given: Mapping[str, Any]) -> _Plan:
    statistics = Statistics()
    parts = list(rows.stage(folder, statistics))
    if not parts:
        raise ConfigError(f"{repo_id}: expected rows to push, found none")
    data_folder = f"data/{_name(parts)}"
    files = [LocalFile(f"{data_folder}/{part.split}/{part.name}", part.file, part.sha256, part.size) for part in parts]
    facts = CardFacts(
        repo_id,
        rows.features,
        statistics,
        data_folder,
        download_size=sum(part.size for part in parts),
        provenance=_merge(rows.provenance(), given),
        has_images=include_images,
        dropped_columns=rows.dropped,
    )
    figures = draw_figures(statistics)
    texts = [LocalFile.of_bytes(f"{FIGURE_FOLDER}/{name}", data) for name, data in figures.items()]
    texts.append(LocalFile.of_bytes(_CARD, str(build_card(facts)).encode()))
    return _Plan(repo_id, files, texts, statistics, rows.dropped, include_images)


def _merge(known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    filters = {**(known.get("filters") or {}), **(given.get("filters") or {})}
    transforms = [*(known.get("transforms") or ()), *(given.get("transforms") or ())]
    return {**known, **given, "filters": filters, "transforms": transforms}


def _name(parts: Sequence[DataPart]) -> str:
    """Name the folder of some parts after their content: other content never gets between what a card points to."""
    lines = "".join(f"{part.split}/{part.name} {part.sha256}\n" for part in parts)
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def _preview(plan: _Plan, repository: HubRepository) -> PushResult:
    head = repository.head()
    there = repository.files(head) if head else {}
    missing = [file for file in plan.files if not file.is_same(there.get(file.path))]
    return plan.result(repository, missing, len(plan.stale(there)), is_dry_run=True)


def _send(plan: _Plan, repository: HubRepository) -> PushResult:
    if attributes := _attributes(repository):
        repository.commit("Parquet files are large files", attributes)  # before any, or they would not be
    disabled = are_progress_bars_disabled()
    with tqdm(total=len(plan.files), desc=plan.repo_id, unit="files", disable=disabled) as bar:
        for number, batch in enumerate(_batches(plan.files)):
            repository.commit(f"Data, part {number + 1}", batch)
            bar.update(len(batch))
    repository.forget()  # what the card will promise is looked up, not believed
    repository.commit("Card", [*plan.files, *plan.texts], plan.stale)
    return plan.result(repository, repository.uploaded, len(repository.removed), is_dry_run=False)


def _attributes(repository: HubRepository) -> list[LocalFile]:
    """Make sure that Parquet files are large files to git, as in every repository that the Hub makes."""
    head = repository.open()
    found = repository.read(_ATTRIBUTES, head) if _ATTRIBUTES in repository.files(head) else b""
    if re.search(rb"^\*\.parquet\s.*filter=lfs", found, flags=re.MULTILINE):
        return []
    return [LocalFile.of_bytes(_ATTRIBUTES, found.rstrip(b"\n") + b"\n" * bool(found) + _LARGE.encode())]


def _batches(files: Sequence[LocalFile]) -> list[list[LocalFile]]:
    batches: list[list[LocalFile]] = []
    size = 0
    for file in files:
        if not batches or len(batches[-1]) >= _COMMIT_FILES or size + file.size > _COMMIT_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(file)
        size += file.size
    return batches
